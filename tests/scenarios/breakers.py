"""Workers and breakers: a suite for every store. The workers never poll, so what moves was woken or knew the time."""

from collections import Counter

from mainstay import AuditEventType, CommandStatus, TransientCommandError
from mainstay.commands.breakers import BreakerEventType, BreakerState
from tests.scenarios.running import AGES
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.limited_worker import takes
from tests.support.waiting import eventually

A, E = AuditEventType, BreakerEventType


class BreakerScenarios(WorldSuite):
    """An outage, seen by handlers."""

    async def test_an_outage_sends_nothing_to_an_operator_and_loses_nothing(self, world: World) -> None:
        supplier = {"is_up": False}
        running: Counter[str] = Counter()
        most = 0

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            nonlocal most
            running["now"] += 1
            most = max(most, running["now"])
            await takes(0.01)
            running["now"] -= 1
            if not supplier["is_up"]:
                raise TransientCommandError("DOWN", f"order {command.data['n']}: the supplier does not answer")

        async def breaker():
            (found,) = await world.bus.breakers.list(DOMAIN)
            return found

        async def is_held():
            return await world.bus.breakers.list(DOMAIN) and (await breaker()).parked == 20

        async def has_failed():
            return (await breaker()).failed_probes >= before + 2

        await world.bus.breakers.set(DOMAIN, "Do", failures=2, within=600, probe_after=0.05, drip=200)
        ids = [await world.send("Do", {"n": number}) for number in range(20)]
        async with world.working(poll_interval=AGES), world.working(poll_interval=AGES):
            await eventually(is_held, timeout=PATIENCE)
            before, most = (await breaker()).failed_probes, 0
            await eventually(has_failed, timeout=PATIENCE)
            probing = most
            supplier["is_up"] = True
            for each in ids:
                done = await world.settled(each, timeout=2 * PATIENCE)
                assert done.status is CommandStatus.COMPLETED
        found = await breaker()
        happened = [event.event_type for event in reversed(await world.bus.breakers.history(DOMAIN))]

        assert probing == 1
        assert await world.tsq.count_troubleshooting(DOMAIN) == 0
        assert (found.state, found.parked) == (BreakerState.CLOSING, 0)
        assert happened[:3] == [E.SET, E.OPENED, E.PROBED]
        assert happened[-2:] == [E.PROBED, E.CLOSED]
        assert (await world.events(ids[-1]))[-3:] == [A.RELEASED, A.RECEIVED, A.COMPLETED]

    async def test_what_fails_otherwise_is_not_held_up(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise TransientCommandError("DOWN", command.data["says"])

        await world.bus.breakers.set(DOMAIN, "Do", failures=2, probe_after=600)
        async with world.working(poll_interval=AGES):
            down = [await world.send("Do", {"says": "the supplier does not answer"}) for _ in range(4)]
            alone = await world.send("Do", {"says": "the cellar is under water"}, max_attempts=2)
            done = await world.settled(alone)

            async def is_held():
                found = await world.bus.breakers.list(DOMAIN)
                return found and found[0].parked == len(down)

            await eventually(is_held, timeout=PATIENCE)

        assert done.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE
        assert await world.tsq.count_troubleshooting(DOMAIN) == 1

    async def test_a_breaker_that_is_closed_by_hand_lets_them_fail(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise TransientCommandError("DOWN", "the supplier does not answer")

        await world.bus.breakers.set(DOMAIN, "Do", failures=2, probe_after=600)
        async with world.working(poll_interval=AGES):
            ids = [await world.send("Do", {}, max_attempts=1) for _ in range(3)]

            async def opened():
                return await world.bus.breakers.list(DOMAIN)

            (found,) = await eventually(opened, timeout=PATIENCE)
            await world.bus.breakers.set(DOMAIN, "Do", failures=1000, probe_after=600)
            await world.bus.breakers.force_close(DOMAIN, "Do", found.fingerprint, operator="ada")
            for each in ids:
                done = await world.settled(each)
                assert done.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE
