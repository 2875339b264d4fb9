"""Which of the streams that others append to is held next."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from mainstay.commands import gathering as gathering_module
from mainstay.commands.aggregates import WARY
from mainstay.commands.gathering import MOST_PASSED, Gathering


class Ended:
    def __init__(self) -> None:
        self.is_done = False

    def done(self) -> bool:
        return self.is_done

    def cancel(self) -> None:
        self.is_done = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(gathering_module, "now", lambda: now[0])
    return now


@pytest.fixture
def gathering(clock: list[float]) -> Gathering:
    return Gathering(lambda: None, lambda: None)


def one(gathering: Gathering, stream: str, *, tries: int = 0) -> Any:
    lease = SimpleNamespace(command_id=uuid4())
    item: Any = SimpleNamespace(
        stream=stream,
        kind=object,
        received=SimpleNamespace(lease=lease),
        end=Ended(),
        tries=tries,
        number=len(gathering.waiting),
        is_parked=False,
    )
    gathering.add(item)
    return item


def contended(gathering: Gathering, *streams: str) -> None:
    for stream in streams:
        gathering.beware(one(gathering, stream, tries=2))


async def test_whoever_was_overtaken_twice_parks_all_who_wait_for_his_stream_and_who_come_later(gathering):
    before, other = one(gathering, "a"), one(gathering, "b")
    gathering.beware(one(gathering, "a", tries=1))
    calm = gathering.parked
    contended(gathering, "a")
    after = one(gathering, "a")

    assert (calm, gathering.parked) == (0, 4)
    assert (before.is_parked, after.is_parked, other.is_parked) == (True, True, False)
    gathering.leave(before)
    assert gathering.parked == 3


async def test_contended_streams_are_taken_only_by_who_holds_them(gathering):
    contended(gathering, "a", "b")
    other = one(gathering, "c")

    assert gathering.taken(10) == [other]
    assert [each.stream for each in gathering.taken(10, held={"b"})] == ["b"]
    assert gathering.wanted() == ["a"]


async def test_one_that_is_passed_by_again_and_again_is_waited_for_apart_from_the_others(gathering):
    contended(gathering, "a", "b", "c")
    for _ in range(MOST_PASSED - 1):
        gathering.passed(["a", "b", "c"], {"c"})
    gathering.passed(["b"], {"b"})
    before = gathering.wanted(), gathering.wanted_hot()
    gathering.passed(["a", "b", "c"], {"c"})

    assert before == (["a", "b", "c"], [])
    assert (gathering.wanted(), gathering.wanted_hot()) == (["b", "c"], ["a"])


async def test_hot_streams_are_waited_for_in_turn(gathering):
    contended(gathering, "a", "b")
    for _ in range(MOST_PASSED):
        gathering.passed(["a", "b"], set())

    assert [gathering.wanted_hot() for _ in range(3)] == [["a"], ["b"], ["a"]]


async def test_a_stream_is_nobodys_any_more_after_a_while(gathering, clock):
    contended(gathering, "a")
    for _ in range(MOST_PASSED):
        gathering.passed(["a"], set())
    clock[0] += WARY

    assert (gathering.wanted(), gathering.wanted_hot()) == ([], [])
    assert [each.stream for each in gathering.taken(10)] == ["a"]


async def test_who_was_called_off_is_waited_for_by_nobody(gathering):
    contended(gathering, "a")
    gathering.waiting[0].end.is_done = True

    assert (gathering.wanted(), gathering.taken(10, held={"a"})) == ([], [])


async def test_who_is_put_back_comes_before_who_came_later(gathering):
    items = [one(gathering, "a") for _ in range(3)]
    taken = gathering.taken(2)
    gathering.put_back(reversed(taken))

    assert list(gathering.waiting) == items
