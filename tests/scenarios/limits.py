"""Workers before gates: a suite for every store. The workers never poll, so what moves was woken or knew the time."""

import asyncio
import threading
from collections import Counter
from uuid import uuid4

from mainstay import AuditEventType, CommandStatus, SendRequest, TransientCommandError
from tests.scenarios.running import AGES
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.limited_worker import takes
from tests.support.waiting import eventually

A = AuditEventType
SOON = 25.0
"""Seconds; less than a worker sleeps that nobody wakes."""


class LimitScenarios(WorldSuite):
    """Limits and pauses, seen by handlers."""

    async def test_a_place_that_a_worker_frees_is_taken_by_one_that_sleeps(self, world: World) -> None:
        running: Counter[str] = Counter()
        most = 0
        both = asyncio.Event()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            nonlocal most
            running["now"] += 1
            most = max(most, running["now"])
            if running["now"] == 2:
                both.set()
            await asyncio.wait_for(both.wait(), PATIENCE)
            await takes(0.01)  # long enough for others to start, if they might
            running["now"] -= 1
            if context.attempt == 1 and command.data["n"] % 3 == 0:
                raise TransientCommandError("HICCUP", "once")

        await world.bus.limits.set(DOMAIN, "Do", max_running=2)
        async with world.working(poll_interval=AGES), world.working(poll_interval=AGES):
            requests = [world.send("Do", {"n": number}) for number in range(12)]
            done = await world.settled(*await asyncio.gather(*requests), timeout=SOON)

        assert done.status is CommandStatus.COMPLETED
        assert most == 2

    async def test_what_was_paused_starts_when_it_is_resumed(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return None

        await world.bus.pause(DOMAIN, "Do", reason="wait")
        async with world.working(poll_interval=AGES):
            command_id = await world.send()

            async def is_parked() -> bool:
                (pause,) = await world.bus.paused()
                return pause.parked == 1

            await eventually(is_parked, timeout=PATIENCE)
            await world.bus.resume(DOMAIN, "Do")
            done = await world.settled(command_id, timeout=SOON)

        assert done.status is CommandStatus.COMPLETED
        assert await world.events(command_id) == [A.SENT, A.PARKED, A.RELEASED, A.RECEIVED, A.COMPLETED]

    async def test_a_worker_knows_when_a_rate_allows_the_next_start(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return None

        await world.bus.limits.set(DOMAIN, "Do", rate=2, per_seconds=1.0)
        async with world.working(poll_interval=AGES):
            ids = [await world.send() for _ in range(5)]
            done = await world.settled(*ids, timeout=SOON)

        assert done.status is CommandStatus.COMPLETED

    async def test_a_start_that_would_be_late_is_given_back(self, world: World) -> None:
        """The handler before it blocks the event loop for longer than a start may be late."""

        @world.handles(DOMAIN, "Block")
        async def block(command, context):
            threading.Event().wait(0.4)

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return None

        await world.bus.limits.set(DOMAIN, "Do", rate=10, per_seconds=1.0)
        blocking = await world.send("Block")
        late = await world.send()
        async with world.working(concurrency=2):
            done = await world.settled(blocking, late)
        events = await world.events(late)

        assert events[:3] == [A.SENT, A.RECEIVED, A.GIVEN_BACK]
        assert (done.status, done.attempts) == (CommandStatus.COMPLETED, 1)

    async def test_commands_with_a_limit_are_not_starved_by_a_flood_of_others(self, world: World) -> None:
        before: list[int] = []
        flood: Counter[str] = Counter()

        @world.handles(DOMAIN, "Flood")
        async def flooding(command, context):
            await takes(0.001)
            flood["handled"] += 1

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            before.append(flood["handled"])

        await world.bus.limits.set(DOMAIN, "Do", max_running=10)
        kinds = ["Flood"] * 500 + ["Do"] * 5 + ["Flood"] * 2500
        await world.bus.send_batch([SendRequest(DOMAIN, kind, uuid4(), {}) for kind in kinds])
        async with world.working(concurrency=2):
            await eventually(lambda: len(before) == 5, timeout=PATIENCE)

        assert max(before) < 2000

    async def test_commands_of_a_key_keep_their_order_before_a_gate(self, world: World) -> None:
        seen: list[int] = []

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            seen.append(command.data["n"])

        await world.bus.limits.set(DOMAIN, "Do", max_running=2)
        await world.bus.pause(DOMAIN, "Do")
        requests = [SendRequest(DOMAIN, "Do", uuid4(), {"n": number}, key="one") for number in range(8)]
        await world.bus.send_batch(requests)
        async with world.working(poll_interval=0.1), world.working(poll_interval=0.1):
            await eventually(lambda: self._is_parked(world), timeout=PATIENCE)
            await world.bus.resume(DOMAIN, "Do")
            await world.settled(*[request.command_id for request in requests])

        assert seen == list(range(8))

    async def _is_parked(self, world: World) -> bool:
        (pause,) = await world.bus.paused()
        return pause.parked > 0
