"""Processes that events begin and move: a suite for every place where commands and checkpoints are together."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    BusinessRuleException,
    CancelDeadline,
    Deadline,
    DomainEvent,
    EventProcess,
    EventProcesses,
    HandlerRegistry,
    ProcessEventType,
    ProcessManager,
    ProcessStatus,
    RetryPolicy,
    Step,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    Worker,
    current_actor,
    current_tenant,
    on_event,
    register_processes,
)
from mainstay.commands.store import CommandFilter
from mainstay.projections.store import Checkpoint
from tests.support.waiting import eventually

HOME, SHOP = "fulfilment", "shop"
PATIENCE = 40.0
QUICK = SubscriptionConfig(poll=0.02, lease=2.0, retry_policy=RetryPolicy(max_attempts=2, backoff_schedule=[0.0]))
P, E = ProcessStatus, ProcessEventType


class Ordered(DomainEvent, aggregate_type="FulfilledOrder", event_type="FulfilledOrderOrdered"):
    article: str = "lamp"


class PaidFor(DomainEvent, aggregate_type="FulfilledPayment", event_type="FulfilledPaymentPaidFor"):
    order_id: str
    amount: int = 1


class Delivered(DomainEvent, aggregate_type="FulfilledParcel", event_type="FulfilledParcelDelivered"):
    order_id: str | None


class Fulfilling(BaseModel):
    article: str = ""
    paid: int = 0
    shipped: bool = False
    delivered: bool = False
    reminders: int = 0
    seen: list[tuple[str, str | None, str | None]] = []

    def look(self, what: str) -> None:
        tenant = current_tenant()
        self.seen.append((what, None if tenant is None else str(tenant), current_actor()))


class Fulfil(EventProcess[Fulfilling]):
    """Charge what was ordered; ship when it is paid; done when it is delivered. Remind who does not pay."""

    process_type = "Fulfil"
    domain = HOME
    state_class = Fulfilling
    refused: int | None = None

    def state_for(self, event):
        return Fulfilling(article=getattr(event, "article", ""))

    @on_event(Ordered, begins=True)
    def ordered(self, state, event):
        state.look("ordered")
        return [Step(SHOP, "Charge", {"article": event.article}), Deadline("payment", 3600)]

    @on_event(PaidFor, by="order_id")
    async def paid_for(self, state, event):
        if event.amount == self.refused:
            raise ValueError("not this one")
        state.look("paid")
        state.paid += event.amount
        return [CancelDeadline("payment"), Step(SHOP, "Ship", {"article": state.article})]

    @on_event(Delivered, by=lambda event: event.order_id)
    def was_delivered(self, state, event):
        state.delivered = True

    def on_reply(self, state, reply):
        state.look(reply.step)
        state.shipped = state.shipped or reply.step == "Ship"

    def on_deadline(self, state, name):
        state.reminders += 1
        return [Step(SHOP, "Remind", {"n": state.reminders}), Deadline(name, 3600)]

    def compensate(self, state, done):
        return Step(SHOP, "Refund", {}) if done.step == "Charge" else None

    def is_done(self, state):
        return state.delivered


class EventProcessScenarios:
    """Events and replies move one process alike, and each event once."""

    # -- given by subclasses -------------------------------------------------------------------------------------------
    @pytest.fixture
    def event_store(self, checkpoints):
        raise NotImplementedError

    @pytest.fixture
    async def checkpoints(self):
        raise NotImplementedError

    async def make_due(self, checkpoints) -> None:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    async def sound(self, checkpoints):
        yield
        assert (await checkpoints.commands.fsck()).findings == ()

    @pytest.fixture
    def fulfil(self) -> Fulfil:
        return Fulfil()

    # -- words ---------------------------------------------------------------------------------------------------------
    async def happen(self, event_store, event: DomainEvent, stream: str = "1", tenant: Any = None) -> DomainEvent:
        await event_store.append(StreamId(event.aggregate_type, stream, tenant), [event])
        return event

    async def tell(self, event_store, checkpoints, *processes: Any, config: SubscriptionConfig = QUICK) -> Any:
        """Tell processes of everything that there is."""
        manager = SubscriptionManager(event_store, checkpoints)
        await manager.subscribe(EventProcesses(*processes), config)
        await manager.start()
        await manager.drain(PATIENCE)
        return manager

    async def process(self, checkpoints, fulfil: Fulfil, key: str = "1", tenant: Any = None) -> Any:
        found = await checkpoints.commands.processes.get(fulfil.process_id_of(key, tenant))
        assert found is not None
        return found

    async def sent(self, checkpoints, domain: str = SHOP) -> list[Any]:
        found = await checkpoints.commands.query(CommandFilter(domain=domain), limit=10_000, offset=0)
        return [each for each in reversed(found) if each.command_type != "Reply"]

    async def kinds(self, checkpoints) -> Counter[str]:
        return Counter(each.command_type for each in await self.sent(checkpoints))

    @asynccontextmanager
    async def working(self, checkpoints, fulfil: Fulfil, *, refuses: str = ""):
        """Workers of the shop, and of the process."""
        registry = HandlerRegistry()
        register_processes(registry, fulfil)

        def handle(command, ctx):
            if command.command_type == refuses:
                raise BusinessRuleException("NO", "no")

        for command_type in ("Charge", "Ship", "Remind", "Refund"):
            registry.register(SHOP, command_type, handle)
        workers = [Worker(checkpoints.commands, domain, registry) for domain in (HOME, SHOP)]
        for domain in (HOME, SHOP):
            await checkpoints.commands.ensure_queue(domain)
        running = [asyncio.create_task(worker.run(poll_interval=0.05)) for worker in workers]
        try:
            yield
        finally:
            for worker in workers:
                await worker.stop(timeout=10)
            await asyncio.gather(*running)

    async def stands(self, checkpoints, fulfil: Fulfil, status: ProcessStatus, key: str = "1") -> Any:
        """Wait until a process stands so."""
        found: list[Any] = []

        async def look():
            found[:] = [await self.process(checkpoints, fulfil, key)]
            return found[0].status is status

        await eventually(look, timeout=PATIENCE)
        return found[0]

    # -- what it is ----------------------------------------------------------------------------------------------------
    async def test_events_and_replies_move_a_process_to_its_end(self, event_store, checkpoints, fulfil):
        correlation_id = uuid4()
        ordered = await self.happen(
            event_store, Ordered(article="desk", correlation_id=correlation_id, actor_id="ann"), tenant="acme"
        )
        await self.happen(event_store, Ordered(article="other"))
        await self.tell(event_store, checkpoints, fulfil)
        key = fulfil.process_id_of("1", "acme")
        begun = await checkpoints.commands.processes.get(key)
        charges = [each for each in await self.sent(checkpoints) if each.command_type == "Charge"]
        (charge,) = [each for each in charges if each.tenant_id == "acme"]
        async with self.working(checkpoints, fulfil):

            async def is_waiting():
                return (await checkpoints.commands.processes.get(key)).status is P.WAITING_FOR_EVENT

            await eventually(is_waiting, timeout=PATIENCE)
            paid = await self.happen(event_store, PaidFor(order_id="1", actor_id="bob"), "p1", "acme")
            await self.tell(event_store, checkpoints, fulfil)
            await eventually(is_waiting, timeout=PATIENCE)
            delivered = await self.happen(event_store, Delivered(order_id="1"), "d1", "acme")
            await self.tell(event_store, checkpoints, fulfil)
        done = await checkpoints.commands.processes.get(key)
        trail = [each.event_type for each in await checkpoints.commands.processes.audit_trail(key)]
        ship = next(each for each in await self.sent(checkpoints) if each.command_type == "Ship")

        assert (begun.status, begun.state["article"]) == (P.WAITING_FOR_REPLY, "desk")
        assert (begun.correlation_id, begun.tenant_id, begun.actor_id) == (correlation_id, "acme", "ann")
        assert list(begun.deadlines) == ["payment"]
        assert len(charges) == 2
        assert (charge.causation_id, charge.correlation_id) == (ordered.event_id, correlation_id)
        assert (charge.tenant_id, charge.actor_id) == ("acme", "ann")
        assert (ship.causation_id, ship.tenant_id, ship.actor_id) == (paid.event_id, "acme", "bob")
        assert (done.status, done.deadlines) == (P.COMPLETED, {})
        assert [each.event_id for each in done.events] == [ordered.event_id, paid.event_id, delivered.event_id]
        assert done.state["seen"] == [
            ["ordered", "acme", "ann"],
            ["Charge", "acme", "ann"],
            ["paid", "acme", "bob"],
            ["Ship", "acme", "ann"],
        ]
        assert trail == [
            E.STARTED, E.EVENT_TAKEN, E.STEP_SENT, E.DEADLINE_SET, E.STEP_SUCCEEDED, E.EVENT_TAKEN, E.DEADLINE_CANCELED,
            E.STEP_SENT, E.STEP_SUCCEEDED, E.EVENT_TAKEN, E.COMPLETED,
        ]  # fmt: skip
        assert (await self.process(checkpoints, fulfil)).state["article"] == "other"

    async def test_an_event_that_is_told_again_moves_nothing(self, event_store, checkpoints, fulfil):
        await self.happen(event_store, Ordered())
        await self.happen(event_store, PaidFor(order_id="1"), "p1")
        await self.happen(event_store, PaidFor(order_id="1", amount=5), "p1")
        await self.tell(event_store, checkpoints, fulfil)
        before = await self.process(checkpoints, fulfil)
        await checkpoints.reset("processes", Checkpoint(), actor="ann")
        await self.tell(event_store, checkpoints, fulfil)

        assert await self.process(checkpoints, fulfil) == before
        assert before.state["paid"] == 6
        assert await self.kinds(checkpoints) == {"Charge": 1, "Ship": 2}

    async def test_events_of_many_streams_find_their_processes_in_order(self, event_store, checkpoints, fulfil):
        for n in range(12):
            await self.happen(event_store, Ordered(article=str(n)), str(n))
        for n in range(12):
            await self.happen(event_store, PaidFor(order_id=str(n), amount=n), f"p{n % 3}")
        await self.tell(event_store, checkpoints, fulfil, config=SubscriptionConfig(poll=0.02, lease=2.0, batch_size=5))
        found = [await self.process(checkpoints, fulfil, str(n)) for n in range(12)]

        assert [(each.state["article"], each.state["paid"]) for each in found] == [(str(n), n) for n in range(12)]
        assert await self.kinds(checkpoints) == {"Charge": 12, "Ship": 12}

    async def test_an_event_that_belongs_to_no_process_is_passed_by(self, event_store, checkpoints, fulfil):
        await self.happen(event_store, PaidFor(order_id="1"), "p1")
        await self.happen(event_store, Delivered(order_id=None), "d1")
        await self.happen(event_store, Ordered(), tenant="acme")
        await self.happen(event_store, PaidFor(order_id="1"), "p1", "globex")
        await self.tell(event_store, checkpoints, fulfil)

        assert await self.kinds(checkpoints) == {"Charge": 1}
        assert (await self.process(checkpoints, fulfil, tenant="acme")).state["paid"] == 0

    async def test_a_process_that_has_ended_notes_an_event_and_is_not_moved(self, event_store, checkpoints, fulfil):
        await self.happen(event_store, Ordered())
        await self.happen(event_store, Delivered(order_id="1"), "d1")
        await self.tell(event_store, checkpoints, fulfil)
        async with self.working(checkpoints, fulfil):
            await self.stands(checkpoints, fulfil, P.COMPLETED)
        late = await self.happen(event_store, PaidFor(order_id="1"), "p1")
        await self.tell(event_store, checkpoints, fulfil)
        await checkpoints.reset("processes", Checkpoint(), actor="ann")
        await self.tell(event_store, checkpoints, fulfil)
        found = await self.process(checkpoints, fulfil)
        trail = [each.event_type for each in await checkpoints.commands.processes.audit_trail(found.process_id)]

        assert (found.events[-1].event_id, found.events[-1].was_taken) == (late.event_id, False)
        assert trail.count(E.EVENT_IGNORED) == 1
        assert await self.kinds(checkpoints) == {"Charge": 1}

    async def test_a_process_started_by_hand_is_found_by_its_events(self, event_store, checkpoints, fulfil):
        key = fulfil.process_id_of("1")
        manager = ProcessManager(checkpoints.commands)
        await manager.start(fulfil, Fulfilling(article="by hand"), process_id=key)
        before = await manager.get(key)
        await self.happen(event_store, Ordered())
        await self.tell(event_store, checkpoints, fulfil)

        assert before is not None
        assert before.status is P.WAITING_FOR_EVENT
        assert (await self.process(checkpoints, fulfil)).state["article"] == "by hand"
        assert await self.kinds(checkpoints) == {"Charge": 1}

    # -- deadlines -----------------------------------------------------------------------------------------------------
    async def test_a_deadline_tells_once_and_a_canceled_one_never(self, event_store, checkpoints, fulfil):
        await self.happen(event_store, Ordered())
        await self.tell(event_store, checkpoints, fulfil)
        async with self.working(checkpoints, fulfil):
            await self.stands(checkpoints, fulfil, P.WAITING_FOR_EVENT)
            first = (await self.process(checkpoints, fulfil)).deadlines["payment"]
            await self.make_due(checkpoints)

            async def reminded():
                found = await self.process(checkpoints, fulfil)
                return found.state["reminders"] == 1 and found.status is P.WAITING_FOR_EVENT

            await eventually(reminded, timeout=PATIENCE)
            again = (await self.process(checkpoints, fulfil)).deadlines["payment"]
            await self.happen(event_store, PaidFor(order_id="1"), "p1")
            await self.tell(event_store, checkpoints, fulfil)
            await self.make_due(checkpoints)

            async def is_over():
                known = await checkpoints.commands.get(HOME, again)
                return known.status == "COMPLETED"

            await eventually(is_over, timeout=PATIENCE)
            found = await self.stands(checkpoints, fulfil, P.WAITING_FOR_EVENT)

        assert first != again
        assert (found.state["reminders"], found.deadlines) == (1, {})
        assert await self.kinds(checkpoints) == {"Charge": 1, "Remind": 1, "Ship": 1}

    # -- failing -------------------------------------------------------------------------------------------------------
    async def test_an_event_that_fails_waits_with_its_process_and_the_others_go_on(
        self, event_store, checkpoints, fulfil
    ):
        fulfil.refused = 13
        for key in ("1", "2"):
            await self.happen(event_store, Ordered(), key)
        await self.happen(event_store, PaidFor(order_id="1", amount=13), "p1")
        await self.happen(event_store, PaidFor(order_id="2", amount=2), "p1")
        await self.happen(event_store, PaidFor(order_id="1", amount=1), "p2")
        manager = await self.tell(event_store, checkpoints, fulfil)
        waiting = await self.process(checkpoints, fulfil)
        other = await self.process(checkpoints, fulfil, "2")
        fulfil.refused = None
        replayed = await manager.replay("processes", actor="ann")

        assert (waiting.state["paid"], other.state["paid"]) == (0, 2)
        assert (replayed.handled, replayed.failed) == (2, {})
        assert (await self.process(checkpoints, fulfil)).state["paid"] == 14
        assert await self.kinds(checkpoints) == {"Charge": 2, "Ship": 3}

    async def test_a_process_that_is_canceled_undoes_what_was_done_in_its_own_name(
        self, event_store, checkpoints, fulfil
    ):
        await self.happen(event_store, Ordered(actor_id="ann"), tenant="acme")
        await self.tell(event_store, checkpoints, fulfil)
        key = fulfil.process_id_of("1", "acme")

        async def status():
            return (await checkpoints.commands.processes.get(key)).status

        async with self.working(checkpoints, fulfil):

            async def is_waiting():
                return await status() is P.WAITING_FOR_EVENT

            await eventually(is_waiting, timeout=PATIENCE)
            await ProcessManager(checkpoints.commands).cancel(key, reason="a test")

            async def is_canceled():
                return await status() is P.CANCELED

            await eventually(is_canceled, timeout=PATIENCE)
        refund = next(each for each in await self.sent(checkpoints) if each.command_type == "Refund")

        assert (refund.tenant_id, refund.actor_id) == ("acme", "ann")

    async def test_a_process_that_is_not_done_in_time_is_undone_though_it_waits_for_an_event(
        self, event_store, checkpoints
    ):
        class Hasty(Fulfil):
            deadline = 60

        hasty = Hasty()
        await self.happen(event_store, Ordered())
        await self.tell(event_store, checkpoints, hasty)
        async with self.working(checkpoints, hasty):
            await self.stands(checkpoints, hasty, P.WAITING_FOR_EVENT)
            await self.make_due(checkpoints)
            found = await self.stands(checkpoints, hasty, P.COMPENSATED)

        assert (found.error_code, found.deadlines) == ("DEADLINE", {})
        assert [step.name for step in found.steps if step.undoes] == ["Refund"]

    async def test_a_reply_and_an_event_at_the_same_time_both_count(self, event_store, checkpoints, fulfil):
        keys = [str(n) for n in range(8)]
        for key in keys:
            await self.happen(event_store, Ordered(), key)
        await self.tell(event_store, checkpoints, fulfil)
        for key in keys:
            await self.happen(event_store, PaidFor(order_id=key), f"p{key}")
        async with self.working(checkpoints, fulfil):
            await self.tell(event_store, checkpoints, fulfil)
            found = [await self.stands(checkpoints, fulfil, P.WAITING_FOR_EVENT, key) for key in keys]

        assert {(each.state["paid"], each.state["shipped"], len(each.steps)) for each in found} == {(1, True, 2)}
        assert await self.kinds(checkpoints) == {"Charge": 8, "Ship": 8}
