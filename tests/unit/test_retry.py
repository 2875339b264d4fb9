"""Retry policies."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.errors import ConfigurationError
from mainstay.retry import DEFAULT_RETRY_POLICY, FALLBACK_DELAY, RetryPolicy, as_seconds


@pytest.mark.parametrize(
    ("duration", "seconds"), [(0, 0.0), (5, 5.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (timedelta(), 0.0)]
)
def test_a_duration_is_seconds_or_a_timedelta(duration: Any, seconds: float) -> None:
    assert as_seconds(duration) == seconds


@pytest.mark.parametrize("duration", ["5", None, True, 1j, [], -1, -0.001, math.nan, math.inf, timedelta(seconds=-1)])
def test_anything_else_is_no_duration(duration: Any) -> None:
    with pytest.raises(ConfigurationError, match="a duration"):
        as_seconds(duration)


def test_the_default_is_three_attempts_after_10_60_and_300_seconds() -> None:
    policy = DEFAULT_RETRY_POLICY

    assert (policy.max_attempts, policy.backoff_schedule, policy.jitter) == (3, [10.0, 60.0, 300.0], 0.1)
    assert policy == RetryPolicy()
    assert [policy.get_backoff(attempt) for attempt in (1, 2, 3, 4)] == [10.0, 60.0, 0.0, 0.0]


def test_another_attempt_follows_while_some_are_left() -> None:
    policy = RetryPolicy(max_attempts=2)

    assert [policy.should_retry(attempt) for attempt in (1, 2, 3)] == [True, False, False]
    assert [policy.should_retry(attempt, 4) for attempt in (3, 4)] == [True, False]
    assert not policy.should_retry(1, 1)


def test_the_last_delay_of_the_schedule_repeats() -> None:
    policy = RetryPolicy(max_attempts=9, backoff_schedule=[1, timedelta(minutes=1)], jitter=0)

    assert [policy.delay_after(attempt) for attempt in (1, 2, 3, 8, 50)] == [1.0, 60.0, 60.0, 60.0, 60.0]


def test_an_empty_schedule_falls_back_to_one_delay() -> None:
    policy = RetryPolicy(backoff_schedule=[], jitter=0)

    assert policy.get_backoff(1) == policy.delay_after(7) == FALLBACK_DELAY


@given(st.floats(0, 1), st.floats(0, 1e6), st.integers(1, 100))
def test_jitter_stays_within_its_share(jitter: float, delay: float, attempt: int) -> None:
    policy = RetryPolicy(backoff_schedule=[delay], jitter=jitter)

    drawn = policy.delay_after(attempt)

    assert drawn >= 0
    assert delay * (1 - jitter) * 0.999 <= drawn <= delay * (1 + jitter) * 1.001


@given(
    st.integers(1, 50),
    st.floats(0, 1000),
    st.floats(1, 10),
    st.floats(0, 10_000),
)
def test_exponential_delays_never_shrink_and_never_exceed_the_maximum(
    attempts: int, base: float, multiplier: float, maximum: float
) -> None:
    policy = RetryPolicy.exponential(max_attempts=attempts, base=base, multiplier=multiplier, maximum=maximum, jitter=0)

    delays = [policy.delay_after(attempt) for attempt in range(1, attempts + 1)]

    assert delays == sorted(delays)
    assert delays[0] == min(base, maximum)
    assert max(delays) <= maximum


def test_exponential_delays_grow_by_their_factor() -> None:
    policy = RetryPolicy.exponential(max_attempts=6, base=timedelta(seconds=10), multiplier=2, maximum=100, jitter=0)

    assert [policy.delay_after(attempt) for attempt in range(1, 8)] == [10, 20, 40, 80, 100, 100, 100]
    assert policy.max_attempts == 6


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": -1}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": "3"}, "max_attempts"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": math.nan}, "jitter"),
        ({"jitter": "0.1"}, "jitter"),
        ({"backoff_schedule": [10, -1]}, "duration"),
        ({"backoff_schedule": ["10"]}, "duration"),
        ({"backoff_schedule": None}, "backoff_schedule"),
        ({"backoff_schedule": 10}, "backoff_schedule"),
        ({"backoff_schedule": "10"}, "backoff_schedule"),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RetryPolicy(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"multiplier": 0.5},
        {"multiplier": "2"},
        {"multiplier": math.nan},
        {"multiplier": math.inf},
        {"base": -1},
        {"maximum": math.inf},
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"jitter": 2},
    ],
)
def test_an_exponential_policy_out_of_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy.exponential(**values)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RetryPolicy().jitter = 0.5  # type: ignore[misc]  # that is the point
