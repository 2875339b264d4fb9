"""Slots: as many tasks as handlers may run, and one more for each command that only waits."""

import asyncio

from anyio.lowlevel import checkpoint

from mainstay.commands.slots import MOST_PARKED, Slots


async def test_there_is_a_task_more_for_each_command_that_only_waits_up_to_a_limit():
    running, parked = [], [0]

    async def work() -> None:
        running.append(1)
        await asyncio.Event().wait()

    slots, found = Slots(work, lambda: parked[0]), []
    slots.open(2)
    for count in (0, 3, 1, MOST_PARKED + 5):
        parked[0] = count
        slots.grow()
        await checkpoint()
        found.append((slots.most, len(running)))
    await slots.end()

    assert found == [(2, 2), (5, 5), (3, 5), (2 + MOST_PARKED, 2 + MOST_PARKED)]
