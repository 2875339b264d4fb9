"""Plain functions as handlers, and what they are given: a suite for every store."""

import asyncio
import threading
from uuid import UUID

import pytest

from mainstay import BusinessRuleException, CommandStatus, DuplicateCommandError, HandlerContext, SyncHandlerContext
from mainstay.commands.command import Command
from mainstay.commands.store import CommandFilter
from mainstay.errors import InvalidInputError, InvalidOperationError
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus
BOTH = pytest.mark.parametrize("transactional", [False, True], ids=["plain", "transactional"])


class PlainScenarios(WorldSuite):
    """The blocking face of a handler's context."""

    @BOTH
    async def test_a_plain_handler_sends_with_its_completion_what_an_async_one_would(
        self, world: World, transactional
    ) -> None:
        ids: list[UUID] = []
        seen: list[Command] = []

        @world.handles(DOMAIN, "Do", transactional=transactional)
        def do(command, ctx):
            ids.extend(ctx.send("invoices", "Next", {"n": n}).command_id for n in range(2))
            ids.append(ctx.send("invoices", "Next", name="last").command_id)
            if ctx.attempt == 1:
                raise KeyError

        @world.handles(DOMAIN, "DoAsync")
        async def do_async(command, ctx):
            ids.append((await ctx.send(DOMAIN, "Ignored", name="last")).command_id)

        world.handles("invoices", "Next")(lambda command, ctx: seen.append(command))
        world.handles(DOMAIN, "Ignored")(lambda command, ctx: None)
        async with world.working(), world.working(domain="invoices"):
            first = await world.known(await world.send())
            await world.settled(first.command_id)
            await world.settled(*ids, domain="invoices")

        assert ids[:3] == ids[3:]
        assert len(await world.store.query(CommandFilter(), limit=10, offset=0)) == 4
        assert {each.correlation_id for each in seen} == {first.correlation_id}
        assert {each.headers["causation_id"] for each in seen} == {str(first.command_id)}

    @BOTH
    async def test_a_plain_handler_that_fails_has_sent_nothing(self, world: World, transactional) -> None:
        @world.handles(DOMAIN, "Do", transactional=transactional)
        def do(command, ctx):
            ctx.send(DOMAIN, "Next")
            raise BusinessRuleException("NO", "no")

        done = await world.settled_after(await world.send())

        assert done.status is S.FAILED
        assert len(await world.store.query(CommandFilter(), limit=10, offset=0)) == 1

    @BOTH
    async def test_a_plain_handler_gets_the_errors_of_its_sends(self, world: World, transactional) -> None:
        @world.handles(DOMAIN, "Do", transactional=transactional)
        def do(command, ctx):
            ctx.send(DOMAIN, "Next", name="one")
            with pytest.raises(DuplicateCommandError):
                ctx.send(DOMAIN, "Next", name="one")
            with pytest.raises(InvalidInputError):
                ctx.send(DOMAIN, "Next", nonsense=1)

        world.handles(DOMAIN, "Next")(lambda command, ctx: None)

        assert (await world.settled_after(await world.send())).status is S.COMPLETED

    async def test_a_plain_handlers_context_has_what_an_async_one_has(self, world: World) -> None:
        seen: list[SyncHandlerContext] = []

        @world.handles(DOMAIN, "Do")
        def do(command, ctx):
            ctx.extend_visibility(60)
            ctx.progress(1, 2, "half")
            seen.append(ctx)
            assert ctx.correlation_id == command.correlation_id
            assert (ctx.command, ctx.attempt, ctx.max_attempts) == (command, 1, 3)
            for ask in (ctx.session, lambda: ctx.conn):
                with pytest.raises(InvalidOperationError, match=r"transactional handler: .* transactional=True"):
                    ask()
            assert not ctx.is_transactional

        done = await world.settled_after(await world.send())

        assert done.status is S.COMPLETED, done
        for late in (lambda: seen[0].send(DOMAIN, "Late"), lambda: seen[0].extend_visibility(1)):
            with pytest.raises(InvalidOperationError, match="has ended"):
                await asyncio.to_thread(late)

    async def test_a_thread_that_outlives_its_timeout_sends_nothing_any_more(self, world: World) -> None:
        is_late, refused = threading.Event(), list[BaseException]()

        @world.handles(DOMAIN, "Do", timeout=0.05)
        def do(command, ctx):
            assert is_late.wait(PATIENCE)
            try:
                ctx.send(DOMAIN, "Next")
            except InvalidOperationError as error:
                refused.append(error)

        async with world.working() as worker:
            await world.send(max_attempts=1)
            await eventually(lambda: worker.stuck_count == 1, timeout=PATIENCE)
            is_late.set()
            await eventually(lambda: worker.stuck_count == 0, timeout=PATIENCE)

        assert len(refused) == 1
        assert len(await world.store.query(CommandFilter(), limit=10, offset=0)) == 1

    async def test_dispatching_to_a_plain_handler_keeps_what_it_sends(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        def do(command, ctx):
            return ctx.send(DOMAIN, "Next", {"n": 1}).command_id

        command = await world.known(await world.send())
        context = HandlerContext(Command(DOMAIN, "Do", command.command_id, {}), 1, 3, 1)
        sent = await world.registry.dispatch(context.command, context)

        assert [new.command_id for new in context.sends.kept] == [sent]
