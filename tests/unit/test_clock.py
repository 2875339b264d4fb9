"""Clocks."""

from datetime import UTC, datetime, timedelta

import pytest

from mainstay.clock import Clock, FrozenClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), FrozenClock()])
def test_the_time_of_day_is_aware_and_in_utc(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_the_machines_clock_moves_forward() -> None:
    clock = SystemClock()
    first, then = clock.monotonic(), clock.now()

    assert clock.monotonic() >= first
    assert clock.now() >= then


def test_a_frozen_clock_moves_only_when_told_to() -> None:
    start = datetime(2030, 5, 6, tzinfo=UTC)
    clock = FrozenClock(start)
    before = (clock.now(), clock.monotonic(), clock.now(), clock.monotonic())

    clock.advance(90)
    clock.advance(timedelta(minutes=1))
    clock.advance(0.5)

    assert before == (start, 0.0, start, 0.0)
    assert clock.now() == start + timedelta(seconds=150.5)
    assert clock.monotonic() == 150.5
