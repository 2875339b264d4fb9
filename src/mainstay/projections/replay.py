"""Dead letters, handled again: each in a transaction of its own with its settlement, in order, key by key.

The shard is borrowed for each event, between two batches of whoever owns it. As long as a letter of a key waits, the
owner lays new events of that key behind it; so a replay that reaches the last letter has reached the present, and the
next event of the key is handled where it belongs.
"""

from collections import defaultdict
from dataclasses import dataclass

from mainstay.errors import InvalidOperationError, StorageUnavailableError, told
from mainstay.events.reading import EventReader
from mainstay.projections.projection import Projection, following, tell_committed
from mainstay.projections.store import DeadLetter, DeadLetterStatus, ProjectionStore

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay.

    Attributes:
        handled: Events that are done now.
        failed: Keys whose first event failed again, with the error.
    """

    handled: int
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay.

    Attributes:
        source: Where events come from.
        store: Where the letters are.
        projection: Takes the events.
        actor: Who wants it.
        reason: What has changed.
    """

    source: EventReader
    store: ProjectionStore
    projection: Projection
    actor: str
    reason: str | None

    async def run(self, key: str | None) -> Replayed:
        """Handle what lies apart, of one key or of all.

        Raises:
            StorageError: The storage is away; what was handled stays handled.
        """
        handled = 0
        failed: dict[str, str] = {}
        before = -1
        while handled > before:  # again for what was laid down meanwhile
            before = handled
            for one, letters in (await self._waiting(key)).items():
                if one not in failed:
                    handled += await self._key_again(one, letters, failed)
        return Replayed(handled, failed)

    async def _waiting(self, key: str | None) -> dict[str, list[DeadLetter]]:
        found: defaultdict[str, list[DeadLetter]] = defaultdict(list)
        after = 0
        while page := await self.store.dead_letters(self.projection.name, key=key, after=after, limit=_PAGE):
            for letter in page:
                found[letter.key].append(letter)
            after = page[-1].position
        return found

    async def _key_again(self, key: str, letters: list[DeadLetter], failed: dict[str, str]) -> int:
        handled = 0
        for letter in letters:
            try:
                handled += await self._handled(letter)
            except StorageUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - handlers are the user's
                failed[key] = f"{type(error).__name__}: {told(error)}"
                async with self.store.borrowed(letter.subscription, letter.shard) as batch:
                    await batch.tried(letter.position, error=told(error), error_type=type(error).__name__)
                break
        return handled

    async def _handled(self, letter: DeadLetter) -> bool:
        """Handle a letter that still waits; another replay may have done it."""
        recorded = await self.source.log.event_at(letter.position)
        if recorded is None or recorded.event.event_id != letter.event_id:
            message = f"the log has no event {letter.event_id} at {letter.position} any more: discard the letter"
            raise InvalidOperationError(message)
        done = DeadLetterStatus.HANDLED
        async with self.store.borrowed(letter.subscription, letter.shard) as batch:
            if not await batch.settle([letter.position], done, actor=self.actor, reason=self.reason):
                return False
            async with self.projection.batch(batch.conn, [recorded]) as conn:
                for envelope in self.projection.enveloped(self.source, recorded):
                    with following(envelope.event):
                        await self.projection.handle(envelope, conn)
        await tell_committed(self.projection, conn)
        return True
