"""Group commit: the commands of pure deciders, decided on in memory and committed many at a time.

A transaction for each command costs round trips and a flush for each. Deciders have no effects, so here the commands
that a worker's slots have in hand at the same time go together: their streams are loaded by one question, they are
decided on in memory, those of one stream one after the other, each seeing what follows from those before it; one
statement commits what is still current, and says of the rest why not.

States of one command. *Waiting*: it came while a group was made. *Decided*: its outcome is known, if its stream is
still what it was loaded as. *Written*: events, next commands, reply, audit and completion are committed, all at once.

No timer. Whoever comes alone is a group alone, at once. While one group commits the next is loaded and decided, from
what has come meanwhile: half of what is in hand at most, so that the two halves take turns.

One stream, two groups. The second group decides on what the first one left in memory, not yet committed. It is
committed after the first, and where the first could not write something of a decider, all that the second has of it
is taken out. So no decision rests on what did not come true, and a hot stream has its part in every group.

Others. States are kept in memory, so that most commands cost no question. When another worker proves to have appended,
all states are brought up to date before they are used, for `WARY` seconds; and a stream whose command was overtaken
twice is decided on apart: in a transaction that holds it from the beginning, so that nobody is quicker. What is
prepared while another group commits would come too late each time, and keep its slots from others.

Fairness. A stream takes half of a group at most, as long as others wait; then what is left. Who could not be written
comes before those who came later. A stream that somebody else holds rests for a short while, drawn, with all its
commands; its neighbours go on.

How it fails. A command whose stream has moved, or is held, is decided on again, in the same attempt; after `TRIES` it
is given back, which counts no attempt either. A refusal is one command's outcome, and nobody else's. After any other
error the decider is thrown away: the error is that command's outcome, the rest of its stream is decided on in the next
group. If the database refuses a group, it is halved until the culprit stands alone: that one is handled in a
transaction of its own, like any handler on an aggregate, and ends as such a handler ends. If the connection breaks, the
same group is written again until it is known: leases tell what was committed before. A crash before the COMMIT leaves
nothing, one after it commands that are completed.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from uuid import UUID

from mainstay.commands.aggregates import FIRST_PAUSE, TRIES, WARY
from mainstay.commands.deciders import Decided, Decider, Deciders, Fate
from mainstay.commands.grouped import Alone, End, Group, Item, Judge, Overtaken, Written
from mainstay.commands.handler import Handler
from mainstay.commands.reaching import LONGEST_PAUSE, until_reached
from mainstay.commands.sends import Sends
from mainstay.commands.store import CommandStore, Received, WouldWaitError
from mainstay.errors import BusinessRuleException, MainstayError, StaleLeaseError, StorageUnavailableError
from mainstay.message import correlated
from mainstay.telemetry import get_logger
from mainstay.tenancy import all_tenants

MOST = 256
"""Commands in a group at most."""
_MOST_PASSED = 3
"""How often in a row a stream that somebody else holds is passed by for others, before it is waited for."""
_LONGEST_REST = 7
"""How often the time is doubled for which a stream rests that somebody else holds."""

logger = get_logger(__name__)


def _has_room(of_stream: list[Item] | None, item: Item, limit: int) -> bool:
    """Whether a group can hold one more command of a stream."""
    return not of_stream or (len(of_stream) < limit and of_stream[0].kind is item.kind)


def _in_nobodys_name() -> None:
    """Groups hold commands of all tenants, whatever the scope that their worker was made in: each names its streams."""
    all_tenants().__enter__()
    correlated(None).__enter__()


class Grouping:
    """Decides on commands in groups, for one worker.

    Args:
        domain: Whose commands.
        store: For queues of next commands, and to wake who handles them.
        deciders: Where states come from, and decisions go.
        judge: Says what is to be written.
        on_parked: Called when one more only waits for a stream that others append to.
    """

    def __init__(
        self,
        domain: str,
        store: CommandStore,
        deciders: Deciders,
        judge: Judge,
        on_parked: Callable[[], None] = lambda: None,
    ) -> None:
        self._domain = domain
        self._store = store
        self.deciders = deciders
        self._judge = judge
        self._on_parked = on_parked
        self._waiting: deque[Item] = deque()
        self._resting: dict[Hashable, asyncio.TimerHandle] = {}
        self._unsure: set[Hashable] = set()
        self._contended: dict[Hashable, float] = {}
        """Streams that others append to, and until when that is taken to be so."""
        self._fresh_until = 0.0
        self._in_hand = self._count = self.parked = 0
        self._making: asyncio.Task[None] | None = None
        self._contending: asyncio.Task[None] | None = None
        self._last: Group | None = None
        """The group that is being committed, or was last."""
        self._committing: asyncio.Task[None] | None = None
        self._waking: set[asyncio.Task[None]] = set()
        self._give_up = asyncio.Event()
        self._context = copy_context()
        self._context.run(_in_nobodys_name)

    async def decide(self, received: Received, handler: Handler, kind: type, stream: Hashable) -> End:
        """Decide on a command, together with others.

        Args:
            received: The command.
            handler: Its handler.
            kind: Class of the decider.
            stream: Its stream.

        Raises:
            StaleLeaseError: Another worker has the command.
            StorageUnavailableError: The database cannot be reached any more.
        """
        end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._count += 1
        item = Item(received, handler, kind, stream, copy_context(), end, self._count)
        self._waiting.append(item)
        self._in_hand += 1
        if stream in self._contended:
            self._park(item)
        self._hurry()
        try:
            return await end
        finally:
            self._in_hand -= 1
            self.parked -= item.is_parked

    async def close(self) -> None:
        """End; who still waits is canceled. It can be used again."""
        self._give_up.set()
        for task in (self._making, self._contending, self._committing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, MainstayError):
                    await task
        for timer in self._resting.values():
            timer.cancel()
        for item in [*self._waiting, *(() if self._last is None else self._last.items)]:
            item.end.cancel()
        self._waiting.clear()
        self._resting.clear()
        self._unsure.clear()
        self._contended.clear()
        self._making = self._contending = self._committing = self._last = None
        self._give_up.clear()
        if self._waking:
            await asyncio.wait(self._waking, timeout=LONGEST_PAUSE)
            for task in self._waking:
                task.cancel()
        await self.deciders.close()

    # -- making groups ------------------------------------------------------------------------------------------------
    def _hurry(self) -> None:
        """Let whoever makes groups look at what waits; in the worker's context, not in that of who came first."""
        if self._making is None and self._waiting:
            self._making = asyncio.create_task(
                self._make_groups(), name="mainstay-grouping", context=self._context.copy()
            )
        if self._contending is None and self._contended and self._waiting:
            self._contending = asyncio.create_task(
                self._contend(), name="mainstay-grouping-contended", context=self._context.copy()
            )

    async def _make_groups(self) -> None:
        """Load and decide, a group after the other, each while the one before it commits."""
        try:
            while items := self._taken(min(MOST, max(1, (self._in_hand - self.parked + 1) // 2))):
                group = await self._decided(items, fresh=self._now() < self._fresh_until)
                if self._last is not None:
                    await self._last.known.wait()
                self._committing = asyncio.create_task(
                    self._committed(group, self._last), name="mainstay-group-commit", context=self._context.copy()
                )
                self._last = group
                await asyncio.sleep(0)  # it is on its way before anything else is done
        finally:
            self._making = None

    async def _contend(self) -> None:
        """The same for streams that others append to: nothing is decided on before its stream is held."""
        try:
            passed = Counter[Hashable]()
            while streams := self._wanted(passed):
                group, items = Group([], set()), list[Item]()
                try:
                    held = await self._hold(group, streams, items)
                    passed = Counter({each: passed[each] + 1 for each in streams if each not in held})
                except asyncio.CancelledError:
                    for item in items:
                        item.end.cancel()
                    raise
                self._sort_out(group)
                self._tell(group)
        finally:
            self._contending = None

    def _wanted(self, passed: "Counter[Hashable]") -> list[Hashable]:
        """The streams to be held next: all that are waited for; or one alone that was passed by too often."""
        self._calm_down()
        wanted = dict.fromkeys(
            item.stream
            for item in self._waiting
            if item.stream in self._contended
            and item.stream not in self._resting
            and item.stream not in self._unsure
            and not item.end.done()
        )
        return [each for each in wanted if passed[each] >= _MOST_PASSED][:1] or list(wanted)

    async def _hold(self, group: Group, streams: Sequence[Hashable], items: list[Item]) -> "set[Hashable]":
        """Decide and commit in one transaction, which holds the streams from the beginning; those that were held.

        Commands are taken when the streams are held: who waits for a hot stream gathers, so that it changes hands less.
        """
        held_streams: set[Hashable] = set()
        try:
            async with self.deciders.holding(streams) as held:
                held_streams |= set(held.streams)
                items += self._taken(MOST, held=held_streams)
                group.unsure |= {item.stream for item in items}
                self._unsure |= group.unsure
                found = await self.deciders.load({item.stream: item.kind for item in items}, fresh=True, held=held)
                await self._decide_all(group, items, found)
                group.items = [item for item in group.items if group.stands(item, set())]
                asked = [item.decided for item in group.items if item.decided is not None]
                fates = await self.deciders.commit(self._domain, asked, held=held) if asked else []
        except Exception as error:  # noqa: BLE001 - decided on again; if it is not the database, alone with its error
            logger.debug("could not be committed while its stream was held: %s", error)
            group.failed |= {item.decider for item in items if item.decider is not None}
            group.put_back = [item for item in items if not item.end.done()]
            if not isinstance(error, StorageUnavailableError | WouldWaitError):
                for stream in streams:
                    self._contended.pop(stream, None)
            for stream in streams:
                self._rest(stream, _LONGEST_REST)
            return held_streams
        group.found(group.items, fates)
        return held_streams

    def _taken(self, most: int, *, held: Collection[Hashable] | None = None) -> list[Item]:
        """The next group, in the order of arrival; one stream's commands stand one after the other.

        Args:
            most: Commands.
            held: Of these streams; else of all to which nobody else appends.
        """
        share = max(1, most // 2) if held is None else most
        chosen: dict[Hashable, list[Item]] = {}
        ids: set[UUID] = set()
        self._calm_down()
        for limit in (share, most):
            kept: deque[Item] = deque()
            for item in self._waiting:
                if item.end.done():  # it was called off
                    continue
                stream, command_id = item.stream, item.received.lease.command_id
                if (
                    len(ids) >= most
                    or command_id in ids
                    or (self._resting and stream in self._resting)
                    or (self._unsure and stream in self._unsure)
                    or (stream in self._contended if held is None else stream not in held)
                    or not _has_room(chosen.get(stream), item, limit)
                ):
                    kept.append(item)
                else:
                    chosen.setdefault(stream, []).append(item)
                    ids.add(command_id)
            self._waiting = kept
        return [item for items in chosen.values() for item in items]

    def _calm_down(self) -> None:
        """Take streams for others' no longer where nobody was quicker for a while."""
        if self._contended:
            now = self._now()
            self._contended = {stream: until for stream, until in self._contended.items() if until > now}

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # -- deciding -----------------------------------------------------------------------------------------------------
    async def _decided(self, items: Sequence[Item], *, fresh: bool) -> Group:
        """Load and decide on commands; those that are to be committed, in order."""
        found: dict[Hashable, Decider | Exception] = {}
        group = Group([], set())

        async def load() -> None:
            found.update(await self.deciders.load({item.stream: item.kind for item in items}, fresh=fresh))

        try:
            await until_reached(load, self._give_up)
            await self._decide_all(group, items, found)
        except Exception as error:  # noqa: BLE001 - told to those who wait
            self.deciders.forget({item.decider for item in items if item.decider is not None})
            for item in items:
                item.fail(error)
            return Group([], set())
        self._unsure |= group.unsure
        return group

    async def _decide_all(
        self, group: Group, items: Sequence[Item], found: Mapping[Hashable, Decider | Exception]
    ) -> None:
        """Decide on commands, and make the queues of those that follow."""
        spoiled: set[Hashable] = set()
        for item in items:
            decider = found[item.stream]
            if isinstance(decider, Exception):
                item.finish(Alone)
            elif item.stream in spoiled:
                group.put_back.append(item)
            elif not item.end.done():
                item.decider = decider
                if not item.context.run(self._decide, item, decider):
                    spoiled.add(item.stream)
                    self.deciders.forget([decider])
                if item.decided is not None:
                    group.items.append(item)
        group.unsure |= spoiled
        for domain in {domain for item in group.items for domain in item.domains}:
            with suppress(MainstayError):  # then the commit says what is wrong
                await self._store.ensure_queue(domain)

    def _decide(self, item: Item, decider: Decider) -> bool:
        """Decide on one command; whether the decider can go on."""
        received, handler = item.received, item.handler
        sends, before = Sends(received.command), decider.unchanged()
        try:
            found = decider.decide(received.command.data)
            for each in found.sends:
                sends.take(each)
        except asyncio.CancelledError:
            error: BaseException = RuntimeError("the handler was canceled from within")
        except BaseException as raised:  # noqa: BLE001 - whatever a decider raises is an outcome
            error = raised
        else:
            item.decided, item.domains = (
                Decided(self._judge.decided(received, handler, found, sends), found),
                sends.domains,
            )
            return True
        outcome = self._judge.refused(received, handler, before, error)
        if outcome is None:
            item.fail(error)
        else:
            item.decided = Decided(outcome, before)
        return isinstance(error, BusinessRuleException)

    # -- committing ---------------------------------------------------------------------------------------------------
    async def _committed(self, group: Group, before: Group | None) -> None:
        """Commit a group after another.

        Whoever waits is told when the next group, if it is ready, is on its way to the server: to tell many takes as
        long as a commit, and both are done at the same time.
        """
        try:
            await self._write(group, group.items, set() if before is None else before.failed)
        except Exception as error:  # noqa: BLE001 - told to those who wait
            known = {item for item, _ in group.fates}
            for item in group.items:
                if item not in known and item not in group.put_back:
                    item.fail(error)
                    group.failed |= {item.decider} if item.decider is not None else set()
        self._sort_out(group)
        group.known.set()
        for _ in range(2):
            await asyncio.sleep(0)
        self._tell(group)

    async def _write(self, group: Group, items: Sequence[Item], failed: "set[Decider]") -> None:
        """Write items; what rests on what could not be written is put back."""
        mine = [item for item in items if group.stands(item, failed)]
        asked = [item.decided for item in mine if item.decided is not None]
        fates: list[Fate] = []

        async def commit() -> None:
            fates[:] = await self.deciders.commit(self._domain, asked)

        try:
            if asked:
                await until_reached(commit, self._give_up)
        except StorageUnavailableError:
            raise
        except MainstayError as error:
            if len(mine) > 1:
                middle = len(mine) // 2
                await self._write(group, mine[:middle], failed)
                await self._write(group, mine[middle:], failed)
                return
            logger.debug("could not be committed in a group: %s", error)
            fates = [Fate.CLOSED]
        group.found(mine, fates)

    def _sort_out(self, group: Group) -> None:
        """Draw the consequences for groups to come; what is to be decided on again waits for the next."""
        self.deciders.forget(group.failed)
        self._unsure -= group.unsure
        for item, fate in group.fates:
            if not fate.is_written:
                self._not_written(group, item, fate)
        for item in sorted(group.put_back, key=lambda each: each.number, reverse=True):
            item.decided = item.decider = None
            self._waiting.appendleft(item)

    def _tell(self, group: Group) -> None:
        """Let each command of a group know what it has come to."""
        for item, fate in group.fates:
            if fate.is_written and item.decided is not None:
                item.finish(Written(item.decided.outcome))
        self._hurry()
        self._wake(group.items)

    def _not_written(self, group: Group, item: Item, fate: Fate) -> None:
        """Let a command know why, or have it decided on again."""
        if fate is Fate.STALE:
            item.fail(StaleLeaseError(f"command {item.received.lease.command_id} is no longer held by its lease"))
        elif fate is Fate.CLOSED:
            item.finish(Alone)
        elif fate is not Fate.BEHIND and item.tries + 1 >= TRIES:
            item.finish(Overtaken)
        else:
            if fate is not Fate.BEHIND:
                item.tries += 1
                self._beware(item, fate)
            group.put_back.append(item)

    def _beware(self, item: Item, fate: Fate) -> None:
        """Somebody else was quicker."""
        until = self._now() + WARY
        self._fresh_until = until
        if item.tries > 1:
            if item.stream not in self._contended:
                for each in self._waiting:
                    if each.stream == item.stream:
                        self._park(each)
            self._park(item)
            self._contended[item.stream] = until
        if fate is Fate.LOCKED:
            self._rest(item.stream, item.tries)

    def _park(self, item: Item) -> None:
        """Let a command wait for a stream that others append to without counting among those that are in hand."""
        if not item.is_parked and not item.end.done():
            item.is_parked = True
            self.parked += 1
            self._on_parked()

    def _rest(self, stream: Hashable, tries: int) -> None:
        """Leave a stream alone for a short while."""
        if stream in self._resting:
            return
        pause = random.uniform(0, FIRST_PAUSE * 2 ** min(tries, _LONGEST_REST))  # noqa: S311 - spreads, guards nothing

        def rested() -> None:
            del self._resting[stream]
            self._hurry()

        self._resting[stream] = asyncio.get_running_loop().call_later(pause, rested)

    def _wake(self, items: Sequence[Item]) -> None:
        """Wake whoever handles what was sent, or may start now; nothing here waits for it."""
        domains: list[str] = []
        for item in items:
            if item.decided is None or not item.end.done():
                continue
            domains += item.domains
            if item.decided.outcome.answers is not None:
                domains.append(item.decided.outcome.answers)
            if item.received.lease.is_limited:
                domains.append(self._domain)
        if domains:
            task = asyncio.create_task(self._woken(domains), name="mainstay-group-wake", context=Context())
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def _woken(self, domains: Sequence[str]) -> None:
        with suppress(MainstayError):  # whoever sleeps on finds it when he polls
            await self._store.wake(domains)
