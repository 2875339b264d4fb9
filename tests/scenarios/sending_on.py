"""What handlers send and tell while they run: a suite for every store."""

import asyncio
import threading
from uuid import UUID, uuid4

import pytest

from mainstay import BusinessRuleException, CommandStatus, DuplicateCommandError, Failure, HandlerContext
from mainstay.commands.command import Command
from mainstay.commands.store import CommandFilter
from mainstay.errors import InvalidInputError, InvalidOperationError
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus
BOTH = pytest.mark.parametrize("transactional", [False, True], ids=["plain", "transactional"])


class SendingOnScenarios(WorldSuite):
    """``ctx.send`` and ``ctx.progress``."""

    async def _others(self, world: World, *known: UUID) -> list[UUID]:
        found = await world.store.query(CommandFilter(), limit=1000, offset=0)
        return [one.command_id for one in found if one.command_id not in known]

    @BOTH
    async def test_what_a_handler_sends_follows_from_its_command(self, world: World, transactional) -> None:
        seen: dict[str, Command] = {}

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            await ctx.send("invoices", "Invoice", {"n": 1}, headers={"tenant": "a"})
            await ctx.send(DOMAIN, "Invoice", {"n": 2}, name="second")

        @world.handles("invoices", "Invoice")
        @world.handles(DOMAIN, "Invoice")
        async def invoice(command, ctx):
            seen[command.domain] = command

        async with world.working(), world.working(domain="invoices"):
            first = await world.known(await world.send())
            await world.settled(first.command_id)
            await eventually(lambda: len(seen) == 2, timeout=PATIENCE)

        assert {each.correlation_id for each in seen.values()} == {first.correlation_id}
        assert seen["invoices"].headers == {"tenant": "a", "causation_id": str(first.command_id)}
        assert seen[DOMAIN].headers == {"causation_id": str(first.command_id)}

    @BOTH
    async def test_an_attempt_that_failed_has_sent_nothing_and_the_next_sends_once(
        self, world: World, transactional
    ) -> None:
        ids: list[UUID] = []

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            ids.extend([(await ctx.send(DOMAIN, "Next", {"n": n})).command_id for n in range(3)])
            if ctx.attempt == 1:
                raise KeyError

        world.handles(DOMAIN, "Next")(lambda command, ctx: None)
        async with world.working():
            command_id = await world.send()
            await world.settled(command_id)
            await world.settled(*ids)

        assert ids[:3] == ids[3:]
        assert sorted(await self._others(world, command_id)) == sorted(ids[:3])

    @BOTH
    @pytest.mark.parametrize("how", ["raises", "returns a failure"])
    async def test_a_command_that_fails_sends_nothing(self, world: World, transactional, how: str) -> None:
        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            await ctx.send(DOMAIN, "Next")
            if how == "raises":
                raise BusinessRuleException("NO", "no")
            return Failure("NO", "no")

        async with world.working():
            command_id = await world.send()
            done = await world.settled(command_id)

        assert done.status is S.FAILED
        assert await self._others(world, command_id) == []

    async def test_a_refused_command_troubles_its_own_handlers_command_and_none_beside_it(self, world: World) -> None:
        known = await world.send("Known", domain="invoices")
        go = asyncio.Event()

        @world.handles(DOMAIN, "Do")
        async def do(command, ctx):
            await go.wait()
            await ctx.send("invoices", "Known", command_id=known if command.data["n"] == 3 else uuid4())

        async with world.working(concurrency=8) as worker:
            ids = [await world.send(data={"n": n}) for n in range(8)]
            await eventually(lambda: worker.in_flight_count == 8, timeout=PATIENCE)
            go.set()
            await world.settled(*ids)
            found = [await world.known(command_id) for command_id in ids]

        assert [n for n, one in enumerate(found) if one.status is not S.COMPLETED] == [3]
        assert (found[3].status, found[3].last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "DuplicateCommandError")
        assert len(await self._others(world, *ids)) == 8

    @BOTH
    async def test_an_id_that_may_be_known_is_passed_over(self, world: World, transactional) -> None:
        known = await world.send("Known", domain="invoices")

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            return (await ctx.send("invoices", "Known", command_id=known, idempotent=True)).command_id

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, str(known))

    @BOTH
    async def test_a_command_may_send_its_successor_with_its_own_unique_key(self, world: World, transactional) -> None:
        seen: list[int] = []

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            seen.append(command.data["n"])
            if command.data["n"] < 4:
                await ctx.send(DOMAIN, "Do", {"n": command.data["n"] + 1}, unique_key="walk")

        async with world.working():
            first = await world.send(data={"n": 1}, unique_key="walk")
            await eventually(lambda: seen == [1, 2, 3, 4], timeout=PATIENCE)
            await world.settled(first, *await self._others(world))

        assert await world.status(first) is S.COMPLETED

    @BOTH
    async def test_a_send_whose_unique_key_is_held_is_a_trouble_unless_it_may_be_skipped(
        self, world: World, transactional
    ) -> None:
        holder = await world.send("Held", domain="invoices", unique_key="held")

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            await ctx.send("invoices", "Held", unique_key="held", on_conflict=command.data["how"])

        async with world.working():
            skipped = await world.settled(await world.send(data={"how": "skip"}))
            refused = await world.send(data={"how": "refuse"})
            error = await eventually(lambda: self._error_of(world, refused), timeout=PATIENCE)

        assert skipped.status is S.COMPLETED
        assert "NotUniqueError" in error
        assert str(holder) in error
        assert await self._others(world, skipped.command_id, refused) == [holder]

    async def _error_of(self, world: World, command_id: UUID) -> str | None:
        """What is said of a command that failed."""
        known = await world.known(command_id)
        return None if known.last_error_code is None else f"{known.last_error_code} {known.last_error_msg}"

    @BOTH
    async def test_mistakes_in_a_send_are_told_at_once(self, world: World, transactional) -> None:
        errors: list[type[Exception]] = []
        kept: list[HandlerContext] = []

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            kept.append(ctx)
            await ctx.send(DOMAIN, "Next", name="a")
            for options in (
                {"name": "a"},
                {"name": "b", "command_id": uuid4()},
                {"colour": "red"},
                {"data": {"x": float("nan")}},
                {"delay": -1},
                {"name": 7},
            ):
                try:
                    await ctx.send(DOMAIN, "Next", **options)
                except (DuplicateCommandError, InvalidInputError) as error:
                    errors.append(type(error))

        async with world.working():
            command_id = await world.send()
            assert (await world.settled(command_id)).status is S.COMPLETED

        assert len(errors) == 6
        assert len(await self._others(world, command_id)) == 1
        with pytest.raises(InvalidOperationError, match="ended"):
            await kept[0].send(DOMAIN, "Next")

    async def test_what_is_sent_with_a_completion_wakes_whoever_handles_it(self, world: World) -> None:
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, ctx):
            await ctx.send("invoices", "Invoice")

        @world.handles(DOMAIN, "DoPlainly")
        async def do_plainly(command, ctx):
            await ctx.send("invoices", "Invoice")

        arrived = asyncio.Queue[UUID]()

        @world.handles("invoices", "Invoice")
        async def invoice(command, ctx):
            arrived.put_nowait(command.command_id)

        async with world.working(domain="invoices", poll_interval=3600.0), world.working():
            for command_type in ("Do", "DoPlainly"):
                await world.send(command_type)
                async with asyncio.timeout(PATIENCE):
                    await arrived.get()

    # -- progress -----------------------------------------------------------------------------------------------------
    @BOTH
    async def test_those_who_watch_see_how_far_a_handler_is(self, world: World, transactional) -> None:
        go = asyncio.Event()

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            for n in range(50):
                ctx.progress(n, 100, "rows")
            await go.wait()

        async with world.working():
            command_id = await world.send()

            async def look():
                return (await world.known(command_id)).progress

            progress = await eventually(look, timeout=PATIENCE)
            go.set()
            await world.settled(command_id)

        assert (progress["done"], progress["total"], progress["note"]) == (49, 100, "rows")

    async def test_a_plain_function_tells_its_progress_from_its_thread(self, world: World) -> None:
        go = threading.Event()

        @world.handles(DOMAIN, "Do")
        def do(command, ctx):
            ctx.progress(1)
            go.wait(PATIENCE)

        async with world.working():
            command_id = await world.send()

            async def look():
                return (await world.known(command_id)).progress

            progress = await eventually(look, timeout=PATIENCE)
            go.set()
            await world.settled(command_id)

        assert progress["done"] == 1

    @pytest.mark.parametrize(
        "wrong", [(-1,), ("1",), (float("nan"),), (True,), (1, -2), (1, 2, 3), (1, 2, "\x00")], ids=str
    )
    async def test_a_report_that_makes_no_sense_is_refused(self, world: World, wrong: tuple) -> None:
        context = HandlerContext(Command(DOMAIN, "Do", uuid4(), {}), 1, 3, 1)

        with pytest.raises(InvalidInputError):
            context.progress(*wrong)

    async def test_a_handler_can_be_tested_without_a_worker(self, world: World) -> None:
        context = HandlerContext(Command(DOMAIN, "Do", uuid4(), {}), 1, 3, 1)

        result = await context.send("invoices", "Invoice", {"n": 1})
        context.progress(1, 2)

        assert [(each.domain, each.command_id) for each in context.sends.kept] == [("invoices", result.command_id)]
