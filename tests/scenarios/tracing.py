"""What a trace and the metrics tell of a command's way, on every store."""

import logging
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from mainstay import BatchCommand, CommandStatus, PermanentCommandError, SendRequest, TransientCommandError
from mainstay.errors import DuplicateCommandError
from mainstay.metrics import ATTEMPTS, DURATION, FLUSH, HANDLED, SENT
from tests.scenarios.world import DOMAIN, REPLIES, World, WorldSuite
from tests.support.telemetry import Spans, recorded_spans, recorded_values
from tests.support.waiting import eventually

SEND = f"send {DOMAIN}__commands"
CREATE = f"create {DOMAIN}__commands"
PROCESS = f"process {DOMAIN}__commands"


def facts(span):
    return dict(span.attributes or {})


def parent_of(span):
    return span.parent and span.parent.span_id


def same_trace(*spans):
    return len({span.context.trace_id for span in spans}) == 1


class TracingScenarios(WorldSuite):
    @pytest.fixture
    def spans(self) -> Iterator[Spans]:
        with recorded_spans() as found:
            yield found

    async def test_a_trace_leads_from_send_through_process_to_reply(self, world: World, spans: Spans) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return {}

        correlation = uuid4()
        with spans.tracer.start_as_current_span("request") as request:
            command_id = await world.send("Do", reply_to=REPLIES, correlation_id=correlation)
        async with world.working():
            await world.settled(command_id)
        (sent,), (processed,) = spans.named(SEND), spans.named(PROCESS)
        (replied,) = spans.named(f"send {REPLIES}")

        assert same_trace(request, sent, processed, replied)
        assert [parent_of(sent), parent_of(processed), parent_of(replied)] == [
            request.get_span_context().span_id,
            sent.context.span_id,
            processed.context.span_id,
        ]
        assert [sent.kind, processed.kind, replied.kind] == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.PRODUCER]
        assert facts(sent) == {
            "messaging.system": "mainstay",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": f"{DOMAIN}__commands",
            "messaging.message.conversation_id": str(correlation),
            "mainstay.command_id": str(command_id),
            "mainstay.command_type": "Do",
        }
        told = facts(processed)
        assert re.fullmatch(r"-?\d+", told.pop("messaging.message.id"))
        assert told == {
            "messaging.system": "mainstay",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": f"{DOMAIN}__commands",
            "messaging.message.conversation_id": str(correlation),
            "mainstay.command_id": str(command_id),
            "mainstay.command_type": "Do",
            "mainstay.attempt": 1,
            "mainstay.max_attempts": 3,
            "mainstay.outcome": "completed",
        }
        assert processed.status.status_code is StatusCode.UNSET

    async def test_every_attempt_is_a_span_that_says_why(self, world: World, spans: Spans) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt == 1:
                raise TransientCommandError("TIMEOUT", "no answer")
            raise PermanentCommandError("BAD_DATA", "no such customer")

        command_id = await world.send("Do")
        async with world.working():
            await world.settled(command_id)
        first, second = spans.named(PROCESS)

        assert [facts(one)["mainstay.attempt"] for one in (first, second)] == [1, 2]
        assert [facts(one)["mainstay.outcome"] for one in (first, second)] == ["retried", "troubleshot"]
        assert [facts(one)["error.type"] for one in (first, second)] == ["TIMEOUT", "BAD_DATA"]
        assert {one.status.status_code for one in (first, second)} == {StatusCode.ERROR}
        assert same_trace(first, second)

    @pytest.mark.parametrize("transactional", [False, True])
    async def test_what_a_handler_sends_on_stays_in_the_trace(self, world: World, spans: Spans, transactional) -> None:
        @world.handles(DOMAIN, "First", transactional=transactional)
        async def first(command, context):
            await context.send(DOMAIN, "Second", {})

        @world.handles(DOMAIN, "Second")
        async def second(command, context):
            return {}

        await world.send("First")
        async with world.working():
            await eventually(lambda: len(spans.named(PROCESS)) == 2)
        (created,) = spans.named(CREATE)
        one, other = spans.named(PROCESS)

        assert same_trace(*spans.all())
        assert [parent_of(created), parent_of(other)] == [one.context.span_id, created.context.span_id]
        assert facts(one)["mainstay.outcome"] == "completed"

    async def test_commands_of_one_send_share_its_span(self, world: World, spans: Spans) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return {}

        await world.bus.send_batch([SendRequest(DOMAIN, "Do", uuid4(), {}, headers={"mine": 1}) for _ in range(3)])
        await world.bus.create_batch(DOMAIN, [BatchCommand("Do", uuid4(), {}) for _ in range(2)])
        async with world.working():
            await eventually(lambda: len(spans.named(PROCESS)) == 5)
        many, batch = spans.named(SEND)
        children = [parent_of(span) for span in spans.named(PROCESS)]

        assert [facts(span)["messaging.batch.message_count"] for span in (many, batch)] == [3, 2]
        assert sorted(children) == sorted([many.context.span_id] * 3 + [batch.context.span_id] * 2)

    async def test_headers_of_callers_and_strangers_are_left_alone(self, world: World, spans: Spans) -> None:
        seen = []

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            seen.append(command.headers)

        parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        for headers in ({"traceparent": parent, "mine": 1}, {"traceparent": 7}, {"traceparent": ["x"], "baggage": {}}):
            await world.settled_after(await world.send("Do", headers=headers))
        theirs, *_ = spans.named(PROCESS)

        assert seen == [{"traceparent": parent, "mine": 1}, {"traceparent": 7}, {"traceparent": ["x"], "baggage": {}}]
        assert (theirs.context.trace_id, parent_of(theirs)) == (int("a" * 32, 16), int("b" * 16, 16))

    async def test_a_send_that_is_refused_says_why(self, world: World, spans: Spans) -> None:
        command_id = await world.send("Do")
        with recorded_values() as values, pytest.raises(DuplicateCommandError):
            await world.send("Do", command_id=command_id)
        refused = spans.named(SEND)[-1]

        assert facts(refused)["error.type"] == "DuplicateCommandError"
        assert refused.status.status_code is StatusCode.ERROR
        assert values.of(SENT) == []

    @pytest.mark.parametrize("sdk", [False, True])
    async def test_headers_carry_nothing_unless_a_span_is_recorded(self, world: World, sdk) -> None:
        seen = []

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            seen.append(command.headers)
            if command.data["n"]:
                await context.send(DOMAIN, "Do", {"n": command.data["n"] - 1})

        if sdk:
            with recorded_spans(ALWAYS_OFF) as found:
                await world.settled_after(await world.send("Do", {"n": 0}))
            assert found.all() == []
        else:
            await world.settled_after(await world.send("Do", {"n": 0}))

        assert seen == [{}]

    async def test_log_lines_of_a_handler_name_their_trace(self, world: World, spans: Spans, caplog) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise RuntimeError

        caplog.set_level(logging.WARNING)
        command_id = await world.send("Do", max_attempts=1)
        async with world.working():
            await world.settled(command_id)
        (processed,) = spans.named(PROCESS)
        (line,) = [record for record in caplog.records if "a handler failed" in record.getMessage()]

        assert line.trace_id == f"{processed.context.trace_id:032x}"
        assert line.span_id == f"{processed.context.span_id:016x}"
        assert line.correlation_id == str((await world.known(command_id)).correlation_id)
        assert f"a handler failed: {DOMAIN}.Do {command_id}: RuntimeError: " in line.getMessage()

    async def test_what_happens_is_counted(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt < command.data["succeeds"]:
                raise TransientCommandError("TIMEOUT", "no answer")
            await context.send(DOMAIN, "Exact", {})

        @world.handles(DOMAIN, "Exact", transactional=True)
        async def exact(command, context):
            return {}

        with recorded_values() as values:
            once, twice = await world.send("Do", {"succeeds": 1}), await world.send("Do", {"succeeds": 2})
            nobodys = await world.send("Nobody")
            async with world.working():
                await world.settled(once, twice, nobodys)
                await eventually(lambda: values.total(HANDLED, DOMAIN, "Exact", "completed") == 2)

        assert values.total(SENT, DOMAIN, "Do") == 2
        assert values.total(SENT, DOMAIN, "Exact") == 2
        assert values.total(HANDLED, DOMAIN, "Do", "completed") == 2
        assert values.total(HANDLED, DOMAIN, "Do", "retried") == 1
        assert values.total(HANDLED, DOMAIN, "(no handler)", "troubleshot") == 1
        assert sorted(value for value, labels in values.of(ATTEMPTS) if labels[1] == "Do") == [1, 2]
        assert len(values.of(DURATION)) == 6
        assert values.total(FLUSH, DOMAIN) == 4  # the transactional ones are written by their own COMMIT
        assert (await world.known(nobodys)).status is CommandStatus.IN_TROUBLESHOOTING_QUEUE
