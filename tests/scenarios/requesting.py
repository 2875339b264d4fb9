"""Request and reply: a suite for every store."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    BusinessRuleException,
    Command,
    CommandBus,
    CommandFailedError,
    CommandModel,
    CommandNotFoundError,
    CommandStatus,
    DuplicateCommandError,
    InvalidInputError,
    InvalidReplyError,
    PermanentCommandError,
    ReplyOutcome,
    RequestTimeoutError,
)
from mainstay.commands import waiting
from tests.scenarios.running import Gate
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus
O = ReplyOutcome  # noqa: E741  # short, and never mistaken for a number here
AGES = 10_000.0
SHORT = 0.05


class Add(CommandModel, domain=DOMAIN):
    a: int
    b: int


class Sum(BaseModel):
    total: int


class Calculator:
    """Handlers with an answer."""

    def __init__(self, world: World) -> None:
        @world.handles()
        async def add(command: Command[Add], context: Any) -> Sum:
            return Sum(total=command.data.a + command.data.b)

        @world.handles(DOMAIN, "AddInOneCommit", transactional=True)
        async def add_in_one_commit(command: Command, context: Any) -> Sum:
            return Sum(total=command.data["a"] + command.data["b"])

        @world.handles(DOMAIN, "Refuse")
        async def refuse(command: Command, context: Any) -> None:
            raise BusinessRuleException("POOR", "no money")

        @world.handles(DOMAIN, "Break")
        async def broken(command: Command, context: Any) -> None:
            raise PermanentCommandError("BROKEN", "out of order")


class RequestingScenarios(WorldSuite):
    """Replies come, whatever happens on the way."""

    @pytest.fixture(autouse=True)
    def calculator(self, world: World) -> Calculator:
        return Calculator(world)

    # -- replies ------------------------------------------------------------------------------------------------------
    async def test_a_request_gets_the_reply_to_its_command(self, world: World) -> None:
        command_id, correlation_id = uuid4(), uuid4()
        async with world.working():
            reply = await world.bus.request(
                DOMAIN, "Add", command_id, {"a": 1, "b": 2}, correlation_id=correlation_id, timeout=PATIENCE
            )

        assert (reply.command_id, reply.correlation_id) == (command_id, correlation_id)
        assert (reply.outcome, reply.data) == (O.SUCCESS, {"total": 3})
        assert reply.unwrap() == {"total": 3}

    async def test_a_typed_request_gets_a_typed_reply(self, world: World) -> None:
        async with world.working():
            reply = await world.bus.request(Add(a=1, b=2), reply_model=Sum, timeout=timedelta(seconds=PATIENCE))

            assert reply.unwrap() == Sum(total=3)
            assert await world.bus.get_result(DOMAIN, reply.command_id, reply_model=Sum) == reply
            assert await world.bus.wait_for(DOMAIN, reply.command_id, reply_model=Sum, timeout=0) == reply
            with pytest.raises(InvalidReplyError, match="is no Add"):
                await world.bus.request(Add(a=1, b=2), reply_model=Add, timeout=PATIENCE)

    async def test_a_transactional_handler_replies_too(self, world: World) -> None:
        async with world.working():
            reply = await world.bus.request(DOMAIN, "AddInOneCommit", None, {"a": 1, "b": 2}, timeout=PATIENCE)

        assert reply.data == {"total": 3}

    async def test_a_refusal_is_a_reply_and_unwrapping_it_raises(self, world: World) -> None:
        async with world.working():
            reply = await world.bus.request(DOMAIN, "Refuse", None, {}, reply_model=Sum, timeout=PATIENCE)

        assert (reply.outcome, reply.data, reply.error_code) == (O.FAILED, None, "POOR")
        with pytest.raises(CommandFailedError, match=r"FAILED: \[POOR\] no money") as caught:
            reply.unwrap()
        assert (caught.value.command_id, caught.value.error_code, caught.value.error_message, caught.value.outcome) == (
            reply.command_id,
            "POOR",
            "no money",
            "FAILED",
        )

    async def test_a_request_that_is_skipped_gets_the_reply_of_the_command_that_holds_the_key(
        self, world: World
    ) -> None:
        holder = await world.send("Add", {"a": 1, "b": 2}, unique_key="sum", unique_for=AGES)
        asking = world.bus.request(Add(a=5, b=5), unique_key="sum", on_conflict="skip", timeout=PATIENCE)
        async with world.working():
            reply = await asking

        assert (reply.command_id, reply.data) == (holder, {"total": 3})

    async def test_a_canceled_command_is_a_reply(self, world: World) -> None:
        sent = await world.send("Add", {}, delay=AGES)
        waits = asyncio.create_task(world.bus.wait_for(DOMAIN, sent, timeout=PATIENCE))
        await eventually(lambda: len(world.bus._room) == 1)
        await world.bus.cancel(DOMAIN, sent, reason="changed my mind")

        assert (await waits).outcome is O.CANCELED

    # -- waiting ------------------------------------------------------------------------------------------------------
    async def test_whoever_waits_is_woken_and_does_not_poll(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "FIRST_LOOK", AGES)
        monkeypatch.setattr(waiting, "LONGEST_PAUSE", AGES)
        async with world.working():
            for command_type in ("Add", "AddInOneCommit"):
                for _ in range(5):
                    reply = await world.bus.request(DOMAIN, command_type, None, {"a": 1, "b": 2}, timeout=PATIENCE)
                    assert reply.data == {"total": 3}

    async def test_whoever_waits_is_woken_by_operators_and_by_what_expires(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "FIRST_LOOK", AGES)
        monkeypatch.setattr(waiting, "LONGEST_PAUSE", AGES)
        async with world.working():
            for decide in (world.tsq.operator_complete, world.tsq.operator_cancel):
                waits = asyncio.create_task(world.bus.request(DOMAIN, "Break", None, {}, timeout=PATIENCE))
                (item,) = await eventually(lambda: world.tsq.list_troubleshooting(DOMAIN))
                await decide(DOMAIN, item.command_id)
                assert (await waits).outcome is (O.SUCCESS if decide == world.tsq.operator_complete else O.CANCELED)
            long_ago = datetime(2020, 1, 1, tzinfo=UTC)
            late = await world.bus.request(DOMAIN, "Add", None, {}, expires_at=long_ago, timeout=PATIENCE)
            assert (late.outcome, late.error_code) == (O.CANCELED, "EXPIRED")

    async def test_a_reply_is_found_when_its_wake_up_is_lost(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Deaf:
            async def wait(self, timeout: float) -> bool:
                return await asyncio.Event().wait()

        @asynccontextmanager
        async def deaf(waiter: str) -> Any:
            yield Deaf()

        monkeypatch.setattr(world.store, "replies_heard", deaf)
        async with world.working():
            assert (await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)).data == {"total": 3}

    async def test_a_bus_that_may_not_listen_looks(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: Any) -> Any:
            raise AssertionError("it must not listen")

        monkeypatch.setattr(world.store, "replies_heard", never)
        monkeypatch.setattr(world.store, "about_to_wait", never)
        bus = CommandBus(world.store, use_notify=False)
        async with world.working():
            assert (await bus.request(Add(a=1, b=2), timeout=PATIENCE)).data == {"total": 3}
        await bus.close()

    async def test_many_requests_share_one_ear_and_one_question(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: Counter[str] = Counter()
        most = 0
        store: Any = world.store
        ask, hear = store.get_replies, store.replies_heard

        async def counted(keys: Any) -> Any:
            nonlocal most
            calls["asking"] += 1
            most = max(most, calls["asking"])
            try:
                return await ask(keys)
            finally:
                calls["asking"] -= 1

        def listened(waiter: str) -> Any:
            calls["ears"] += 1
            return hear(waiter)

        monkeypatch.setattr(store, "get_replies", counted)
        monkeypatch.setattr(store, "replies_heard", listened)
        async with world.working(concurrency=20):
            replies = await asyncio.gather(
                *(world.bus.request(Add(a=n, b=1), timeout=PATIENCE, reply_model=Sum) for n in range(100))
            )

        assert [reply.unwrap().total for reply in replies] == [n + 1 for n in range(100)]
        assert (calls["ears"], most) == (1, 1)
        assert len(world.bus._room) == 0

    async def test_several_may_wait_for_one_command(self, world: World) -> None:
        gate = Gate(world)
        sent = await world.send("Wait")
        other = CommandBus(world.store)
        async with world.working():
            waits = [
                asyncio.create_task(bus.wait_for(DOMAIN, sent, timeout=PATIENCE))
                for bus in (world.bus, world.bus, other)
            ]
            await eventually(lambda: gate.started[sent])
            gate.open.set()

            assert {reply.data for reply in await asyncio.gather(*waits)} == {"waited"}
        await other.close()

    # -- time ---------------------------------------------------------------------------------------------------------
    async def test_a_request_that_gave_up_finds_its_reply_later_from_anywhere(self, world: World) -> None:
        gate = Gate(world)
        async with world.working():
            with pytest.raises(RequestTimeoutError, match=r"within 0\.05 s: it is (PENDING|IN_PROGRESS)") as caught:
                await world.bus.request(DOMAIN, "Wait", None, {}, timeout=SHORT)
            key = caught.value.domain, caught.value.command_id
            assert await world.bus.get_result(*key) is None

            elsewhere = CommandBus(world.store)
            waits = asyncio.create_task(elsewhere.wait_for(*key, timeout=PATIENCE))
            gate.open.set()
            assert (await waits).data == "waited"
            assert (await world.bus.wait_for(*key, timeout=0)).data == "waited"
            await elsewhere.close()
        assert isinstance(caught.value, TimeoutError)

    async def test_a_wait_goes_on_while_an_operator_mends_it(self, world: World) -> None:
        async with world.working():
            waits = asyncio.create_task(world.bus.request(DOMAIN, "Break", None, {}, timeout=PATIENCE))
            (item,) = await eventually(lambda: world.tsq.list_troubleshooting(DOMAIN))
            await world.tsq.operator_complete(DOMAIN, item.command_id, {"total": "by hand"})

            assert (await waits).data == {"total": "by hand"}

    async def test_a_timeout_says_that_an_operator_is_needed(self, world: World) -> None:
        async with world.working():
            broken = await world.send("Break")
            await world.settled(broken)
            with pytest.raises(RequestTimeoutError, match=r"\(\[BROKEN\] out of order\) and needs an operator"):
                await world.bus.wait_for(DOMAIN, broken, timeout=0)

    async def test_whoever_leaves_leaves_nothing(self, world: World) -> None:
        waits = asyncio.create_task(world.bus.request(Add(a=1, b=2), timeout=PATIENCE))
        await eventually(world.bus.query_commands)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

        assert len(world.bus._room) == 0
        await eventually(lambda: self.waiters(world.store), what="nobody waits in the database")

    async def waiters(self, store: Any) -> bool:
        """Whether nobody is said to wait."""
        raise NotImplementedError

    # -- what is refused ----------------------------------------------------------------------------------------------
    async def test_an_id_that_was_sent_gives_its_reply_if_asked_so(self, world: World) -> None:
        command_id = uuid4()
        async with world.working():
            first = await world.bus.request(Add(a=1, b=2), command_id=command_id, timeout=PATIENCE)
            again = await world.bus.request(Add(a=1, b=2), command_id=command_id, timeout=PATIENCE, idempotent=True)
            with pytest.raises(DuplicateCommandError):
                await world.bus.request(Add(a=1, b=2), command_id=command_id, timeout=PATIENCE)

        assert first == again
        assert len(world.bus._room) == 0

    async def test_what_is_unknown_has_no_reply(self, world: World) -> None:
        with pytest.raises(CommandNotFoundError):
            await world.bus.get_result(DOMAIN, uuid4())
        with pytest.raises(CommandNotFoundError):
            await world.bus.wait_for(DOMAIN, uuid4(), timeout=0)

    async def test_a_request_joins_no_transaction(self, world: World) -> None:
        with pytest.raises(InvalidInputError, match="cannot join a transaction"):
            await world.bus.request(Add(a=1, b=2), conn=object())  # type: ignore[call-overload]  # on purpose

        assert await world.bus.query_commands() == []

    async def test_a_bus_that_is_closed_opens_its_ear_again(self, world: World) -> None:
        async with world.working():
            for _ in range(2):
                assert (await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)).data == {"total": 3}
                await world.bus.close()
                await world.bus.close()
