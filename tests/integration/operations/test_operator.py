"""Every question and action of an operator, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mainstay import (
    BatchCommand,
    BatchNotFoundError,
    CommandNotFoundError,
    CommandStatus,
    ConfigurationError,
    DuplicateCommandError,
    HandlerRegistry,
    InvalidInputError,
    InvalidOperationError,
    PermanentCommandError,
    SendRequest,
    StorageUnavailableError,
    Worker,
)
from mainstay.commands.failures import Selection
from mainstay.commands.store import Action
from mainstay.errors import SchemaMissingError
from mainstay.operations.operator import Operator
from tests.support.waiting import eventually

TROUBLE = CommandStatus.IN_TROUBLESHOOTING_QUEUE


def a_request(command_type="Good", domain="shop", **fields):
    return SendRequest(domain, command_type, uuid4(), {"n": 1}, **fields)


def shop():
    registry = HandlerRegistry()

    @registry.handler("shop", "Good")
    async def good(command, context):
        return {"done": True}

    @registry.handler("shop", "Bad")
    async def bad(command, context):
        if "mended" not in command.data:
            raise PermanentCommandError("BROKEN", "it is broken")

    registry.register("bank", "Bad", lambda command, context: 1 / 0)
    return registry


@pytest.fixture
def work(pool, operator):
    """Handle everything that was sent into a domain."""

    async def work(domain="shop"):
        worker = Worker(pool, domain, shop())
        running = asyncio.create_task(worker.run(concurrency=4, poll_interval=0.05))

        async def idle():
            (numbers,) = await operator.stats(domain)
            waiting = numbers.by_status.get(CommandStatus.PENDING, 0) - numbers.deferred
            return waiting + numbers.by_status.get(CommandStatus.IN_PROGRESS, 0) == 0

        await eventually(idle)
        await worker.stop()
        await running

    return work


@pytest.fixture
async def broken(operator, work):
    """Ids of three commands that wait for an operator."""
    requests = [a_request("Bad") for _ in range(3)]
    await operator.send(requests)
    await work()
    return [request.command_id for request in requests]


async def test_a_database_that_cannot_be_reached_says_why():
    with pytest.raises(StorageUnavailableError, match="refused"):
        async with Operator.connect("postgresql://127.0.0.1:1/nothing"):
            pass


async def test_a_connection_string_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="connection string"):
        async with Operator.connect("postgresql://%zz"):
            pass


async def test_a_database_without_schema_is_refused_unless_that_is_the_question(empty_dsn):
    with pytest.raises(SchemaMissingError):
        async with Operator.connect(empty_dsn):
            pass

    async with Operator.connect(empty_dsn, check_schema=False) as operator:
        assert not (await operator.schema_status()).is_current
        assert await operator.upgrade_schema()
        assert not await operator.upgrade_schema()
        assert (await operator.schema_status()).is_current


async def test_a_command_is_found_by_its_id_alone(operator):
    request = a_request()
    await operator.send([request])

    found = await operator.command(request.command_id)

    assert (found.domain, found.command_type, found.status) == ("shop", "Good", CommandStatus.PENDING)
    assert [event.event_type for event in await operator.audit(request.command_id)] == ["SENT"]


async def test_an_id_that_two_domains_have_must_be_told_apart(operator):
    request = a_request()
    twin = SendRequest("bank", "Bad", request.command_id, {})
    await operator.send([request])
    await operator.send([twin])

    with pytest.raises(InvalidInputError, match="bank and in shop: name one"):
        await operator.command(request.command_id)
    assert (await operator.command(request.command_id, "bank")).domain == "bank"


async def test_an_unknown_command_is_said_to_be_unknown(operator):
    with pytest.raises(CommandNotFoundError, match="there is no command"):
        await operator.command(uuid4())
    with pytest.raises(CommandNotFoundError, match="in domain bank"):
        await operator.audit(uuid4(), "bank")


async def test_sending_a_known_command_sends_nothing(operator):
    first, second = a_request(), a_request()
    await operator.send([first])

    with pytest.raises(DuplicateCommandError):
        await operator.send([second, first])

    assert len(await operator.commands()) == 1


async def test_known_commands_are_left_out_if_asked_for(operator):
    first, second = a_request(), a_request()
    await operator.send([first])

    sent = await operator.send([first, second, second], skip_known=True)

    assert (sent.sent, sent.known) == (1, 2)
    assert (await operator.send([first, second], skip_known=True)).sent == 0


async def test_cancelling_reports_each_command(operator, broken):
    waiting = a_request()
    await operator.send([waiting])
    unknown = uuid4()

    done = await operator.cancel([waiting.command_id, broken[0], unknown], reason="changed my mind")

    assert [each.applied for each in done] == [True, False, False]
    assert [each.status for each in done] == [CommandStatus.CANCELED, TROUBLE, None]
    assert "use the troubleshooting queue" in str(done[1].problem)


async def test_a_waiting_command_is_shown_with_its_failure(operator, broken):
    item = await operator.troubleshooting_item(broken[0])

    assert (item.last_error_code, item.payload) == ("BROKEN", {"n": 1})


async def test_a_command_that_does_not_wait_is_no_troubleshooting_item(operator):
    request = a_request()
    await operator.send([request])

    with pytest.raises(InvalidOperationError, match="PENDING"):
        await operator.troubleshooting_item(request.command_id)


async def test_failures_are_grouped_by_what_went_wrong(operator, work, broken):
    await operator.send([a_request("Bad", domain="bank", max_attempts=1)])
    await work("bank")

    groups = await operator.failure_groups()

    assert [(each.domain, each.error_code, each.commands) for each in groups] == [
        ("shop", "BROKEN", 3),
        ("bank", "ZeroDivisionError", 1),
    ]
    assert [each.commands for each in await operator.failure_groups(error_code="BROKEN")] == [3]
    assert await operator.failure_groups(domain="bank", command_type="Good") == []


async def test_one_decision_covers_many_domains(operator, work, broken):
    await operator.send([a_request("Bad", domain="bank", max_attempts=1)])
    await work("bank")
    seen = []

    done = await operator.resolve(Action.CANCEL, Selection(), operator="me", reason="all", on_progress=seen.append)

    assert (done.action.applied, done.left) == (4, [])
    assert sum(seen) == 4
    assert await operator.failure_groups() == []


async def test_a_retry_with_edited_data_is_handled_with_that_data(operator, work, broken):
    change = await operator.preview_edit(broken[0], {"mended": True})
    await operator.retry_edited(broken[0], {"mended": True}, operator="me", reason="mended")
    await work()

    found = await operator.command(broken[0])

    assert found.status is CommandStatus.COMPLETED
    trail = await operator.audit(broken[0])
    retry = next(event for event in trail if event.event_type == "OPERATOR_RETRY")
    assert retry.details is not None
    assert retry.details["operator"] == "me"
    assert retry.details["diff"] == change.diff == [{"path": "/mended", "after": True}, {"path": "/n", "before": 1}]


async def test_a_decision_on_what_does_not_wait_changes_nothing_and_says_so(operator, broken):
    pending = a_request()
    await operator.send([pending])
    these = Selection(command_ids=(broken[0], pending.command_id, uuid4()))

    done = await operator.resolve(Action.COMPLETE, these, result={"by": "hand"})

    assert (done.action.applied, done.action.refused) == (1, 1)
    assert [each.problem for each in done.left] == ["it is PENDING, not in the troubleshooting queue"]
    for other in these.command_ids[:2]:
        with pytest.raises(InvalidOperationError):
            await operator.retry_edited(other, {})
    assert (await operator.command(broken[0])).result == {"by": "hand"}


async def test_a_batch_is_found_by_its_id_alone(operator, work):
    made = await operator.bus.create_batch("shop", [BatchCommand("Good", uuid4(), {})], name="one")
    await work()

    batch = await operator.batch(made.batch_id)

    assert (batch.name, batch.completed_count) == ("one", 1)
    assert [each.status for each in await operator.batch_commands(batch)] == [CommandStatus.COMPLETED]
    assert [each.batch_id for each in await operator.batches(domain="shop")] == [made.batch_id]


async def test_an_unknown_batch_is_said_to_be_unknown(operator):
    with pytest.raises(BatchNotFoundError, match="there is no batch"):
        await operator.batch(uuid4())


async def test_a_batch_id_that_two_domains_have_must_be_told_apart(operator):
    key = uuid4()
    for domain in ("shop", "bank"):
        await operator.bus.create_batch(domain, [BatchCommand("Good", uuid4(), {})], batch_id=key)

    with pytest.raises(InvalidInputError, match="bank, shop: name one"):
        await operator.batch(key)


async def test_latencies_are_measured_from_the_audit(operator, work):
    since = datetime.now(UTC) - timedelta(minutes=1)
    await operator.send([a_request() for _ in range(20)])
    await work()

    found = {each.span: each for each in await operator.latencies(["shop"], since)}

    assert found["wait"].samples == found["handling"].samples == 20
    assert 0 < found["wait"].p50 <= found["wait"].p95 <= found["wait"].p99 <= found["wait"].longest < 30
    assert await operator.latencies(["bank"], since) == []


async def test_fsck_finds_nothing_where_nothing_is_wrong(operator, broken):
    report = await operator.fsck()

    assert report.clean
    assert report.commands == 3
