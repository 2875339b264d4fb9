"""The plainest reading of `ProjectionStore`: dictionaries, for unit tests and for reading.

A batch stages what it changes, read models included, and applies it when its block ends well. What handlers change
elsewhere in memory is not undone when a batch fails: that takes a database.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from mainstay.clock import Clock, SystemClock
from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError, InvalidOperationError, StaleLeaseError, SubscriptionNotFoundError
from mainstay.projections.checks import (
    checked_shards,
    checked_subscription,
    checked_version,
    other_shards,
    rebuild_name,
)
from mainstay.projections.memory_tables import MemoryTables
from mainstay.projections.memory_transaction import MemoryTransaction
from mainstay.projections.read_model_memory import MemoryReadModelStore
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ShardState,
    ShardStatus,
)

_Letters = dict[int, DeadLetter]


@dataclass(slots=True, eq=False)
class _Shard:
    subscription: str
    number: int
    shards: int
    checkpoint: Checkpoint
    status: ShardStatus = ShardStatus.ACTIVE
    owner: str | None = None
    token: int = 0
    leased_until: datetime | None = None
    moved_at: datetime | None = None
    reason: str | None = None
    actor: str | None = None
    letters: _Letters = field(default_factory=dict)
    version: int = 1
    generation: int = 1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryBatch:
    """See `mainstay.projections.store.Batch`."""

    def __init__(self, shard: _Shard, now: datetime, transaction: MemoryTransaction | None = None) -> None:
        """Stage changes of a shard."""
        self._shard = shard
        self._now = now
        self._checkpoint = shard.checkpoint
        self.transaction = transaction or MemoryTransaction()
        self.letters = dict(shard.letters)

    @property
    def conn(self) -> Any:
        """The transaction; read models in memory take it."""
        return self.transaction

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the shard stands."""
        return self._checkpoint

    async def advance(self, checkpoint: Checkpoint) -> None:
        """Move the checkpoint."""
        self._checkpoint = checkpoint

    async def blocked(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys have dead letters that wait."""
        wanted = set(keys)
        return {each.key for each in self.letters.values() if _waits(each) and each.key in wanted}

    async def lay_down(self, letters: Sequence[DeadLetter]) -> None:
        """Lay events apart."""
        for letter in letters:
            known = self.letters.get(letter.position)
            if known is None or not _waits(known):
                self.letters[letter.position] = replace(letter, created_at=self._now)

    async def settle(
        self, positions: Sequence[int], status: DeadLetterStatus, *, actor: str, reason: str | None
    ) -> int:
        """Say what became of dead letters; gives how many of them waited."""
        found = [letter for each in positions if (letter := self.letters.get(each)) is not None and _waits(letter)]
        for letter in found:
            self.letters[letter.position] = replace(letter, status=status, actor=actor, reason=reason)
        return len(found)

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed."""
        letter = self.letters[position]
        self.letters[position] = replace(letter, attempts=letter.attempts + 1, error=error, error_type=error_type)


class MemoryRebuilding:
    """See `mainstay.projections.store.Rebuilding`.

    Args:
        shards: Of all subscriptions; changed when the block ends well.
        read_models: Whose tables are rebuilt.
        subscription: Its name.
        now: By the store's clock.
    """

    def __init__(
        self, shards: dict[str, list[_Shard]], read_models: MemoryReadModelStore, subscription: str, now: datetime
    ) -> None:
        self._all = shards
        self._name, self._rebuild = subscription, rebuild_name(subscription)
        self._now = now
        self._batches: dict[int, MemoryBatch] = {}
        self._changes: list[Callable[[], None]] = []
        self.conn = MemoryTransaction()
        self.tables = MemoryTables(read_models, self.conn)
        self.serving = [_state(each) for each in shards[subscription]]
        self.rebuilt = [_state(each) for each in shards.get(self._rebuild, ())]

    async def begin(
        self,
        *,
        shards: int,
        version: int,
        start: Checkpoint,
        actor: str,  # noqa: ARG002 - there is no trail
    ) -> None:
        """Make a rebuild known."""
        checked_shards(shards)
        checked_version(version)
        made = [_Shard(self._rebuild, each, shards, start, version=version) for each in range(shards)]
        self._changes.append(lambda: self._all.update({self._rebuild: made}))

    def batch(self, shard: int) -> MemoryBatch:
        """One of the rebuild's shards."""
        batch = self._batches.get(shard) or MemoryBatch(self._all[self._rebuild][shard], self._now, self.conn)
        self._batches[shard] = batch
        return batch

    async def swap(self, *, actor: str) -> int:
        """Let the rebuild's shards be the subscription's."""
        old, new = self._all[self._name], self._all[self._rebuild]
        token = max(each.token for each in (*old, *new)) + 1
        paused = next((each for each in old if each.status is ShardStatus.PAUSED), None)
        made = [
            _Shard(
                self._name,
                each.number,
                each.shards,
                self._moved(each).checkpoint,
                ShardStatus.ACTIVE if paused is None else ShardStatus.PAUSED,
                token=token,
                moved_at=self._now,
                reason=None if paused is None else paused.reason,
                actor=actor if paused is None else paused.actor,
                letters={p: replace(k, subscription=self._name) for p, k in self._moved(each).letters.items()},
                version=each.version,
                generation=old[0].generation + 1,
            )
            for each in new
        ]
        taken = {position for each in made for position in each.letters}
        left = {p: letter for each in old for p, letter in each.letters.items() if p not in taken}
        reason = "rebuilt, without side effects"
        for position, letter in left.items():
            made[0].letters[position] = (
                replace(letter, status=DeadLetterStatus.HANDLED, actor=actor, reason=reason)
                if _waits(letter)
                else letter
            )
        self._changes.append(lambda: self._all.update({self._name: made}))
        self._changes.append(self._forget)
        return sum(map(_waits, left.values()))

    async def cancel(self) -> None:
        """Forget the rebuild."""
        self._changes.append(self._forget)

    def apply(self) -> None:
        """Do what was wanted."""
        self.conn.commit()
        for shard, batch in self._batches.items():
            self._all[self._rebuild][shard].checkpoint = batch.checkpoint
            self._all[self._rebuild][shard].letters = batch.letters
        for change in self._changes:
            change()

    def _forget(self) -> None:
        self._all.pop(self._rebuild, None)

    def _moved(self, shard: _Shard) -> "MemoryBatch":
        return self._batches.get(shard.number) or MemoryBatch(shard, self._now)


class MemoryProjectionStore:
    """Subscriptions of one process.

    Args:
        clock: Tells when leases end.
        commands: Where the commands are that reactions send.
    """

    def __init__(self, clock: Clock | None = None, *, commands: CommandStore | None = None) -> None:
        """Nothing is known."""
        self._clock = clock or SystemClock()
        self._shards: dict[str, list[_Shard]] = {}
        self._wanted: dict[str, frozenset[str] | None] = {}
        self._read_models = MemoryReadModelStore()
        self._commands = commands

    @property
    def commands(self) -> CommandStore:
        """Commands in memory.

        Raises:
            ConfigurationError: None were given.
        """
        if self._commands is None:
            raise ConfigurationError(
                "there are no commands that a reaction could send: give subscriptions in memory some, "
                "SubscriptionManager(store, MemoryProjectionStore(commands=MemoryCommandStore()))"
            )
        return self._commands

    def command_transaction(self, conn: Any) -> AbstractAsyncContextManager[Any]:
        """One of the commands' own, which ends before the checkpoint moves, in the next step that nothing prevents."""
        del conn
        return self.commands.transaction()

    @property
    def read_models(self) -> MemoryReadModelStore:
        """Read models, which take a batch's transaction."""
        return self._read_models

    async def register(
        self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None, version: int = 1
    ) -> None:
        """See `mainstay.projections.store.ProjectionStore`."""
        checked_subscription(subscription)
        checked_shards(shards)
        checked_version(version)
        known = self._shards.get(subscription)
        if known is None:
            begin = start or Checkpoint()
            made = [_Shard(subscription, each, shards, begin, version=version) for each in range(shards)]
            self._shards[subscription] = made
        elif known[0].version == version and len(known) != shards:
            raise InvalidOperationError(other_shards(subscription, len(known), shards))

    async def wanted(self, subscription: str) -> frozenset[str] | None:
        """See `mainstay.projections.store.ProjectionStore`."""
        return self._wanted.get(subscription)

    async def want(self, subscription: str, types: frozenset[str] | None) -> None:
        """See `mainstay.projections.store.ProjectionStore`."""
        if subscription in self._shards:
            self._wanted[subscription] = types

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int, version: int = 1) -> list[Claim]:
        """See `mainstay.projections.store.ProjectionStore`."""
        now = self._clock.now()
        checked_version(version)
        until = now + timedelta(seconds=seconds)
        ours, claims = 0, []
        for shard in self._of(subscription):
            if shard.owner == owner and _live(shard, now):
                ours += 1
        for shard in self._of(subscription):
            if ours >= most:
                break
            if (
                shard.version != version
                or shard.status is not ShardStatus.ACTIVE
                or _live(shard, now)
                or shard.lock.locked()
            ):
                continue
            shard.owner, shard.leased_until, shard.token = owner, until, shard.token + 1
            claims.append(
                Claim(subscription, shard.number, shard.shards, shard.token, owner, shard.checkpoint, _waiting(shard))
            )
            ours += 1
        return claims

    async def renew(self, claims: Sequence[Claim], *, seconds: float) -> set[int]:
        """See `mainstay.projections.store.ProjectionStore`."""
        until = self._clock.now() + timedelta(seconds=seconds)
        kept = set()
        for claim in claims:
            shard = self._held(claim)
            if shard is not None:
                shard.leased_until = until
                kept.add(claim.shard)
        return kept

    async def release(self, claims: Sequence[Claim]) -> None:
        """See `mainstay.projections.store.ProjectionStore`."""
        for claim in claims:
            shard = self._held(claim)
            if shard is not None:
                _let_go(shard)

    @asynccontextmanager
    async def batch(self, claim: Claim) -> AsyncIterator[MemoryBatch]:
        """See `mainstay.projections.store.ProjectionStore`."""
        shard = self._ours(claim)
        async with shard.lock:
            self._ours(claim)
            batch = MemoryBatch(shard, self._clock.now())
            yield batch
            self._ours(claim)
            batch.transaction.commit()
            if batch.checkpoint != shard.checkpoint:
                shard.moved_at = self._clock.now()
            shard.checkpoint, shard.letters = batch.checkpoint, batch.letters

    @asynccontextmanager
    async def borrowed(self, subscription: str, shard: int) -> AsyncIterator[MemoryBatch]:
        """See `mainstay.projections.store.ProjectionStore`."""
        for found in self._known(subscription):
            if found.number == shard:
                break
        else:
            raise SubscriptionNotFoundError(subscription)
        async with found.lock:
            batch = MemoryBatch(found, self._clock.now())
            yield batch
            batch.transaction.commit()
            found.letters = batch.letters

    @asynccontextmanager
    async def rebuilding(self, subscription: str) -> AsyncIterator[MemoryRebuilding]:
        """See `mainstay.projections.store.ProjectionStore`."""
        rebuild = rebuild_name(subscription)
        while True:
            shards = [*self._known(subscription), *self._of(rebuild)]
            async with AsyncExitStack() as locks:
                for shard in shards:
                    await locks.enter_async_context(shard.lock)
                if shards != [*self._known(subscription), *self._of(rebuild)]:
                    continue  # whom we waited for has changed them
                held = MemoryRebuilding(self._shards, self._read_models, subscription, self._clock.now())
                yield held
                held.apply()
                return

    def tables(self, conn: Any) -> MemoryTables:
        """See `mainstay.projections.store.ProjectionStore`."""
        return MemoryTables(self._read_models, conn)

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """See `mainstay.projections.store.ProjectionStore`."""
        shard = self._ours(claim)
        shard.status, shard.reason, shard.actor = ShardStatus.STOPPED, reason, None
        _let_go(shard)

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """See `mainstay.projections.store.ProjectionStore`."""
        active = [each for each in self._known(subscription) if each.status is ShardStatus.ACTIVE]
        for shard in active:
            async with shard.lock:
                shard.status, shard.reason, shard.actor = ShardStatus.PAUSED, reason, actor
                _let_go(shard)
        return len(active)

    async def resume(self, subscription: str, *, actor: str) -> int:
        """See `mainstay.projections.store.ProjectionStore`."""
        idle = [each for each in self._known(subscription) if each.status is not ShardStatus.ACTIVE]
        for shard in idle:
            shard.status, shard.reason, shard.actor = ShardStatus.ACTIVE, None, actor
        return len(idle)

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """See `mainstay.projections.store.ProjectionStore`; there is no transaction to join."""
        del conn
        for shard in self._known(subscription):
            async with shard.lock:
                _let_go(shard)
                shard.token += 1
                shard.checkpoint, shard.moved_at, shard.actor = checkpoint, self._clock.now(), actor
                for position, letter in shard.letters.items():
                    if _waits(letter) and position > checkpoint.position:
                        shard.letters[position] = replace(letter, status=DeadLetterStatus.DISCARDED, actor=actor)

    async def forget(self, subscription: str, *, conn: Any = None) -> None:
        """See `mainstay.projections.store.ProjectionStore`; there is no transaction to join."""
        del conn
        for shard in self._of(subscription):
            async with shard.lock:
                _let_go(shard)
        self._shards.pop(subscription, None)
        self._wanted.pop(subscription, None)

    async def states(self, subscription: str | None = None) -> list[ShardState]:
        """See `mainstay.projections.store.ProjectionStore`."""
        names = sorted(self._shards) if subscription is None else [subscription]
        return [_state(shard) for name in names for shard in self._of(name)]

    async def dead_letters(
        self,
        subscription: str,
        *,
        key: str | None = None,
        status: DeadLetterStatus | None = DeadLetterStatus.WAITING,
        after: int = 0,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """See `mainstay.projections.store.ProjectionStore`."""
        found = [
            letter
            for shard in self._of(subscription)
            for letter in shard.letters.values()
            if letter.position > after and key in (None, letter.key) and status in (None, letter.status)
        ]
        return sorted(found, key=lambda letter: letter.position)[:limit]

    def _of(self, subscription: str) -> list[_Shard]:
        return self._shards.get(subscription, [])

    def _known(self, subscription: str) -> list[_Shard]:
        found = self._of(subscription)
        if not found:
            raise SubscriptionNotFoundError(subscription)
        return found

    def _held(self, claim: Claim) -> _Shard | None:
        for shard in self._of(claim.subscription):
            if shard.number == claim.shard and shard.token == claim.token and shard.owner == claim.owner:
                return shard
        return None

    def _ours(self, claim: Claim) -> _Shard:
        shard = self._held(claim)
        if shard is None:
            message = f"shard {claim.shard} of subscription {claim.subscription!r} is not ours any more"
            raise StaleLeaseError(message)
        return shard


def _live(shard: _Shard, now: datetime) -> bool:
    return shard.owner is not None and shard.leased_until is not None and shard.leased_until > now


def _let_go(shard: _Shard) -> None:
    shard.owner = shard.leased_until = None


def _waits(letter: DeadLetter) -> bool:
    return letter.status is DeadLetterStatus.WAITING


def _waiting(shard: _Shard) -> int:
    return sum(map(_waits, shard.letters.values()))


def _state(shard: _Shard) -> ShardState:
    return ShardState(
        shard.subscription,
        shard.number,
        shard.shards,
        shard.status,
        shard.checkpoint,
        shard.owner,
        shard.leased_until,
        shard.moved_at,
        shard.reason,
        shard.actor,
        _waiting(shard),
        shard.version,
        shard.generation,
    )
