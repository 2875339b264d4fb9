"""Starting and stopping."""

import asyncio

import pytest
from anyio.lowlevel import checkpoint

from mainstay.service import Service, cancel


class Loop(Service):
    """Counts its runs, and ends when `release` is set after it was asked to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.runs = 0
        self.ended = 0
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def _run(self) -> None:
        self.runs += 1
        self.begun.set()
        if self.error is not None:
            raise self.error
        await self.stopping.wait()
        await self.release.wait()
        self.ended += 1


async def test_a_service_runs_from_start_to_stop() -> None:
    loop = Loop()
    before = loop.is_running

    await loop.start()
    await loop.begun.wait()
    during = loop.is_running
    await loop.stop()

    assert (before, during, loop.is_running) == (False, True, False)
    assert (loop.runs, loop.ended) == (1, 1)


async def test_a_service_started_twice_runs_once() -> None:
    loop = Loop()

    await loop.start()
    await loop.begun.wait()
    await loop.start()
    await loop.stop()

    assert loop.runs == 1


async def test_a_service_can_be_stopped_unstarted_and_twice() -> None:
    loop = Loop()

    await loop.stop()
    await loop.start()
    await loop.begun.wait()
    await loop.stop()
    await loop.stop()

    assert loop.ended == 1


async def test_a_stopped_service_can_be_started_again() -> None:
    loop = Loop()

    for _ in range(3):
        async with loop:
            loop.begun.clear()
            await loop.begun.wait()

    assert (loop.runs, loop.ended) == (3, 3)


async def test_everyone_who_stops_a_service_waits_until_it_has_ended() -> None:
    loop = Loop()
    await loop.start()
    await loop.begun.wait()
    loop.release.clear()

    stops = [asyncio.ensure_future(loop.stop()) for _ in range(3)]
    done, _ = await asyncio.wait(stops, timeout=0.05)
    loop.release.set()
    await asyncio.gather(*stops)

    assert done == set()
    assert loop.ended == 1


async def test_a_loop_that_died_says_so_when_it_is_stopped() -> None:
    loop = Loop(RuntimeError("it broke"))
    await loop.start()
    await loop.begun.wait()

    with pytest.raises(RuntimeError, match="it broke"):
        await loop.stop()
    await loop.stop()

    assert not loop.is_running


async def test_a_service_is_stopped_at_the_end_of_its_block_also_when_that_raises() -> None:
    loop = Loop()

    async def block() -> None:
        async with loop as entered:
            await entered.begun.wait()
            raise KeyError

    with pytest.raises(KeyError):
        await block()

    assert loop.ended == 1


async def test_a_stop_that_is_given_up_leaves_the_loop_to_end_by_itself() -> None:
    loop = Loop()
    await loop.start()
    await loop.begun.wait()
    loop.release.clear()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await loop.stop()
    still = loop.is_running
    loop.release.set()
    await loop.stop()

    assert still
    assert loop.ended == 1


async def test_a_task_that_forgets_that_it_was_canceled_ends_all_the_same() -> None:
    answers = [asyncio.get_running_loop().create_future() for _ in range(2)]
    asked = asyncio.Event()

    async def ask_for_ever() -> None:
        for answer in answers:
            asked.set()
            await asyncio.wait_for(answer, 3600)  # forgets it, before Python 3.12, if the answer has just come

    task = asyncio.create_task(ask_for_ever())
    await asked.wait()
    await checkpoint()  # it waits now
    answers[0].set_result(None)

    await cancel(task)

    assert task.cancelled()
