"""Pausing the collector of cycles."""

import gc

import pytest

from mainstay import collect_rarely
from mainstay.collecting import collecting_later


class Knot:
    """Refers to itself, so only the collector can drop it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_it_was():
    was, threshold = gc.isenabled(), gc.get_threshold()
    yield
    (gc.enable if was else gc.disable)()
    gc.set_threshold(*threshold)


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_nothing_is_collected_in_the_block_and_all_is_after_it() -> None:
    gc.enable()
    with collecting_later():
        before = collections()
        made = [Knot() for _ in range(5_000)]
        assert collections() == before
    assert gc.isenabled()
    made += [Knot() for _ in range(5_000)]
    assert collections() > before


def test_it_is_on_again_after_an_error() -> None:
    gc.enable()
    with pytest.raises(ZeroDivisionError), collecting_later():
        _ = 1 / 0
    assert gc.isenabled()


def test_whoever_has_turned_it_off_keeps_it_off() -> None:
    gc.disable()
    with collecting_later():
        pass
    assert not gc.isenabled()


def test_a_block_in_a_block_ends_with_the_outer_one() -> None:
    gc.enable()
    with collecting_later():
        with collecting_later():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_collects_rarely_looks_through_some_thousand_objects_at_once() -> None:
    gc.enable()
    gc.set_threshold(700, 10, 10)
    frozen = gc.get_freeze_count()
    collect_rarely()
    before = collections()
    made = [Knot() for _ in range(2_000)]
    assert collections() == before
    made += [Knot() for _ in range(8_000)]
    assert collections() > before
    assert gc.get_freeze_count() > frozen
    assert gc.get_threshold()[1:] == (10, 10)


@pytest.mark.parametrize("threshold", [0, 50_000])
def test_what_an_application_has_chosen_is_kept(threshold: int) -> None:
    gc.enable()
    gc.set_threshold(threshold, 5, 5)
    collect_rarely()
    assert gc.get_threshold() == (threshold, 5, 5)


def test_a_collector_that_is_off_is_left_alone() -> None:
    gc.disable()
    frozen, threshold = gc.get_freeze_count(), gc.get_threshold()
    collect_rarely()
    assert (gc.get_freeze_count(), gc.get_threshold(), gc.isenabled()) == (frozen, threshold, False)
