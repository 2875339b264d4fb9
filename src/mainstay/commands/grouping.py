"""Group commit: the commands of pure deciders, decided on in memory and committed many at a time.

A transaction for each command costs round trips and a flush for each. Deciders have no effects, so here the commands
that a worker's slots have in hand at the same time go together: their streams are loaded by one question, they are
decided on in memory, those of one stream one after the other, each seeing what follows from those before it; one
statement commits what is still current, and says of the rest why not.

States of one command. *Waiting*: it came while a group was made. *Decided*: its outcome is known, if its stream is
still what it was loaded as. *Written*: events, next commands, reply, audit and completion are committed, all at once.

No timer. Whoever comes alone is a group alone, at once. While one group commits the next is loaded and decided, from
what has come meanwhile: half of what is in hand at most, so that the two halves take turns. It is taken when those of
the group before have been told, so that their successors are among it: else a few that were left over are a group.

One stream, two groups. The second group decides on what the first one left in memory, not yet committed. It is
committed after the first, and where the first could not write something of a decider, all that the second has of it
is taken out. So no decision rests on what did not come true, and a hot stream has its part in every group.

Others. States are kept in memory, so that most commands cost no question. When another worker proves to have appended,
all states are brought up to date before they are used, for `WARY` seconds; and a stream whose command was overtaken
twice is decided on apart: in a transaction that holds it from the beginning, so that nobody is quicker. What is
prepared while another group commits would come too late each time. Its commands wait without a slot, and are taken when
the stream is held: a stream that goes from worker to worker does so for as many as have gathered, in two round trips,
one that holds and reads it and one that writes and commits. `mainstay.commands.gathering` says which is held when.

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
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TypeAlias

from mainstay.commands.aggregates import TRIES, WARY
from mainstay.commands.deciders import Decided, Decider, Deciders, Fate
from mainstay.commands.ends import tell_operators
from mainstay.commands.gathering import LONGEST_REST, Gathering, now
from mainstay.commands.grouped import Alone, End, Group, Item, Judge, Overtaken, Written
from mainstay.commands.handler import Handler
from mainstay.commands.reaching import LONGEST_PAUSE, until_reached
from mainstay.commands.sends import Sends
from mainstay.commands.store import CommandStore, Received, Verb, WouldWaitError
from mainstay.errors import BusinessRuleException, MainstayError, StaleLeaseError, StorageUnavailableError
from mainstay.message import correlated
from mainstay.telemetry import get_logger
from mainstay.tenancy import all_tenants

MOST = 256
"""Commands in a group at most."""

_Lane: TypeAlias = Callable[[], Sequence[Hashable]]

logger = get_logger(__name__)


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
        self._gathering = Gathering(self._hurry, on_parked)
        self._fresh_until = 0.0
        self._in_hand = self._count = 0
        self._making: asyncio.Task[None] | None = None
        self._lanes: dict[_Lane, asyncio.Task[None]] = {}
        """Those who hold contended streams, and who hold hot ones."""
        self._last: Group | None = None
        """The group that is being committed, or was last."""
        self._committing: asyncio.Task[None] | None = None
        self._waking: set[asyncio.Task[None]] = set()
        self._give_up = asyncio.Event()
        self._context = copy_context()
        self._context.run(_in_nobodys_name)

    @property
    def parked(self) -> int:
        """How many commands only wait for streams that others append to."""
        return self._gathering.parked

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
        self._gathering.add(item)
        self._in_hand += 1
        self._hurry()
        try:
            return await end
        finally:
            self._in_hand -= 1
            self._gathering.leave(item)

    async def close(self) -> None:
        """End; who still waits is canceled. It can be used again."""
        self._give_up.set()
        for task in (self._making, *self._lanes.values(), self._committing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, MainstayError):
                    await task
        self._gathering.clear()
        for item in () if self._last is None else self._last.items:
            item.end.cancel()
        self._making = self._committing = self._last = None
        self._give_up.clear()
        if self._waking:
            await asyncio.wait(self._waking, timeout=LONGEST_PAUSE)
            for task in self._waking:
                task.cancel()
        await self.deciders.close()

    # -- making groups ------------------------------------------------------------------------------------------------
    def _hurry(self) -> None:
        """Let whoever makes groups look at what waits; in the worker's context, not in that of who came first."""
        gathering = self._gathering
        if not gathering.waiting:
            return
        if self._making is None:
            self._making = asyncio.create_task(
                self._make_groups(), name="mainstay-grouping", context=self._context.copy()
            )
        for wanted in (gathering.wanted, gathering.wanted_hot) if gathering.contended else ():
            if wanted not in self._lanes:
                self._lanes[wanted] = asyncio.create_task(
                    self._contend(wanted), name="mainstay-grouping-contended", context=self._context.copy()
                )

    async def _make_groups(self) -> None:
        """Load and decide, a group after the other, each while the one before it commits."""
        try:
            while items := self._gathering.taken(min(MOST, max(1, (self._in_hand - self.parked + 1) // 2))):
                group = await self._decided(items, fresh=now() < self._fresh_until)
                before = self._last
                if before is not None:
                    await before.known.wait()
                self._committing = asyncio.create_task(
                    self._committed(group, before), name="mainstay-group-commit", context=self._context.copy()
                )
                self._last = group
                await asyncio.sleep(0)  # it is on its way before anything else is done
                if before is not None:
                    await before.told.wait()
                    await asyncio.sleep(0)  # and those who come after the told ones are there
        finally:
            self._making = None

    async def _contend(self, wanted: _Lane) -> None:
        """The same for streams that others append to: nothing is decided on before its stream is held."""
        try:
            while streams := wanted():
                group, items = Group([], set()), list[Item]()
                try:
                    self._gathering.passed(streams, await self._hold(group, streams, items))
                except asyncio.CancelledError:
                    for item in items:
                        item.end.cancel()
                    raise
                self._sort_out(group)
                self._tell(group)
        finally:
            del self._lanes[wanted]

    async def _hold(self, group: Group, streams: Sequence[Hashable], items: list[Item]) -> "set[Hashable]":
        """Decide and commit in one transaction, which holds the streams from the beginning; those that were held.

        Commands are taken when the streams are held: who waits for a hot stream gathers, so that it changes hands less.
        """
        held_streams: set[Hashable] = set()
        try:
            async with self.deciders.holding(streams) as held:
                held_streams |= set(held.streams)
                items += self._gathering.taken(MOST, held=held_streams)
                group.unsure |= {item.stream for item in items}
                self._gathering.unsure |= group.unsure
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
                self._gathering.calm(streams)
            for stream in streams:
                self._gathering.rest(stream, LONGEST_REST)
            return held_streams
        group.found(group.items, fates)
        return held_streams

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
        self._gathering.unsure |= group.unsure
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
        return issubclass(type(error), BusinessRuleException)

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
        try:
            for _ in range(2):
                await asyncio.sleep(0)
            self._tell(group)
        finally:
            group.told.set()

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
        self._gathering.unsure -= group.unsure
        for item, fate in group.fates:
            if not fate.is_written:
                self._not_written(group, item, fate)
        for item in group.put_back:
            item.decided = item.decider = None
        self._gathering.put_back(group.put_back)

    def _tell(self, group: Group) -> None:
        """Let each command of a group know what it has come to."""
        for item, fate in group.fates:
            if fate.is_written and item.decided is not None:
                outcome = item.decided.outcome
                item.finish(Written(outcome))
                if outcome.verb is Verb.TROUBLESHOOT:
                    tell_operators(self._domain, item.received.command.command_type, outcome)
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
                self._fresh_until = now() + WARY
                self._gathering.beware(item)
            if fate is Fate.LOCKED:
                self._gathering.rest(item.stream, item.tries)
            group.put_back.append(item)

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
