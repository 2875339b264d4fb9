"""The memory store: the contract, and what only it offers."""

from dataclasses import replace
from uuid import uuid4

import pytest

from mainstay.clock import FrozenClock
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.process import ProcessStatus
from mainstay.commands.store import CommandStore, NewBatch, Verb
from mainstay.errors import ConfigurationError, InvalidDomainError, InvalidQueueError, QueueNotFoundError
from mainstay.testing.contracts.commands import CommandStoreContract
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, new


class TestMemoryCommandStore(CommandStoreContract):
    @pytest.fixture
    def clock(self):
        return FrozenClock()

    @pytest.fixture
    async def store(self, clock):
        return MemoryCommandStore(clock)

    @pytest.fixture(autouse=True)
    def _hold_the_clock(self, clock):
        self.clock = clock

    async def create_queue(self, store, name):
        store.create_queue(name)

    async def replies(self, store, queue):
        return store.replies(queue)

    async def messages(self, store, domain):
        return store.messages(domain)

    async def expire_leases(self, store):
        self.clock.advance(10_000)

    async def make_due(self, store):
        self.clock.advance(10_000)

    def pass_time(self, store):
        self.clock.advance(0.25)

    async def let_time_pass(self, store, passed):
        self.clock.advance(passed)

    # -- what only the memory store offers, or must say for itself ----------------------------------------------------
    async def test_it_keeps_the_protocol(self, store):
        assert isinstance(store, CommandStore)

    async def test_without_a_clock_it_goes_by_the_machines(self):
        store = MemoryCommandStore()
        await store.ensure_queue(DOMAIN)
        (command_id,) = await self.sent(store)

        assert (await store.get(DOMAIN, command_id)).created_at.tzinfo is not None

    async def test_names_that_pgmq_refuses_are_refused_here_too(self, store):
        with pytest.raises(InvalidDomainError):
            await store.ensure_queue("Orders")
        with pytest.raises(InvalidQueueError):
            store.create_queue("a.b")

    async def test_what_has_no_queue_says_so(self, store):
        with pytest.raises(QueueNotFoundError):
            store.replies("nowhere")
        with pytest.raises(QueueNotFoundError):
            await store.receive("nobody", limit=1, lease_seconds=1, worker="w1")

    async def test_a_completion_command_without_a_queue_is_refused_when_the_batch_is_created(self, store):
        for change in ({"domain": "nobody"}, {"reply_to": "nowhere"}):
            end = new(**change)
            with pytest.raises(QueueNotFoundError):
                await store.create_batch(NewBatch(DOMAIN, end.command_id, None, None, end), [new()])

    async def test_only_its_own_open_transaction_is_taken(self, store):
        async with MemoryCommandStore().transaction() as foreign, store.transaction() as ended:
            pass

        for conn in (foreign, ended, "a connection"):
            with pytest.raises(ConfigurationError, match="conn"):
                await store.send([new()], conn=conn)

    async def test_what_it_gives_away_cannot_change_what_it_holds(self, store):
        received = await self.in_hand(store, data={"list": [1]}, reply_to=REPLIES)
        await self.say(store, received, Verb.COMPLETE, result=b'{"list":[1]}')

        received.command.data["list"].append(2)
        (await self.known(store, received.command.command_id)).data["list"].append(2)
        (await self.known(store, received.command.command_id)).result["list"].append(2)
        known = await self.known(store, received.command.command_id)

        assert known.data == known.result == {"list": [1]}


class TestMemoryFsck:
    """The check is shown to fail where it must: each fault is made by hand."""

    @pytest.fixture
    async def store(self):
        store = MemoryCommandStore(FrozenClock())
        await store.ensure_queue(DOMAIN)
        store.create_queue(REPLIES)
        await store.send([new(reply_to=REPLIES)])
        return store

    @pytest.fixture
    def row(self, store):
        (row,) = store._state.rows.values()
        return row

    async def found(self, store):
        return [finding.invariant for finding in (await store.fsck()).findings]

    async def test_a_sound_store_has_no_fault(self, store):
        assert await self.found(store) == []

    async def test_a_status_without_its_audit_is_found(self, store, row):
        row.status = CommandStatus.IN_PROGRESS

        assert await self.found(store) == ["audit_path"]

    async def test_an_illegal_audit_trail_is_found(self, store, row):
        trail = store._state.audit[row.new.command_id]
        trail.append(replace(trail[0], audit_id=99))

        assert await self.found(store) == ["audit_path"]

    async def test_a_lost_message_is_found(self, store):
        store._state.queues[DOMAIN].clear()

        assert await self.found(store) == ["one_place"]

    async def test_a_command_in_two_places_is_found(self, store, row):
        store._state.deferred[DOMAIN].add(row.key)

        assert await self.found(store) == ["one_place"]

    async def test_a_missing_reply_is_found(self, store):
        (received,) = await store.receive(DOMAIN, limit=1, lease_seconds=1, worker="w1")
        await TestMemoryCommandStore().say(store, received, Verb.COMPLETE)
        store._state.replies[REPLIES].clear()

        assert await self.found(store) == ["one_reply"]

    async def test_a_process_that_stands_still_or_skips_a_line_is_found(self, store):
        known = await TestMemoryCommandStore().started(store)
        key, step = known.process_id, known.steps[0]
        assert await self.found(store) == []

        processes, trail = store._state.processes, store._state.process_audit
        processes[key] = replace(known, status=ProcessStatus.COMPLETED)
        assert await self.found(store) == ["process_step", "process_audit"]
        processes[key] = replace(known, steps=(replace(step, command_id=uuid4()),))
        assert await self.found(store) == ["process_step"]
        processes[key] = replace(known, steps=())
        assert await self.found(store) == ["process_step", "process_audit"]
        processes[key] = known
        trail.pop()
        assert await self.found(store) == ["process_audit"]

    async def test_a_batch_that_ended_without_its_completion_command_is_found(self, store):
        end = new()
        await store.create_batch(NewBatch(DOMAIN, end.command_id, None, None, end), [])
        await store.fold_batches(DOMAIN)
        store._state.rows.pop((DOMAIN, end.command_id))
        store._state.queues[DOMAIN].popitem()

        assert await self.found(store) == ["batch_end"]
