"""Joining concurrent calls: nobody waits for company, nobody is answered with another's answer, nobody is forgotten."""

import asyncio
import random

import pytest

from mainstay import joining
from mainstay.errors import InvalidInputError, StorageUnavailableError
from mainstay.joining import Joiner
from tests.support.thorough import every
from tests.support.waiting import eventually


class Server:
    """Serves groups when it is let to, and remembers them."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.groups: list[list[int]] = []
        self.held: dict[int, asyncio.Event] = {}
        self.open = asyncio.Event()
        self.under_way = 0
        self.most_under_way = 0
        if is_open:
            self.open.set()

    async def __call__(self, items):
        self.groups.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.open.wait()
            for item in items:
                if item in self.held:
                    await self.held[item].wait()
                if item < 0:
                    raise InvalidInputError(str(item))
            return [item * 10 for item in items]
        finally:
            self.under_way -= 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is overtaken."""
    monkeypatch.setattr(joining, "PATIENCE", 3600)


async def asked(count: int = 1) -> None:
    """Let tasks that were just made begin."""
    for _ in range(count):
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        await done


async def test_a_call_alone_is_served_at_once_without_a_task() -> None:
    server = Server()
    joiner = Joiner(server)
    before = asyncio.all_tasks()

    assert await joiner.serve(1) == 10
    assert asyncio.all_tasks() == before
    assert server.groups == [[1]]


async def test_calls_that_come_while_one_is_under_way_go_together(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server)
    calls = [asyncio.create_task(joiner.serve(n)) for n in range(1, 101)]
    await eventually(lambda: server.groups)
    assert len(joiner) == 99
    server.open.set()

    assert await asyncio.gather(*calls) == [n * 10 for n in range(1, 101)]
    assert server.groups == [[1], list(range(2, 101))]
    assert server.most_under_way == 1


async def test_a_group_has_its_limit(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server, limit=10)
    answers = [joiner.submit(n) for n in range(25)]
    await eventually(lambda: server.groups)
    server.open.set()

    assert await asyncio.gather(*answers) == [n * 10 for n in range(25)]
    assert [len(group) for group in server.groups] == [10, 10, 5]


async def test_a_culprit_is_found_by_halving_and_the_others_are_served(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server)
    answers = [joiner.submit(n) for n in (1, 2, -3, 4, 5, -6, 7, 8)]
    await eventually(lambda: server.groups)
    server.open.set()
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [r for r in results if isinstance(r, int)] == [10, 20, 40, 50, 70, 80]
    assert [str(r) for r in results if isinstance(r, InvalidInputError)] == ["-3", "-6"]
    assert [type(results[n]) for n in (2, 5)] == [InvalidInputError] * 2


async def test_a_culprit_alone_gets_its_own_error() -> None:
    joiner = Joiner(Server())

    with pytest.raises(InvalidInputError, match="-1"):
        await joiner.serve(-1)
    assert await joiner.serve(2) == 20


async def test_where_nothing_can_be_reached_all_are_told_at_once(patient) -> None:
    calls = 0

    async def unreachable(items):
        nonlocal calls
        calls += 1
        raise StorageUnavailableError("no")

    joiner = Joiner(unreachable)
    results = await asyncio.gather(*(joiner.submit(n) for n in range(50)), return_exceptions=True)

    assert [type(result) for result in results] == [StorageUnavailableError] * 50
    assert calls == 1


async def test_a_cancelled_caller_does_not_take_its_item_back(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server)
    first = asyncio.create_task(joiner.serve(1))
    await eventually(lambda: server.groups)
    second, third = (asyncio.create_task(joiner.serve(n)) for n in (2, 3))
    await eventually(lambda: len(joiner) == 2)
    second.cancel()
    server.open.set()

    assert await third == 30
    assert await first == 10
    assert server.groups == [[1], [2, 3]]
    assert second.cancelled()


async def test_a_first_caller_that_is_cancelled_leaves_the_others_served(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server)
    first = asyncio.create_task(joiner.serve(1))
    await eventually(lambda: server.groups)
    second = asyncio.create_task(joiner.serve(2))
    await eventually(lambda: len(joiner) == 1)
    first.cancel()
    await eventually(lambda: len(server.groups) == 2)
    server.open.set()

    assert await second == 20
    assert first.cancelled()


async def test_idle_means_that_everything_submitted_is_served(patient) -> None:
    server = Server(is_open=False)
    joiner = Joiner(server)
    await joiner.idle()
    answers = [joiner.submit(n) for n in range(5)]
    waiting = asyncio.create_task(joiner.idle())
    await asked(5)
    assert not waiting.done()
    server.open.set()
    await waiting

    assert all(answer.done() for answer in answers)


async def test_idle_waits_also_for_what_is_submitted_by_an_answer(patient) -> None:
    server = Server()
    joiner = Joiner(server)
    again = []
    joiner.submit(1).add_done_callback(lambda done: again.append(joiner.submit(done.result())))
    await joiner.idle()

    assert again[0].result() == 100


async def test_a_group_that_takes_long_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PATIENCE", 0.02)
    server = Server()
    server.held[1] = asyncio.Event()
    joiner = Joiner(server)
    slow = asyncio.create_task(joiner.serve(1))
    await eventually(lambda: server.groups)

    assert await asyncio.gather(*(joiner.serve(n) for n in range(2, 30))) == [n * 10 for n in range(2, 30)]
    assert not slow.done()
    server.held[1].set()
    assert await slow == 10
    await joiner.idle()


async def test_groups_under_way_have_their_limit_however_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PATIENCE", 0.001)
    server = Server(is_open=False)
    joiner = Joiner(server)
    calls = []
    for n in range(1, 20):
        calls.append(asyncio.create_task(joiner.serve(n)))
        await eventually(lambda known=n: server.under_way == min(known, joining.MOST))
    assert server.most_under_way == joining.MOST
    server.open.set()

    assert await asyncio.gather(*calls) == [n * 10 for n in range(1, 20)]
    assert server.most_under_way == joining.MOST
    await joiner.idle()
    assert len(joiner) == 0


@pytest.mark.parametrize("seed", every(4, range(20)))
async def test_everyone_gets_his_own_answer_whatever_happens(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(joining, "PATIENCE", 0.001)
    chance = random.Random(seed)

    async def serve(items):
        delay = asyncio.Event()
        asyncio.get_running_loop().call_later(chance.choice([0, 0, 0.0005, 0.003]), delay.set)
        await delay.wait()
        if any(item < 0 for item in items):
            raise InvalidInputError("negative")
        return [item * 10 for item in items]

    joiner = Joiner(serve, limit=chance.choice([1, 3, 500]))

    async def call(n: int) -> None:
        if n < 0:
            with pytest.raises(InvalidInputError):
                await joiner.serve(n)
        else:
            assert await joiner.serve(n) == n * 10

    async with asyncio.timeout(120):
        for _ in range(5):
            numbers = [chance.choice([-1, 1, 1, 1]) * chance.randint(1, 1000) for _ in range(chance.randint(1, 60))]
            calls = [asyncio.create_task(call(n)) for n in numbers]
            doomed = chance.sample(calls, len(calls) // 5)
            await asked(chance.randint(0, 5))
            for task in doomed:
                task.cancel()
            await asyncio.gather(*(task for task in calls if task not in doomed))
            await asyncio.gather(*doomed, return_exceptions=True)
        await joiner.idle()

    assert len(joiner) == 0
    assert joiner._under_way == joiner._overtaken == 0


async def test_who_comes_when_a_group_has_taken_long_already_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The group was alone until then."""
    server = Server()
    server.held[1] = asyncio.Event()
    joiner = Joiner(server)
    slow = asyncio.create_task(joiner.serve(1))
    await eventually(lambda: server.groups)
    monkeypatch.setattr(joining, "PATIENCE", 0.0)

    assert await joiner.serve(2) == 20
    assert not slow.done()
    server.held[1].set()
    assert await slow == 10
    await joiner.idle()


async def test_who_was_served_and_comes_again_at_once_goes_with_those_who_wait() -> None:
    groups = []

    async def serve(items):
        groups.append(len(items))
        await asked(5)
        return items

    joiner = Joiner(serve)

    async def comes_again(item: int) -> None:
        for _ in range(10):
            await joiner.serve(item)

    await asyncio.gather(*(comes_again(item) for item in range(8)))

    assert groups[0] == 1
    assert groups[1:9] == [7] + [8] * 7 or groups[1:9] == [8] * 8
