"""Deciders, one by one and in groups, from the command to the events: a suite for every store."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    AuditEventType,
    CommandModel,
    CommandStatus,
    DeciderAggregate,
    EventStore,
    SnapshotPolicy,
    StreamId,
    Worker,
)
from mainstay.commands.deciders import Fate
from mainstay.deciding.store import ToCommit
from mainstay.errors import StorageUnavailableError
from mainstay.events.log import MOST_EVENTS
from mainstay.metrics import APPENDED, HANDLED, SENT
from tests.scenarios.odd_ends import OddDecisions
from tests.scenarios.purses import PurseSuite
from tests.scenarios.world import AT_ONCE, DOMAIN, REPLIES, World
from tests.support.purses import Alien, Pay, Purse, Sum, Take, Watched
from tests.support.telemetry import recorded_spans, recorded_values
from tests.support.waiting import eventually

S, A = CommandStatus, AuditEventType


class DeciderScenarios(OddDecisions):
    """What holds for deciders however they are committed."""

    @pytest.fixture(params=[True, False], ids=["in groups", "one by one"])
    def worker(self, request: Any, world: World, event_store: EventStore) -> Worker:
        return world.worker(event_store=event_store, group_commit=request.param)

    async def test_each_command_is_decided_on_once_in_a_state_that_knows_those_before(self, world, worker, purses):
        ids = [uuid4() for _ in range(4)]
        sent = await self.sent(world, *(Take(purse_id=each, amount=n) for n in range(1, 11) for each in ids))
        known = await self.done(world, worker, *sent)

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        for n, purse_id in enumerate(ids):
            found = await purses.load(purse_id)
            assert (found.version, found.state) == (10, Sum(55))
            assert sorted(each.result["version"] for each in known[n::4]) == list(range(1, 11))

    async def test_the_next_commands_of_a_decision_are_sent_with_it_and_follow_it(self, world, worker, purses):
        here, there, correlation_id = uuid4(), uuid4(), uuid4()
        (sent,) = await self.sent(world, Pay(purse_id=here, amount=5, to=there), correlation_id=correlation_id)
        async with world.working(worker):
            await world.settled(sent)
            await eventually(lambda: self.amount_is(purses, there, 5))

        (following,) = [each for each in await world.bus.query_commands(domain=DOMAIN) if each.command_id != sent]
        assert (following.command_type, following.status) == ("Take", S.COMPLETED)
        assert following.correlation_id == correlation_id
        assert following.headers is not None
        assert following.headers["causation_id"] == str(sent)
        decided = await world.bus.get_decision(DOMAIN, sent)
        assert decided is not None
        assert decided.sends == ((DOMAIN, following.command_id),)
        events = [each.event async for each in purses._store.read_stream(StreamId("GroupedPurse", there))]
        assert [each.causation_id for each in events] == [following.command_id]

    async def amount_is(self, purses: Any, purse_id: UUID, amount: int) -> bool:
        found = await purses.get_or_none(purse_id)
        return found is not None and found.state.amount == amount

    async def test_a_refusal_is_one_commands_end_and_nobody_elses(self, world, worker, purses):
        purse_id = uuid4()
        amounts = [40, 70, 500, 50, 10]  # 100 may be overdrawn
        sent = await self.sent(world, *(Pay(purse_id=purse_id, amount=n) for n in amounts), reply_to=REPLIES)
        known = await self.done(world, worker, *sent, concurrency=1)

        assert [each.status for each in known] == [S.COMPLETED, S.FAILED, S.FAILED, S.COMPLETED, S.COMPLETED]
        assert (known[1].last_error_code, known[1].attempts) == ("NOT_ENOUGH", 1)
        assert (await purses.load(purse_id)).state == Sum(-100)
        refused = await world.bus.get_decision(DOMAIN, sent[1])
        assert refused is not None
        assert (refused.version_read, refused.events) == (1, 0)

    async def test_another_error_is_retried_and_then_an_operators(self, world, worker, purses, caplog):
        purse_id = uuid4()
        commands = [Take(purse_id=purse_id, amount=n) for n in (1, 13, 2, 17, 3)]
        sent = await self.sent(world, *commands, max_attempts=2)
        known = await self.done(world, worker, *sent)

        assert [each.status for each in known] == [
            S.COMPLETED, S.IN_TROUBLESHOOTING_QUEUE, S.COMPLETED, S.IN_TROUBLESHOOTING_QUEUE, S.COMPLETED
        ]  # fmt: skip
        assert [each.attempts for each in known] == [1, 2, 1, 2, 1]
        assert [known[n].last_error_code for n in (1, 3)] == ["ZeroDivisionError", "LATER"]
        assert (await purses.load(purse_id)).state == Sum(6)
        told = [record for record in caplog.records if "an operator must decide" in record.getMessage()]
        assert {record.command_id for record in told} == {str(sent[1]), str(sent[3])}
        assert len(told) == 2

    async def test_what_is_neither_event_nor_command_is_refused(self, world, event_store, worker):
        class Odd(CommandModel, domain=DOMAIN):
            odd_id: UUID

        class OddOne(DeciderAggregate[int, Odd]):
            aggregate_type = "GroupedOdd"
            initial_state = staticmethod(lambda: 0)
            decide = staticmethod(lambda state, command: ["what?"])
            evolve = staticmethod(lambda state, event: state)

        world.registry.register_decider(domain=DOMAIN, decider=OddOne, stream="odd_id")
        odd_id = uuid4()
        (sent,) = await self.sent(world, Odd(odd_id=odd_id), max_attempts=1)
        (known,) = await self.done(world, worker, sent)

        assert (known.status, known.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "InvalidInputError")
        assert "decides on events, instances of DomainEvent, and on typed commands" in known.last_error_msg

    @pytest.mark.parametrize(
        ("name", "events"),
        [
            ("is there twice in one append", lambda: [Alien(event_id=uuid4())] * 2),
            ("too many for one append", lambda: [Alien() for _ in range(MOST_EVENTS + 1)]),
            ("1 to 200 printable characters", lambda: [Alien(actor_id="a" * 201)]),
        ],
    )
    async def test_what_no_log_takes_is_refused(self, world, event_store, worker, name, events):
        class Strain(CommandModel, domain=DOMAIN):
            strain_id: UUID

        class Strained(DeciderAggregate[int, Strain]):
            aggregate_type = "GroupedStrain"
            initial_state = staticmethod(lambda: 0)
            decide = staticmethod(lambda state, command: events())
            evolve = staticmethod(lambda state, event: state)

        world.registry.register_decider(domain=DOMAIN, decider=Strained, stream="strain_id")
        strain_id = uuid4()
        (sent,) = await self.sent(world, Strain(strain_id=strain_id), max_attempts=1)
        (known,) = await self.done(world, worker, sent)

        assert (known.status, known.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "InvalidInputError")
        assert name in known.last_error_msg
        assert await event_store.log.stream_state(StreamId("GroupedStrain", strain_id)) is None

    async def test_a_stream_that_cannot_be_read_is_nobody_elses_trouble(self, world, event_store, worker, purses):
        broken, well = uuid4(), uuid4()
        alien = Alien(aggregate_id=broken, aggregate_type="GroupedPurse")
        await event_store.append(StreamId("GroupedPurse", broken), [alien])
        sent = await self.sent(
            world, *(Take(purse_id=each, amount=1) for each in (broken, well, broken, well)), max_attempts=1
        )
        known = await self.done(world, worker, *sent)

        assert [each.status for each in known] == [S.IN_TROUBLESHOOTING_QUEUE, S.COMPLETED] * 2
        assert {each.last_error_code for each in known[::2]} == {"AssertionError"}
        assert (await purses.load(well)).version == 2

    async def test_a_command_for_a_stream_that_is_closed_ends_as_a_handlers_would(self, world, event_store, worker):
        purse_id = uuid4()
        await AggregateRepository(event_store, Purse).execute(purse_id, Take(purse_id=purse_id, amount=1))
        await event_store.archive(StreamId("GroupedPurse", purse_id))
        sent = await self.sent(
            world, Take(purse_id=purse_id, amount=1), Take(purse_id=uuid4(), amount=1), max_attempts=1
        )
        known = await self.done(world, worker, *sent)

        assert [each.status for each in known] == [S.IN_TROUBLESHOOTING_QUEUE, S.COMPLETED]
        assert known[0].last_error_code == "StreamArchivedError"


class GroupScenarios(PurseSuite):
    """What only groups have."""

    @pytest.fixture
    def worker(self, world: World, event_store: EventStore) -> Worker:
        return self.made(world, event_store)

    def made(self, world: World, event_store: EventStore, **options: Any) -> Worker:
        worker = world.worker(event_store=event_store, **options)
        grouping = worker._execution.grouping
        assert grouping is not None
        grouping.deciders._groups = Watched(grouping.deciders._groups)
        return worker

    @pytest.fixture
    def watched(self, worker: Worker) -> Watched:
        return worker._execution.grouping.deciders._groups

    async def test_many_commands_are_few_groups(self, world, worker, watched):
        sent = await self.sent(world, *(Take(purse_id=uuid4(), amount=1) for _ in range(64)))
        await self.done(world, worker, *sent, concurrency=64)

        assert sum(map(len, watched.committed)) == 64
        assert max(map(len, watched.committed)) >= 16

    @pytest.mark.parametrize("others", [False, True], ids=["deciders alone", "beside another handler"])
    async def test_few_handlers_make_small_groups_only_where_they_may_be_others(self, world, worker, watched, others):
        if others:
            world.registry.register(DOMAIN, "Other", lambda _command, _context: None)
        sent = await self.sent(world, *(Take(purse_id=uuid4(), amount=1) for _ in range(64)))
        await self.done(world, worker, *sent, concurrency=1)

        assert max(map(len, watched.committed)) == 1 if others else max(map(len, watched.committed)) >= 16

    async def test_the_next_group_is_on_its_way_before_who_waited_for_the_last_is_told(self, world, worker, watched):
        grouping, in_hand = worker._execution.grouping, []

        async def note(group: Sequence[ToCommit]) -> None:
            in_hand.append(grouping._in_hand)
            await eventually(lambda: not grouping._gathering.waiting)  # the next group is decided on meanwhile

        watched.before = note
        sent = await self.sent(world, *(Take(purse_id=uuid4(), amount=1) for _ in range(32)))
        await self.done(world, worker, *sent, concurrency=32)

        assert in_hand[:2] == [32, 32]

    async def test_what_is_left_over_waits_for_those_who_come_next(self, world, worker, watched):
        sent = await self.sent(world, *(Take(purse_id=uuid4(), amount=1) for _ in range(1_000)))
        await self.done(world, worker, *sent, concurrency=64)

        sizes = [len(each) for each in watched.committed[:-1]]
        assert len([size for size in sizes if size < 16]) <= 1, sizes  # commands come late once, at most

    async def test_a_command_alone_is_a_group_alone(self, world, worker, watched):
        sent = await self.sent(world, Take(purse_id=uuid4(), amount=1))
        await self.done(world, worker, *sent)

        assert [len(each) for each in watched.committed] == [1]

    async def test_whoever_is_overtaken_decides_again_in_the_same_attempt(self, world, worker, watched, purses):
        purse_id, well, quicker = uuid4(), uuid4(), []

        async def overtake(group: Sequence[ToCommit]) -> None:
            if any(each.consequence.stream_id.id == purse_id for each in group):
                quicker.append(await purses.execute(purse_id, Take(purse_id=purse_id, amount=1000)))

        watched.before = overtake
        sent = await self.sent(
            world, *(Take(purse_id=purse_id, amount=1) for _ in range(5)), Take(purse_id=well, amount=1)
        )
        known = await self.done(world, worker, *sent)

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert Fate.MOVED in watched.fates
        assert len(quicker) >= 2
        assert watched.held  # whoever was overtaken twice holds the stream first
        assert (await purses.load(purse_id)).state == Sum(1000 * len(quicker) + 5)

    async def test_who_is_overtaken_each_time_is_given_back_and_spends_no_attempt(
        self, world, worker, watched, purses, monkeypatch
    ):
        monkeypatch.setattr("mainstay.commands.grouping.TRIES", 2)
        purse_id = uuid4()

        async def overtake(group: Sequence[ToCommit]) -> None:
            if len(watched.committed) <= 4:
                await purses.execute(purse_id, Take(purse_id=purse_id, amount=1000))

        watched.before = overtake
        (sent,) = await self.sent(world, Take(purse_id=purse_id, amount=1))
        (known,) = await self.done(world, worker, sent)

        assert (known.status, known.attempts) == (S.COMPLETED, 1)
        assert (await world.events(sent)).count(A.GIVEN_BACK) == 2
        assert (await purses.load(purse_id)).state == Sum(4001)

    async def test_a_stream_that_somebody_holds_keeps_nobody_else_waiting(
        self, world, worker, watched, purses, event_store
    ):
        held, well = uuid4(), [uuid4() for _ in range(5)]
        await purses.execute(held, Take(purse_id=held, amount=1))
        async with world.working(worker, concurrency=16):
            async with event_store.transaction() as tx:
                purse = await purses.load(held, conn=tx)
                purse.execute(Take(purse_id=held, amount=1))
                await purses.save(purse, conn=tx)
                waits, *go_on = await self.sent(world, *(Take(purse_id=each, amount=1) for each in (held, *well)))
                await world.settled(*go_on)
                await eventually(lambda: Fate.LOCKED in watched.fates)
                assert await world.status(waits) not in {S.COMPLETED, S.FAILED}
            found = await world.settled(waits)

        assert (found.status, found.attempts) == (S.COMPLETED, 1)
        assert (await purses.load(held)).state == Sum(3)

    async def test_a_hot_stream_leaves_room_for_others(self, world, worker, watched):
        hot = uuid4()
        commands = [Take(purse_id=hot, amount=1) for _ in range(48)]
        commands += [Take(purse_id=uuid4(), amount=1) for _ in range(16)]
        sent = await self.sent(world, *commands)
        known = await self.done(world, worker, *sent, concurrency=64)

        first = Counter(each.consequence.stream_id.id == hot for each in watched.committed[0])
        assert first[False] >= first[True] > 0  # though those of the hot one came first
        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}

    async def test_a_commit_of_which_nobody_knows_is_repeated_and_decides_nothing_twice(
        self, world, worker, watched, purses
    ):
        broken = []

        async def lose(group: Sequence[ToCommit]) -> None:
            if len(broken) < 2:
                broken.append(group)
                raise StorageUnavailableError("the answer is lost")

        watched.after = lose
        ids = [uuid4() for _ in range(3)]
        sent = await self.sent(world, *(Pay(purse_id=each, amount=1, to=ids[0]) for each in ids * 4))
        known = await self.done(world, worker, *sent)

        assert len(broken) == 2
        assert Fate.REPEATED in watched.fates
        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert [(await purses.load(each)).version >= 4 for each in ids] == [True] * 3
        events = [(await purses.load(each)).version for each in ids[1:]]
        assert events == [4, 4]

    async def test_who_must_decide_is_told_though_the_answer_that_it_is_parked_is_lost(
        self, world, worker, watched, caplog
    ):
        broken = []

        async def lose(group: Sequence[ToCommit]) -> None:
            if not broken:
                broken.append(group)
                raise StorageUnavailableError("the answer is lost")

        watched.after = lose
        sent = await self.sent(world, Take(purse_id=uuid4(), amount=13), max_attempts=1)
        (known,) = await self.done(world, worker, *sent)

        assert watched.fates == [Fate.APPLIED, Fate.REPEATED]
        assert known.status is S.IN_TROUBLESHOOTING_QUEUE
        told = [record for record in caplog.records if "an operator must decide" in record.getMessage()]
        assert [record.command_id for record in told] == [str(sent[0])]

    async def test_a_group_that_was_not_committed_is_committed_when_it_can_be(self, world, worker, watched, purses):
        broken = []

        async def lose(group: Sequence[ToCommit]) -> None:
            if len(broken) < 2:
                broken.append(group)
                raise StorageUnavailableError("nobody answers")

        watched.before = lose
        purse_id = uuid4()
        sent = await self.sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(6)))
        known = await self.done(world, worker, *sent)

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert (await purses.load(purse_id)).state == Sum(6)

    async def test_what_rests_on_a_command_that_is_called_off_is_decided_again(self, world, worker, watched, purses):
        purse_id, reached = uuid4(), asyncio.Event()
        sent = await self.sent(world, *(Take(purse_id=purse_id, amount=n) for n in (1, 10, 100)))
        gone = sent[1]

        async def call_off(group: Sequence[ToCommit]) -> None:
            if not reached.is_set() and any(each.outcome.lease.command_id == gone for each in group):
                reached.set()
                lease = next(each.outcome.lease for each in group if each.outcome.lease.command_id == gone)
                worker._running[lease].cancel()  # as a lease that is lost does
                await eventually(lambda: lease not in worker._running)
                await eventually(lambda: len(worker._writer) == 0)

        watched.before = call_off
        known = await self.done(world, worker, *sent, concurrency=3)

        assert reached.is_set()
        assert {each.status for each in known} == {S.COMPLETED}
        assert (await purses.load(purse_id)).state == Sum(111)
        assert (await purses.get_version(purse_id)) == 3

    async def test_a_worker_that_stops_gives_back_what_it_could_not_commit(
        self, world, worker, watched, purses, event_store
    ):
        stuck, free = asyncio.Event(), asyncio.Event()

        async def hold(group: Sequence[ToCommit]) -> None:
            stuck.set()
            await free.wait()

        watched.before = hold
        sent = await self.sent(world, *(Take(purse_id=uuid4(), amount=1) for _ in range(4)))
        running = asyncio.create_task(worker.run(4, 0.2))
        await stuck.wait()
        await worker.stop(timeout=0.05)
        await running

        assert {await world.status(each) for each in sent} == {S.PENDING}
        free.set()
        known = await self.done(world, self.made(world, event_store), *sent)
        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}

    async def test_a_worker_that_drains_commits_what_it_has(self, world, worker, purses):
        purse_id = uuid4()
        await self.sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(30)))
        running = asyncio.create_task(worker.run(8, 0.2))
        await eventually(lambda: worker.in_flight_count > 0 or worker.handled_count > 0)
        await worker.drain()
        await running

        found = Counter(each.status for each in await world.bus.query_commands(domain=DOMAIN))
        assert set(found) <= {S.COMPLETED, S.PENDING}
        assert (await purses.load(purse_id)).version == found[S.COMPLETED] > 0

    async def test_snapshots_are_of_what_is_committed(self, world, event_store):
        worker = self.made(world, event_store, snapshots=SnapshotPolicy.every(4))
        purse_id = uuid4()
        sent = await self.sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(10)))
        await self.done(world, worker, *sent)

        found = await event_store.snapshots.load(StreamId("GroupedPurse", purse_id))
        assert found.version == 8
        loaded = await AggregateRepository(event_store, Purse, snapshots=SnapshotPolicy.every(4)).load(purse_id)
        assert (loaded.version, loaded.state) == (10, Sum(10))
        again = self.made(world, event_store, snapshots=SnapshotPolicy.every(4))
        (more,) = await self.sent(world, Take(purse_id=purse_id, amount=1))
        (known,) = await self.done(world, again, more)
        assert known.result["version"] == 11

    async def test_so_are_those_of_streams_that_are_held(self, world, event_store, purses):
        worker, purse_id = self.made(world, event_store, snapshots=SnapshotPolicy.every(1)), uuid4()
        watched = worker._execution.grouping.deciders._groups

        async def overtake(group: Sequence[ToCommit]) -> None:
            await purses.execute(purse_id, Take(purse_id=purse_id, amount=1))

        watched.before = overtake
        sent = await self.sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(4)))
        await self.done(world, worker, *sent)

        assert watched.held
        found = await event_store.snapshots.load(StreamId("GroupedPurse", purse_id))
        assert found.version == await purses.get_version(purse_id)
        again = AggregateRepository(event_store, Purse, snapshots=SnapshotPolicy.every(1))
        assert (await again.load(purse_id)).state == (await purses.load(purse_id)).state

    async def test_telemetry_tells_of_each_command_and_event(self, world, worker, event_store):
        ids = [uuid4() for _ in range(3)]
        with recorded_values() as values, recorded_spans() as spans:
            sent = await self.sent(world, *(Pay(purse_id=each, amount=1, to=ids[0]) for each in ids))
            refused = await self.sent(world, Pay(purse_id=ids[1], amount=500))
            async with world.working(worker, concurrency=16):
                await world.settled(*sent, *refused)
                await eventually(lambda: values.total(HANDLED, DOMAIN, "Take", "completed") == 3)

        assert values.total(APPENDED, "GroupedPurse", "GroupedPaid") == 6
        assert values.total(HANDLED, DOMAIN, "Pay", "completed") == 3
        assert values.total(HANDLED, DOMAIN, "Pay", "failed") == 1
        assert values.total(SENT, DOMAIN, "Take") == 3
        processed = {
            span.attributes["mainstay.command_id"]: span for span in spans.named(f"process {DOMAIN}__commands")
        }
        assert processed[str(refused[0])].attributes["error.type"] == "NOT_ENOUGH"
        for stream_id in ids:
            async for each in event_store.read_stream(StreamId("GroupedPurse", stream_id)):
                span = processed[str(each.event.causation_id)]
                assert f"{span.context.span_id:016x}" in each.event.metadata["traceparent"]

    async def test_a_store_with_inline_projections_decides_one_by_one(self, world, event_store):
        worker = world.worker(event_store=event_store)
        event_store._inline = [object()]
        assert worker._execution.grouping is not None
        assert world.worker(event_store=event_store)._execution.grouping is None

    async def test_two_workers_share_a_hot_stream(self, world, event_store, purses):
        hot, ids = uuid4(), [uuid4() for _ in range(6)]
        targets = [hot if n % 3 == 0 else ids[n % 6] for n in range(90)]
        sent = await self.sent(world, *(Take(purse_id=each, amount=1) for each in targets))
        first, second = (world.worker(event_store=event_store, retry_policy=AT_ONCE) for _ in range(2))
        async with world.working(first, concurrency=8), world.working(second, concurrency=8):
            await world.settled(*sent)
        known = [await world.known(each) for each in sent]

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert (await purses.load(hot)).state == Sum(30)
        assert sum([(await purses.load(each)).version for each in ids if each in targets]) == 60
