"""`commandbus.process`: the names of reliable-cmd 0.2.2, as its users write them.

The guide and the README have no page on processes, so nothing here is a snippet of theirs: the program below is written
against the names and signatures of the package itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID, uuid4

import pytest

from commandbus import (
    BusinessRuleException,
    Command,
    CommandBus,
    HandlerContext,
    HandlerRegistry,
    PermanentCommandError,
    PgmqClient,
    TroubleshootingQueue,
    Worker,
    handler,
)
from commandbus.models import Reply, ReplyOutcome
from commandbus.process import (
    BaseProcessManager,
    PostgresProcessRepository,
    ProcessAuditEntry,
    ProcessCommand,
    ProcessMetadata,
    ProcessReplyRouter,
    ProcessRepository,
    ProcessResponse,
    ProcessStatus,
)
from mainstay.errors import ConfigurationError, DuplicateProcessError, InvalidInputError, ProcessNotFoundError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.waiting import eventually

DOMAIN = "travel"
REPLY_QUEUE = "travel__process_replies"
ENDED = (ProcessStatus.COMPLETED, ProcessStatus.COMPENSATED, ProcessStatus.CANCELED, ProcessStatus.FAILED)


# -- the program -------------------------------------------------------------------------------------------------------


class TripStep(StrEnum):
    """Steps of a trip."""

    FLIGHT = "BookFlight"
    HOTEL = "BookHotel"
    CANCEL_FLIGHT = "CancelFlight"


@dataclass
class TripState:
    """What a trip knows."""

    city: str
    depart: datetime
    flight_number: str | None = None
    hotel_name: str | None = None
    refused: str | None = None
    sent: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "depart": self.depart.isoformat()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**{**data, "depart": datetime.fromisoformat(data["depart"])})


@dataclass(frozen=True)
class FlightRequest:
    """What a flight is booked with."""

    city: str

    def to_dict(self) -> dict[str, Any]:
        return {"city": self.city}


@dataclass(frozen=True)
class FlightResponse:
    """What a booked flight is."""

    number: str

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(number=data["number"])


class TripProcess(BaseProcessManager[TripState, TripStep]):
    """Book a flight, then a hotel; without a hotel the flight is given back."""

    @property
    def process_type(self) -> str:
        return "Trip"

    @property
    def domain(self) -> str:
        return DOMAIN

    @property
    def state_class(self) -> type[TripState]:
        return TripState

    def create_initial_state(self, initial_data: dict[str, Any]) -> TripState:
        return TripState(city=initial_data["city"], depart=datetime(2026, 1, 2, tzinfo=UTC))

    def get_first_step(self, state: TripState) -> TripStep:
        return TripStep.FLIGHT

    async def build_command(self, step: TripStep, state: TripState) -> ProcessCommand[Any]:
        match step:
            case TripStep.FLIGHT:
                return ProcessCommand(command_type=step, data=FlightRequest(city=state.city))
            case TripStep.HOTEL:
                return ProcessCommand(command_type=step, data={"city": state.city})
            case TripStep.CANCEL_FLIGHT:
                return ProcessCommand(command_type=step, data={"number": state.flight_number})

    def update_state(self, state: TripState, step: TripStep, reply: Reply) -> None:
        match step:
            case TripStep.FLIGHT:
                response = ProcessResponse.from_reply(reply, FlightResponse)
                if response.result:
                    state.flight_number = response.result.number
            case TripStep.HOTEL:
                if reply.outcome == ReplyOutcome.SUCCESS:
                    state.hotel_name = reply.data["hotel"]
                else:
                    state.refused = reply.error_code
            case TripStep.CANCEL_FLIGHT:
                state.flight_number = None

    def get_next_step(self, current_step: TripStep, reply: Reply, state: TripState) -> TripStep | None:
        return {TripStep.FLIGHT: TripStep.HOTEL, TripStep.HOTEL: None}[current_step]

    def get_compensation_step(self, step: TripStep) -> TripStep | None:
        return {TripStep.FLIGHT: TripStep.CANCEL_FLIGHT}.get(step)

    async def before_send_command(
        self,
        process: ProcessMetadata[TripState, TripStep],
        step: TripStep,
        command_id: UUID,
        command_payload: dict[str, Any],
        conn: Any,
    ) -> None:
        process.state.sent.append(f"{step.name} {process.process_id}")
        command_payload["booking"] = str(command_id)


class TripHandlers:
    """What books; a city without hotels, or without an airport."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @handler(domain=DOMAIN, command_type="BookFlight")
    async def flight(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        await self.gate.wait()
        if cmd.data["city"] == "Nowhere":
            raise PermanentCommandError(code="NO_AIRPORT", message="there is no airport")
        assert cmd.data["booking"] == str(cmd.command_id)
        self.done.append("flight")
        return {"number": "LH 1"}

    @handler(domain=DOMAIN, command_type="BookHotel")
    async def hotel(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        if cmd.data["city"] == "Full":
            raise BusinessRuleException(code="NO_ROOM", message="there is no room")
        self.done.append("hotel")
        return {"hotel": "Ritz"}

    @handler(domain=DOMAIN, command_type="CancelFlight")
    async def cancel_flight(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        self.done.append(f"canceled {cmd.data['number']}")
        return {}


# -- running it --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def bus(pool):
    bus = CommandBus(pool)
    yield bus
    await bus.close()


@pytest.fixture
async def repo(pool):
    return PostgresProcessRepository(pool)


@pytest.fixture
async def trip(pool, bus, repo):
    await PgmqClient(pool).create_queue(REPLY_QUEUE)  # as the package asked for
    return TripProcess(command_bus=bus, process_repo=repo, reply_queue=REPLY_QUEUE, pool=pool)


@pytest.fixture
def handlers():
    return TripHandlers()


@pytest.fixture
def running(pool, repo, trip, handlers):
    """The worker of the steps and the router of the replies, for the length of a block; nothing may be amiss then."""

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        registry = HandlerRegistry()
        registry.register_instance(handlers)
        worker = Worker(pool=pool, domain=DOMAIN, registry=registry)
        router = ProcessReplyRouter(
            pool=pool,
            process_repo=repo,
            managers={trip.process_type: trip},
            reply_queue=REPLY_QUEUE,
            domain=DOMAIN,
            visibility_timeout=30,
        )
        tasks = [
            asyncio.create_task(worker.run(concurrency=2, poll_interval=0.2)),
            asyncio.create_task(router.run(concurrency=2, poll_interval=0.2, use_notify=True)),
        ]
        await eventually(lambda: worker.is_running and router.is_running)
        try:
            yield
        finally:
            await router.stop(timeout=10)
            await worker.stop(timeout=10)
            await asyncio.gather(*tasks)
        assert (await PostgresCommandStore(pool).fsck()).findings == ()

    return run


async def standing(repo: ProcessRepository, process_id: UUID, *statuses: ProcessStatus) -> ProcessMetadata[Any, Any]:
    async def look() -> ProcessMetadata[Any, Any] | None:
        found = await repo.get_by_id(DOMAIN, process_id)
        return found if found is not None and found.status in statuses else None

    return await eventually(look, timeout=60)


async def test_a_process_goes_through_its_steps(repo, trip, handlers, running):
    batch_id = uuid4()
    async with running():
        process_id = await trip.start({"city": "Rome"}, batch_id=batch_id)
        process = await standing(repo, process_id, *ENDED)

    assert (process.status, process.current_step) == (ProcessStatus.COMPLETED, TripStep.HOTEL)
    assert (process.domain, process.process_type, process.batch_id) == (DOMAIN, "Trip", batch_id)
    assert handlers.done == ["flight", "hotel"]
    state = TripState.from_dict(process.state)
    assert (state.flight_number, state.hotel_name) == ("LH 1", "Ritz")
    assert state.sent == [f"FLIGHT {process_id}", f"HOTEL {process_id}"]
    trail = await repo.get_audit_trail(DOMAIN, process_id)
    assert [(each.step_name, each.command_type, each.reply_outcome) for each in trail] == [
        ("BookFlight", "BookFlight", ReplyOutcome.SUCCESS),
        ("BookHotel", "BookHotel", ReplyOutcome.SUCCESS),
    ]
    assert trail[0].command_data == {"city": "Rome", "booking": str(trail[0].command_id)}
    assert trail[0].reply_data == {"number": "LH 1"}
    assert trail[0].received_at >= trail[0].sent_at
    assert await repo.get_completed_steps(DOMAIN, process_id) == ["BookFlight", "BookHotel"]
    assert await repo.get_by_id("elsewhere", process_id) is None


async def test_the_correlation_of_the_steps_is_the_process(bus, repo, trip, running):
    async with running():
        process_id = await trip.start({"city": "Rome"})
        await standing(repo, process_id, *ENDED)
        (step, _) = await repo.get_audit_trail(DOMAIN, process_id)

    assert (await bus.get_command(DOMAIN, step.command_id)).correlation_id == process_id


async def test_a_refused_step_has_the_others_undone_before_the_process_ends(repo, trip, handlers, running):
    async with running():
        process_id = await trip.start({"city": "Full"})
        process = await standing(repo, process_id, *ENDED)

    assert (process.status, process.error_code) == (ProcessStatus.COMPENSATED, "NO_ROOM")
    assert handlers.done == ["flight", "canceled LH 1"]
    assert (process.state["refused"], process.state["flight_number"]) == ("NO_ROOM", None)


async def test_a_step_in_the_troubleshooting_queue_holds_the_process_up(pool, repo, trip, running):
    queue = TroubleshootingQueue(pool)
    async with running():
        process_id = await trip.start({"city": "Nowhere"})
        await standing(repo, process_id, ProcessStatus.WAITING_FOR_TSQ)
        (held,) = await repo.find_by_status(DOMAIN, [ProcessStatus.WAITING_FOR_TSQ])
        assert await repo.find_by_status(DOMAIN, [ProcessStatus.WAITING_FOR_REPLY]) == []
        (item,) = await queue.list_troubleshooting(DOMAIN)
        await queue.operator_complete(DOMAIN, item.command_id, {"number": "by train"})
        process = await standing(repo, process_id, *ENDED)

    assert held.process_id == process_id
    assert (process.status, process.state["flight_number"]) == (ProcessStatus.COMPLETED, "by train")


async def test_a_step_that_an_operator_cancels_cancels_the_process(pool, repo, trip, handlers, running):
    queue = TroubleshootingQueue(pool)
    async with running():
        process_id = await trip.start({"city": "Nowhere"})
        await standing(repo, process_id, ProcessStatus.WAITING_FOR_TSQ)
        (item,) = await queue.list_troubleshooting(DOMAIN)
        await queue.operator_cancel(DOMAIN, item.command_id, "no such place")
        process = await standing(repo, process_id, *ENDED)

    assert process.status is ProcessStatus.CANCELED
    assert handlers.done == []


async def test_a_process_belongs_to_the_transaction_that_starts_it(pool, bus, repo, trip):
    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        gone = await trip.start({"city": "Rome"}, conn=conn)
        assert (await repo.get_by_id(DOMAIN, gone, conn=conn)).status is ProcessStatus.WAITING_FOR_REPLY

    assert await repo.get_by_id(DOMAIN, gone) is None
    assert await bus.query_commands() == []


async def test_a_reply_that_is_handled_by_hand_moves_the_process_once(bus, repo, trip, handlers):
    process_id = await trip.start({"city": "Rome"})
    process = await repo.get_by_id(DOMAIN, process_id)
    (step,) = await repo.get_audit_trail(DOMAIN, process_id)
    reply = Reply(step.command_id, process_id, ReplyOutcome.SUCCESS, {"number": "LH 2"})
    for _ in range(2):
        await trip.handle_reply(reply, process)

    assert [each.step_name for each in await repo.get_audit_trail(DOMAIN, process_id)] == ["BookFlight", "BookHotel"]
    assert len(await bus.query_commands(command_type="BookHotel")) == 1
    with pytest.raises(PermanentCommandError, match="UNKNOWN_PROCESS"):
        await trip.handle_reply(Reply(uuid4(), process_id, ReplyOutcome.SUCCESS), process)


async def test_a_router_and_its_managers_share_a_reply_queue(pool, repo, trip):
    with pytest.raises(ConfigurationError, match="other_replies"):
        ProcessReplyRouter(pool, repo, {"Trip": trip}, "other_replies", DOMAIN)


# -- rows written by hand ----------------------------------------------------------------------------------------------


async def test_a_repository_keeps_what_is_written_by_hand(repo):
    process = ProcessMetadata(
        domain=DOMAIN,
        process_id=uuid4(),
        process_type="Trip",
        status=ProcessStatus.PENDING,
        current_step=None,
        state=TripState("Rome", datetime(2026, 1, 2, tzinfo=UTC)),
    )
    entry = ProcessAuditEntry("BookFlight", uuid4(), "BookFlight", {"city": "Rome"}, datetime.now(UTC))
    await repo.save(process)
    with pytest.raises(DuplicateProcessError):
        await repo.save(process)
    await repo.log_step(DOMAIN, process.process_id, entry)
    entry.reply_outcome, entry.reply_data = ReplyOutcome.SUCCESS, {"number": "LH 1"}
    await repo.update_step_reply(DOMAIN, process.process_id, entry.command_id, entry)
    process.status, process.error_code, process.state.flight_number = ProcessStatus.FAILED, "LOST", "LH 1"
    await repo.update(process)
    known = await repo.get_by_id(DOMAIN, process.process_id)

    assert isinstance(repo, ProcessRepository)
    assert (known.status, known.error_code, known.state["flight_number"]) == (ProcessStatus.FAILED, "LOST", "LH 1")
    assert known.completed_at is not None
    assert await repo.get_completed_steps(DOMAIN, process.process_id) == ["BookFlight"]
    assert (await repo.get_audit_trail(DOMAIN, process.process_id))[0].reply_data == {"number": "LH 1"}
    assert [each.process_id for each in await repo.find_by_status(DOMAIN, list(ENDED))] == [process.process_id]


async def test_what_is_not_there_cannot_be_written_to(repo):
    entry = ProcessAuditEntry("BookFlight", uuid4(), "BookFlight", None, datetime.now(UTC))
    nobody = ProcessMetadata(DOMAIN, uuid4(), "Trip", ProcessStatus.COMPLETED, None, {})
    for write in (
        repo.update(nobody),
        repo.log_step(DOMAIN, nobody.process_id, entry),
        repo.update_step_reply(DOMAIN, nobody.process_id, entry.command_id, entry),
    ):
        with pytest.raises(ProcessNotFoundError):
            await write
    await repo.save(nobody)
    with pytest.raises(InvalidInputError):
        await repo.update_step_reply(DOMAIN, nobody.process_id, entry.command_id, entry)

    assert await repo.get_audit_trail(DOMAIN, uuid4()) == []
