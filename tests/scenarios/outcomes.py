"""What handlers do, and what becomes of their commands: a suite for every store."""

import asyncio
import logging
import threading
from uuid import uuid4

import pytest

from mainstay import (
    AuditEventType,
    BusinessRuleException,
    CommandStatus,
    ContextFilter,
    Failure,
    PermanentCommandError,
    RetryPolicy,
    StorageUnavailableError,
    Success,
    TransientCommandError,
    handler,
)
from mainstay.commands.store import Verdict
from tests.scenarios.odd_ends import OddEnds
from tests.scenarios.world import DOMAIN, PATIENCE, REPLIES, World
from tests.support.waiting import eventually

A = AuditEventType
S = CommandStatus


class OutcomeScenarios(OddEnds):
    """One command at a time, whatever its handler does."""

    # -- it works -----------------------------------------------------------------------------------------------------
    async def test_a_handlers_result_is_kept_and_replied(self, store, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return {"echo": command.data, "attempt": context.attempt, "of": context.max_attempts}

        async with world.working():
            done = await world.settled(await world.send(data={"n": 1}, reply_to=REPLIES))

        assert done.status is S.COMPLETED
        assert done.result == {"echo": {"n": 1}, "attempt": 1, "of": 3}
        assert await world.events(done.command_id) == [A.SENT, A.RECEIVED, A.COMPLETED]
        (reply,) = await self.replies(store, REPLIES)
        assert reply == {
            "command_id": str(done.command_id),
            "correlation_id": str(done.correlation_id),
            "outcome": "SUCCESS",
            "data": done.result,
            "error_code": None,
            "error_message": None,
        }

    @pytest.mark.parametrize("result", [None, 0, False, [], {}, "", "text", [1, None]])
    async def test_any_json_value_is_a_result(self, world: World, result) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return result

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, result)

    async def test_a_wrapped_success_is_its_value(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return Success({"n": 1})

        async with world.working():
            done = await world.settled(await world.send())

        assert done.result == {"n": 1}

    async def test_a_plain_function_runs_in_a_thread(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        def do(command, context):
            return threading.current_thread().name

        async with world.working():
            done = await world.settled(await world.send())

        assert done.status is S.COMPLETED
        assert done.result.startswith("mainstay-handler")

    async def test_plain_functions_do_not_wait_for_each_other(self, world: World) -> None:
        meeting = threading.Barrier(3)

        @world.handles(DOMAIN, "Do")
        def do(command, context):
            meeting.wait(PATIENCE)

        async with world.working(concurrency=3):
            done = await world.settled(*[await world.send() for _ in range(3)])

        assert done.status is S.COMPLETED

    async def test_methods_of_an_object_are_handlers(self, world: World) -> None:
        class Orders:
            def __init__(self) -> None:
                self.seen: list[int] = []

            @handler(DOMAIN, "Create")
            async def create(self, command, context):
                self.seen.append(command.data["n"])

            @handler(DOMAIN, "Ship")
            def ship(self, command, context):
                self.seen.append(-command.data["n"])

        orders = Orders()
        world.registry.register_instance(orders)
        async with world.working():
            await world.settled(await world.send("Create", {"n": 1}))
            done = await world.settled(await world.send("Ship", {"n": 2}))

        assert done.status is S.COMPLETED
        assert orders.seen == [1, -2]

    async def test_a_callable_object_is_a_handler(self, world: World) -> None:
        class Do:
            async def __call__(self, command, context):
                return "called"

        world.registry.register(DOMAIN, "Do", Do())
        async with world.working():
            done = await world.settled(await world.send())

        assert done.result == "called"

    # -- it fails -----------------------------------------------------------------------------------------------------
    async def test_a_transient_error_is_retried_until_it_succeeds(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt < 3:
                raise TransientCommandError("TIMEOUT", "no answer", {"host": "a"})
            return context.attempt

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result, done.attempts) == (S.COMPLETED, 3, 3)
        again = [A.RECEIVED, A.FAILED, A.RETRY_SCHEDULED]
        assert await world.events(done.command_id) == [A.SENT, *again, *again, A.RECEIVED, A.COMPLETED]

    async def test_a_command_whose_attempts_are_used_up_waits_for_an_operator(self, store, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise TransientCommandError("TIMEOUT", "no answer")

        async with world.working():
            done = await world.settled(await world.send(max_attempts=2, reply_to=REPLIES))

        assert (done.status, done.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 2)
        assert (done.last_error_type, done.last_error_code) == ("TRANSIENT", "TIMEOUT")
        assert (await world.events(done.command_id))[-3:] == [A.FAILED, A.RETRY_EXHAUSTED, A.MOVED_TO_TSQ]
        assert await self.replies(store, REPLIES) == []

    @pytest.mark.parametrize("attempts", [1, 5])
    async def test_the_commands_own_number_of_attempts_decides(self, world: World, attempts: int) -> None:
        @world.handles(DOMAIN, "Do", retry_policy=RetryPolicy(max_attempts=3, backoff_schedule=[0.0], jitter=0))
        async def do(command, context):
            raise TransientCommandError("NO", "no")

        async with world.working():
            done = await world.settled(await world.send(max_attempts=attempts))

        assert (done.status, done.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, attempts)

    async def test_a_permanent_error_is_not_retried(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise PermanentCommandError("BAD_DATA", "no such customer", {"customer": 7})

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 1)
        assert (done.last_error_type, done.last_error_code, done.last_error_msg) == (
            "PERMANENT",
            "BAD_DATA",
            "no such customer",
        )

    async def test_who_must_decide_on_a_command_is_told_once_it_is_parked(self, world: World, caplog) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise PermanentCommandError("BAD_DATA", "no such customer")

        command_id = await world.send()
        async with world.working():
            await world.settled(command_id)

        (line,) = [record for record in caplog.records if "an operator must decide" in record.getMessage()]
        assert line.levelno == logging.WARNING
        assert line.getMessage().endswith(f"decide on {DOMAIN}.Do {command_id}: BAD_DATA: no such customer")
        assert (line.domain, line.command_type, line.command_id) == (DOMAIN, "Do", str(command_id))

    async def test_who_must_decide_is_told_though_the_answer_that_it_is_parked_is_lost(
        self, store, world, caplog, monkeypatch
    ) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise PermanentCommandError("BAD_DATA", "no such customer")

        complete, lost = store.complete, []

        async def complete_and_lose(domain, outcomes, **options):
            verdicts = await complete(domain, outcomes, **options)
            if verdicts and not lost:
                lost.append(verdicts)
                raise StorageUnavailableError("the answer is lost")
            return verdicts

        monkeypatch.setattr(store, "complete", complete_and_lose)
        command_id = await world.send()
        async with world.working():
            await eventually(lambda: "an operator must decide" in caplog.text)

        assert lost == [[Verdict.APPLIED]]
        (line,) = [record for record in caplog.records if "an operator must decide" in record.getMessage()]
        assert line.command_id == str(command_id)

    async def test_nobody_is_told_to_decide_on_what_was_not_parked(self, store, world, caplog, monkeypatch) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise PermanentCommandError("BAD_DATA", "no such customer")

        async def refuse(domain, outcomes, **options):
            return [Verdict.STALE for _ in outcomes]

        monkeypatch.setattr(store, "complete", refuse)
        await world.send()
        async with world.working():
            await eventually(lambda: "an outcome was refused" in caplog.text)

        assert "an operator must decide" not in caplog.text

    @pytest.mark.parametrize("how", ["raised", "returned"])
    async def test_a_business_rule_ends_the_command_and_is_replied(self, store, world: World, how: str) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if how == "returned":
                return Failure("NO_CREDIT", "the limit is reached", {"limit": 5})
            raise BusinessRuleException("NO_CREDIT", "the limit is reached", {"limit": 5})

        async with world.working():
            done = await world.settled(await world.send(reply_to=REPLIES))

        assert (done.status, done.attempts, done.last_error_code) == (S.FAILED, 1, "NO_CREDIT")
        assert await world.events(done.command_id) == [A.SENT, A.RECEIVED, A.BUSINESS_RULE_FAILED]
        (reply,) = await self.replies(store, REPLIES)
        assert (reply["outcome"], reply["error_code"], reply["error_message"]) == (
            "FAILED",
            "NO_CREDIT",
            "the limit is reached",
        )
        assert await world.tsq.count() == 0

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize(
        "error", [KeyError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), MemoryError()]
    )
    async def test_whatever_a_handler_raises_is_retried_under_its_name(self, world: World, error, plain) -> None:
        def fail(command, context):
            if context.attempt == 1:
                raise error
            return "recovered"

        async def fail_async(command, context):
            return fail(command, context)

        world.registry.register(DOMAIN, "Do", fail if plain else fail_async)
        async with world.working(concurrency=1) as worker:
            done = await world.settled(await world.send())
            trail = await world.bus.get_audit_trail(done.command_id)
            next_one = await world.settled(await world.send())

            assert worker.is_running
        assert (done.status, done.result, done.attempts) == (S.COMPLETED, "recovered", 2)
        assert next_one.status is S.COMPLETED
        (failed,) = [event for event in trail if event.event_type is A.FAILED]
        assert failed.details["error_type"] == "TRANSIENT"
        # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
        assert failed.details["error_code"] in {type(error).__name__, "RuntimeError"}

    async def test_a_cancelled_error_that_nobody_sent_is_a_failure_like_any(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt == 1:
                raise asyncio.CancelledError
            return "recovered"

        async with world.working(concurrency=1):
            done = await world.settled(await world.send())

        assert (done.status, done.attempts) == (S.COMPLETED, 2)

    async def test_an_error_text_that_no_database_can_hold_is_kept_readable(self, world: World) -> None:
        text = "a\x00b \ud800 " + "x" * 100_000

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise PermanentCommandError("C\x00DE", text, {"nul": "a\x00b", "nan": float("nan"), "object": object()})

        async with world.working():
            done = await world.settled(await world.send())

        assert done.last_error_code == "C\\x00DE"
        assert done.last_error_msg.startswith("a\\x00b \\ud800 xxx")
        assert len(done.last_error_msg) <= 4000

    @pytest.mark.parametrize("result", [object(), b"bytes", {"n": float("inf")}, "a\x00b", {1: 2}, 2**70, "\ud800"])
    async def test_a_result_that_is_not_json_waits_for_an_operator(self, world: World, result) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return result

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.last_error_type, done.last_error_code) == (
            S.IN_TROUBLESHOOTING_QUEUE,
            "PERMANENT",
            "INVALID_RESULT",
        )
        assert done.attempts == 1

    async def test_a_command_without_a_handler_waits_for_an_operator(self, world: World) -> None:
        async with world.working():
            done = await world.settled(await world.send("Unheard"))

        assert (done.status, done.attempts, done.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, 1, "NO_HANDLER")

    async def test_an_operators_retry_is_handled(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if "fixed" not in command.data:
                raise PermanentCommandError("BAD_DATA", "not fixed")
            return context.attempt

        async with world.working(poll_interval=60):
            done = await world.settled(await world.send())
            await world.tsq.operator_retry(DOMAIN, done.command_id, "ada", data={"fixed": True})
            done = await world.settled(done.command_id)

        assert (done.status, done.result, done.last_error_code) == (S.COMPLETED, 1, None)

    # -- it takes long ------------------------------------------------------------------------------------------------
    async def test_an_async_handler_is_cancelled_at_its_timeout(self, world: World) -> None:
        canceled = []

        @world.handles(DOMAIN, "Do", timeout=0.05)
        async def do(command, context):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                canceled.append(context.attempt)
                raise

        async with world.working():
            done = await world.settled(await world.send(max_attempts=2))

        assert (done.status, done.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "TIMEOUT")
        assert canceled == [1, 2]

    async def test_a_handlers_own_timeout_is_not_taken_for_ours(self, world: World) -> None:
        @world.handles(DOMAIN, "Do", timeout=PATIENCE)
        async def do(command, context):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

        async with world.working():
            done = await world.settled(await world.send(max_attempts=1))

        assert done.last_error_code == "TimeoutError"

    async def test_a_handler_that_outstays_its_timeout_by_swallowing_it_still_counts(self, world: World) -> None:
        @world.handles(DOMAIN, "Do", timeout=0.05)
        async def do(command, context):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "made it"

        async with world.working(concurrency=1):
            done = await world.settled(await world.send())
            next_one = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, "made it")
        assert next_one.status is S.COMPLETED

    # -- what it knows ------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("plain", [False, True])
    async def test_what_a_handler_logs_and_sends_belongs_to_its_correlation(
        self, world: World, caplog: pytest.LogCaptureFixture, plain
    ) -> None:
        caplog.handler.addFilter(ContextFilter())
        log = logging.getLogger("shop")
        correlation = uuid4()

        def say(command, context):
            log.warning("working")
            return str(context.correlation_id)

        async def say_and_send(command, context):
            await world.send("Next")
            return say(command, context)

        world.registry.register(DOMAIN, "Do", say if plain else say_and_send)
        world.registry.register(DOMAIN, "Next", say)
        async with world.working():
            done = await world.settled(await world.send(correlation_id=correlation))
        sent = await world.bus.query_commands(domain=DOMAIN)
        log.warning("outside")

        assert done.result == str(correlation)
        said = {record.message: record.correlation_id for record in caplog.records if record.name == "shop"}
        assert said == {"working": str(correlation), "outside": None}
        assert {one.correlation_id for one in sent} == {correlation}

    async def test_a_failure_is_logged_with_its_command(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise KeyError("customer")

        async with world.working():
            done = await world.settled(await world.send(max_attempts=1))

        (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING and one.exc_info]
        assert record.correlation_id == str(done.correlation_id)
        assert (record.domain, record.command_id, record.command_type) == (DOMAIN, str(done.command_id), "Do")

    async def test_a_lease_can_be_extended_by_hand(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            await context.extend_visibility(120)
            return "extended"

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, "extended")

    async def test_headers_reach_the_handler(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return command.headers

        async with world.working():
            done = await world.settled(await world.send(headers={"trace": "abc"}))

        assert done.result == {"trace": "abc"}

    async def test_a_slot_is_used_again_as_soon_as_it_is_free(self, world: World) -> None:
        running, most = 0, 0

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.wait_for(asyncio.shield(gate.wait()), PATIENCE)
            running -= 1

        gate = asyncio.Event()
        ids = [await world.send() for _ in range(20)]
        async with world.working(concurrency=3, poll_interval=60) as worker:
            await eventually(lambda: worker.in_flight_count == 3, timeout=PATIENCE)
            gate.set()
            await world.settled(*ids)

            assert worker.handled_count == 20
        assert most == 3
