"""The contract of `mainstay.deciding.store.GroupStore`: what is current is committed together, the rest not at all.

A subclass gives ``store``, ``log`` and ``groups``, all of one database, and the hooks of `CommandStoreSuite`.
"""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from mainstay.commands.deciders import Fate
from mainstay.commands.ledger import NewDecision
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import CommandStore, NewCommand, Received, Verb
from mainstay.deciding.store import GroupStore, StreamConsequence, ToCommit
from mainstay.errors import DuplicateCommandError
from mainstay.events.log import EventLog, RecordedEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new, saying
from mainstay.testing.contracts.events.base import OnPurposeError, several, stream
from mainstay.testing.contracts.events.base import new as new_event

F, S = Fate, CommandStatus


class GroupStoreContract(CommandStoreSuite):
    """What a group comes to."""

    @pytest.fixture
    async def log(self) -> EventLog:
        """Where events are, with nothing in it."""
        raise NotImplementedError

    @pytest.fixture
    async def groups(self) -> GroupStore:
        """What is tested."""
        raise NotImplementedError

    # -- words --------------------------------------------------------------------------------------------------------
    async def in_hands(self, store: CommandStore, count: int, **changes: Any) -> list[Received]:
        """Send so many commands, and receive them."""
        await self.sent(store, *(new(**changes) for _ in range(count)))
        received = await self.received(store)

        assert len(received) == count
        return received

    @staticmethod
    def one(
        received: Received,
        where: StreamId,
        before: int = 0,
        events: int = 1,
        verb: Verb = Verb.COMPLETE,
        *,
        sends: tuple[NewCommand, ...] = (),
    ) -> ToCommit:
        """What was decided on one command."""
        found = StreamConsequence(where, before, tuple(several(events, causation_id=received.command.command_id)))
        decision = NewDecision(found.stream, before, events, "shop.Account", "1")
        changes: dict[str, Any] = {} if verb is not Verb.COMPLETE else {"result": None, "sends": sends}
        if verb in {Verb.COMPLETE, Verb.FAIL}:
            changes["decision"] = decision
        return ToCommit(saying(received, verb, **changes), found)

    @staticmethod
    async def there(log: EventLog, where: StreamId) -> list[RecordedEvent]:
        return await log.read_stream(where)

    async def append(self, log: EventLog, where: StreamId, count: int = 1, conn: Any = None) -> None:
        """What somebody else appends."""
        await log.append([StreamAppend(where, tuple(several(count)), ExpectedVersion.any())], conn=conn)

    async def statuses(self, store: CommandStore, group: Sequence[Received]) -> list[CommandStatus]:
        return [await self.status(store, each.command.command_id) for each in group]

    # -- all of it ----------------------------------------------------------------------------------------------------
    async def test_what_is_current_is_committed_whole(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        first, second = await self.in_hands(store, 2, reply_to=REPLIES)
        here, there = stream(), stream()
        following = new(command_type="Next")

        fates = await groups.commit(
            DOMAIN, [self.one(first, here, events=2, sends=(following,)), self.one(second, there)]
        )

        assert fates == [F.APPLIED, F.APPLIED]
        (one, two), (three,) = await self.there(log, here), await self.there(log, there)
        assert one.position < two.position < three.position
        assert [each.version for each in (one, two, three)] == [1, 2, 1]
        known = [await self.known(store, each.command.command_id) for each in (first, second)]
        assert [each.result for each in known] == [
            {"version": 2, "position": two.position},
            {"version": 1, "position": three.position},
        ]
        assert await self.status(store, following.command_id) is S.PENDING
        replies = await self.replies(store, REPLIES)
        assert {each["command_id"]: each["data"] for each in replies} == {
            str(each.command_id): each.result for each in known
        }
        decided = await store.ledger.get(DOMAIN, first.command.command_id)
        assert decided is not None
        assert (decided.version_read, decided.version) == (0, 2)

    async def test_commands_of_one_stream_stand_one_after_the_other(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        where, received = stream(), await self.in_hands(store, 3)
        await self.append(log, where, 2)

        group = [self.one(each, where, 2 + 2 * n, 2) for n, each in enumerate(received)]

        assert await groups.commit(DOMAIN, group) == [F.APPLIED] * 3
        found = await self.there(log, where)
        assert [each.version for each in found] == list(range(1, 9))
        assert [each.event.causation_id for each in found[2::2]] == [each.command.command_id for each in received]

    async def test_a_decision_without_events_says_the_version(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        where, (received,) = stream(), await self.in_hands(store, 1)
        await self.append(log, where, 3)

        assert await groups.commit(DOMAIN, [self.one(received, where, 3, 0)]) == [F.APPLIED]
        assert (await self.known(store, received.command.command_id)).result == {"version": 3}

    async def test_other_ends_are_written_with_it(self, store: CommandStore, log: EventLog, groups: GroupStore) -> None:
        received, where = await self.in_hands(store, 4), stream()
        verbs = [Verb.FAIL, Verb.RETRY, Verb.TROUBLESHOOT, Verb.COMPLETE]
        group = [
            self.one(each, where, 0, int(verb is Verb.COMPLETE), verb)
            for each, verb in zip(received, verbs, strict=True)
        ]

        assert await groups.commit(DOMAIN, group) == [F.APPLIED] * 4
        assert await self.statuses(store, received) == [S.FAILED, S.PENDING, S.IN_TROUBLESHOOTING_QUEUE, S.COMPLETED]
        assert len(await self.there(log, where)) == 1

    async def test_events_are_found_by_their_tags(self, store: CommandStore, log: EventLog, groups: GroupStore) -> None:
        (received,), where = await self.in_hands(store, 1), stream()
        events = (new_event("Placed", "customer:1", causation_id=received.command.command_id), new_event("Placed"))
        outcome = saying(received, Verb.COMPLETE, result=None)

        await groups.commit(DOMAIN, [ToCommit(outcome, StreamConsequence(where, 0, events))])

        assert [each.event.tags for each in await self.there(log, where)] == [("customer:1",), ()]

    # -- what is not current ------------------------------------------------------------------------------------------
    async def test_a_stream_that_has_moved_is_left_alone_and_its_neighbours_are_written(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, moved, new_one, well = await self.in_hands(store, 5), stream(), stream(), stream()
        await self.append(log, moved, 2)
        await self.append(log, new_one)

        fates = await groups.commit(
            DOMAIN,
            [
                self.one(received[0], moved, 1),
                self.one(received[1], moved, 2),
                self.one(received[2], new_one, 0),
                self.one(received[3], well, 0),
                self.one(received[4], stream(), 3),
            ],
        )

        assert fates == [F.MOVED, F.MOVED, F.MOVED, F.APPLIED, F.MOVED]
        assert await self.statuses(store, received) == [S.IN_PROGRESS] * 3 + [S.COMPLETED, S.IN_PROGRESS]
        assert [len(await self.there(log, each)) for each in (moved, new_one, well)] == [2, 1, 1]

    async def test_a_refusal_is_written_only_if_its_stream_is_what_it_was(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, moved, well = await self.in_hands(store, 2), stream(), stream()
        await self.append(log, moved, 2)
        await self.append(log, well, 1)

        fates = await groups.commit(
            DOMAIN, [self.one(received[0], moved, 1, 0, Verb.FAIL), self.one(received[1], well, 1, 0, Verb.FAIL)]
        )

        assert fates == [F.MOVED, F.APPLIED]
        assert await self.statuses(store, received) == [S.IN_PROGRESS, S.FAILED]

    async def test_a_stream_that_somebody_holds_is_passed_by_and_not_waited_for(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, held, well = await self.in_hands(store, 3), stream(), stream()
        await self.append(log, held)
        async with log.transaction() as tx:
            await self.append(log, held, conn=tx)
            fates = await groups.commit(
                DOMAIN,
                [
                    self.one(received[0], held, 1),
                    self.one(received[1], held, 2),
                    self.one(received[2], well, 0),
                ],
            )

        assert fates == [F.LOCKED, F.LOCKED, F.APPLIED]
        assert await self.statuses(store, received) == [S.IN_PROGRESS, S.IN_PROGRESS, S.COMPLETED]
        assert len(await self.there(log, held)) == 2

    async def test_a_refusal_waits_for_nobody_either(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        (received,), held = await self.in_hands(store, 1), stream()
        await self.append(log, held)
        async with log.transaction() as tx:
            await self.append(log, held, conn=tx)
            fates = await groups.commit(DOMAIN, [self.one(received, held, 1, 0, Verb.FAIL)])

        assert fates == [F.APPLIED]

    async def test_a_stream_that_takes_no_more_events_is_left_alone(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, archived, emptied = await self.in_hands(store, 2), stream(), stream()
        for each in (archived, emptied):
            await self.append(log, each)
        await log.archive(archived)
        await log.tombstone(emptied, reason="asked for", actor="ada")

        fates = await groups.commit(DOMAIN, [self.one(received[0], archived, 1), self.one(received[1], emptied, 1)])

        assert fates == [F.CLOSED, F.CLOSED]
        assert await self.statuses(store, received) == [S.IN_PROGRESS] * 2

    # -- leases -------------------------------------------------------------------------------------------------------
    async def test_what_rests_on_a_lost_lease_is_not_written(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, where, well = await self.in_hands(store, 4), stream(), stream()
        lost = received[1]
        await self.say(store, lost, Verb.GIVE_BACK)
        (again,) = await self.received(store)

        group = [self.one(each, where, n) for n, each in enumerate(received[:3])]
        fates = await groups.commit(DOMAIN, [*group, self.one(received[3], well)])

        assert fates == [F.APPLIED, F.STALE, F.BEHIND, F.APPLIED]
        assert await self.statuses(store, received) == [S.COMPLETED, S.IN_PROGRESS, S.IN_PROGRESS, S.COMPLETED]
        assert [each.event.causation_id for each in await self.there(log, where)] == [received[0].command.command_id]
        assert AuditEventType.STALE_REFUSED in await self.events(store, lost.command.command_id)
        assert await groups.commit(DOMAIN, [self.one(again, where, 1)]) == [F.APPLIED]

    async def test_the_first_of_a_stream_may_have_lost_its_lease(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, where = await self.in_hands(store, 2), stream()
        await self.say(store, received[0], Verb.TROUBLESHOOT)

        fates = await groups.commit(DOMAIN, [self.one(each, where, n) for n, each in enumerate(received)])

        assert fates == [F.REPEATED, F.BEHIND]
        assert await self.there(log, where) == []

    async def test_a_group_that_is_repeated_is_written_once(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, where = await self.in_hands(store, 3, reply_to=REPLIES), stream()
        refused = self.one(received[2], where, 2, 0, Verb.FAIL)
        group = [self.one(received[0], where, sends=(new(skip_known=True),)), self.one(received[1], where, 1), refused]

        assert await groups.commit(DOMAIN, group) == [F.APPLIED] * 3
        assert await groups.commit(DOMAIN, group) == [F.REPEATED] * 3
        assert len(await self.there(log, where)) == 2
        assert len(await self.replies(store, REPLIES)) == 3

    # -- holding ------------------------------------------------------------------------------------------------------
    async def test_who_holds_a_stream_is_not_overtaken(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, held_by_others, mine, fresh = await self.in_hands(store, 3), stream(), stream(), stream()
        for each in (held_by_others, mine):
            await self.append(log, each)
        async with log.transaction() as tx:
            await self.append(log, held_by_others, conn=tx)
            async with groups.holding([held_by_others, mine, fresh]) as held:
                other = asyncio.create_task(self.append(log, mine))
                found = await log.read_stream(mine, conn=held.conn)
                assert not other.done()
                fates = await groups.commit(
                    DOMAIN, [self.one(received[0], mine, len(found)), self.one(received[1], fresh)], held=held
                )
                assert set(held.streams) == {mine, fresh}

        await other
        assert fates == [F.APPLIED, F.APPLIED]
        assert await self.statuses(store, received) == [S.COMPLETED, S.COMPLETED, S.IN_PROGRESS]
        assert [len(await self.there(log, each)) for each in (mine, fresh)] == [3, 1]

    async def test_one_that_others_hold_is_waited_for_if_there_is_no_other(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        (received,), where = await self.in_hands(store, 1), stream()
        await self.append(log, where)
        versions: list[int] = []

        async def hold() -> None:
            async with groups.holding([where]) as held:
                versions.append(len(await log.read_stream(where, conn=held.conn)))
                await groups.commit(DOMAIN, [self.one(received, where, versions[0])], held=held)

        async with log.transaction() as tx:
            await self.append(log, where, conn=tx)
            waits = asyncio.create_task(hold())
            await asyncio.wait({waits}, timeout=0.05)
            assert not waits.done()
        await waits

        assert versions == [2]
        assert await self.status(store, received.command.command_id) is S.COMPLETED

    async def test_what_is_held_is_let_go_if_something_fails(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        (received,), where = await self.in_hands(store, 1), stream()
        await self.append(log, where)
        with suppress(OnPurposeError):
            async with groups.holding([where]):
                raise OnPurposeError

        assert await self.status(store, received.command.command_id) is S.IN_PROGRESS
        assert len(await self.there(log, where)) == 1
        assert await groups.commit(DOMAIN, [self.one(received, where, 1)]) == [F.APPLIED]

    # -- errors -------------------------------------------------------------------------------------------------------
    async def test_a_group_in_which_something_is_refused_writes_nothing(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, where, well = await self.in_hands(store, 2), stream(), stream()
        known = new(command_id=received[0].command.command_id)

        with pytest.raises(DuplicateCommandError):
            await groups.commit(DOMAIN, [self.one(received[0], well), self.one(received[1], where, sends=(known,))])

        assert await self.statuses(store, received) == [S.IN_PROGRESS] * 2
        assert [await self.there(log, each) for each in (where, well)] == [[], []]
        assert await groups.commit(DOMAIN, [self.one(received[0], well)]) == [F.APPLIED]

    async def test_the_same_command_sent_by_two_is_sent_once(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        received, shared = await self.in_hands(store, 2), uuid4()
        group = [self.one(each, stream(), sends=(new(command_id=shared, skip_known=True),)) for each in received]

        assert await groups.commit(DOMAIN, group) == [F.APPLIED] * 2
        assert await self.status(store, shared) is S.PENDING
        assert log is not None

    async def test_it_can_be_used_again_after_it_was_closed(
        self, store: CommandStore, log: EventLog, groups: GroupStore
    ) -> None:
        where, received = stream(), await self.in_hands(store, 2)
        for n, each in enumerate(received):
            assert await groups.commit(DOMAIN, [self.one(each, where, n)]) == [F.APPLIED]
            await groups.close()
        assert len(await self.there(log, where)) == 2
