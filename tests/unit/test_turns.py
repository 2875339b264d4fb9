"""Turns with contended streams: nobody waits where nobody contends, and in the order of arrival where somebody does."""

import asyncio
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from mainstay.commands import turns
from mainstay.commands.aggregates import WARY
from mainstay.commands.turns import Turns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(turns, "_now", lambda: now[0])
    return now


async def test_nobody_waits_for_a_stream_that_nobody_contends_for(clock):
    mine = Turns()

    async with mine.of("a") as first, mine.of("a") as second:
        assert (first, second) == (False, False)


async def test_a_contended_stream_is_had_by_one_after_the_other_in_the_order_of_arrival(clock):
    mine, order, inside = Turns(), [], []
    mine.contend("a")

    async def have(number: int) -> None:
        async with mine.of("a") as held:
            inside.append(number)
            await checkpoint()
            order.append((number, held, len(inside)))
            inside.remove(number)

    await asyncio.gather(*(have(number) for number in range(5)))

    assert order == [(number, True, 1) for number in range(5)]


async def test_another_stream_is_free_meanwhile(clock):
    mine = Turns()
    mine.contend("a")

    async with mine.of("a") as first, mine.of("b") as second:
        assert (first, second) == (True, False)


async def test_after_a_while_nobody_is_taken_to_contend_any_more_unless_somebody_waits(clock):
    mine = Turns()
    mine.contend("a")
    clock[0] += WARY
    async with mine.of("a") as held:
        assert not held
    mine.contend("a")

    async with mine.of("a") as held:
        clock[0] += WARY
        mine.contend("b")  # forgets what is over
        waiting: asyncio.Task[Any] = asyncio.create_task(mine.of("a").__aenter__())
        await checkpoint()
        assert held
        assert not waiting.done()
    assert await waiting


async def test_one_who_is_canceled_while_he_waits_lets_the_next_have_his_turn(clock):
    mine = Turns()
    mine.contend("a")

    async with mine.of("a"):
        gone: asyncio.Task[Any] = asyncio.create_task(mine.of("a").__aenter__())
        following: asyncio.Task[Any] = asyncio.create_task(mine.of("a").__aenter__())
        await checkpoint()
        gone.cancel()
    assert await following
    assert gone.cancelled()


async def test_all_who_want_a_stream_but_one_are_parked(clock):
    told: list[int] = []
    mine = Turns(lambda: told.append(1))
    mine.contend("a")
    free = asyncio.Event()

    async def have(stream: str, *, parks: bool = True) -> None:
        async with mine.of(stream, parks=parks):
            await free.wait()

    async def come(*args: Any, **options: Any) -> "asyncio.Task[None]":
        task = asyncio.create_task(have(*args, **options))
        await checkpoint()
        return task

    tasks = [await come("a") for _ in range(4)]
    parked = [mine.parked]
    tasks.append(await come("a", parks=False))
    tasks.append(await come("b"))
    parked.append(mine.parked)
    tasks[2].cancel()
    await checkpoint()
    parked.append(mine.parked)
    free.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (parked, len(told), mine.parked) == ([3, 3, 2], 3, 0)
