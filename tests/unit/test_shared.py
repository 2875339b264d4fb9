"""One question for all who ask it at about the same time."""

import asyncio

import pytest

from mainstay.joining import Shared
from tests.support.waiting import eventually


class Oracle:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return mine


async def test_who_asks_while_the_question_is_under_way_gets_its_answer() -> None:
    oracle = Oracle()
    shared = Shared(oracle)
    waiting = [asyncio.create_task(shared.answer()) for _ in range(5)]
    await eventually(lambda: oracle.asked)
    oracle.may.set()

    assert await asyncio.gather(*waiting) == [1] * 5
    assert await shared.answer() == 2


async def test_an_older_answer_does_for_whom_it_does() -> None:
    oracle = Oracle()
    oracle.may.set()
    shared = Shared(oracle)

    assert [await shared.answer(), await shared.answer(3600.0), await shared.answer(0.0)] == [1, 1, 2]


async def test_an_error_goes_to_all_who_wait_and_is_not_kept() -> None:
    oracle = Oracle()
    oracle.error = ZeroDivisionError()
    shared = Shared(oracle)
    waiting = [asyncio.create_task(shared.answer()) for _ in range(3)]
    await eventually(lambda: oracle.asked)
    oracle.may.set()
    for each in waiting:
        with pytest.raises(ZeroDivisionError):
            await each

    oracle.error = None
    assert await shared.answer(3600.0) == 2


async def test_one_who_goes_away_leaves_the_question_to_the_others() -> None:
    oracle = Oracle()
    shared = Shared(oracle)
    first = asyncio.create_task(shared.answer())
    await eventually(lambda: oracle.asked)
    second = asyncio.create_task(shared.answer())
    first.cancel()
    await asyncio.wait({first})
    oracle.may.set()

    assert await second == 1
