"""When to try again: listed delays or exponential ones, with jitter.

The number of attempts belongs to the command (its ``max_attempts``); a policy gives the delays between them and the
number for commands that name none.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from mainstay.errors import ConfigurationError, shown

DEFAULT_MAX_ATTEMPTS = 3
MOST_ATTEMPTS = 2**31 - 1
"""As many as the database can count."""
DEFAULT_BACKOFF_SCHEDULE = (10.0, 60.0, 300.0)
_LONGEST_SCHEDULE = 1000
LONGEST_DURATION = 100 * 366 * 86_400.0
"""Seconds; PostgreSQL and Python can both name the time at its end."""
FALLBACK_DELAY = 30.0
"""Seconds between attempts for a policy whose schedule is empty."""


def as_seconds(duration: timedelta | float) -> float:
    """Seconds of a duration that may be given as ``timedelta`` or as seconds.

    Raises:
        ConfigurationError: Not a number, not finite, or negative.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = duration
    else:
        message = f"a duration is a timedelta or a number of seconds, not {shown(duration)}"
        raise ConfigurationError(message)
    if not 0.0 <= seconds <= LONGEST_DURATION:
        message = f"a duration must be finite and not negative, and at most 100 years, not {shown(duration)}"
        raise ConfigurationError(message)
    return float(seconds)


def checked_policy(policy: object) -> "RetryPolicy | None":
    """The policy itself, or None.

    Raises:
        ConfigurationError: Something else.
    """
    if policy is None or isinstance(policy, RetryPolicy):
        return policy
    message = f"retry_policy must be a RetryPolicy, not {shown(policy)}"
    raise ConfigurationError(message)


def _check_attempts(max_attempts: object) -> None:
    if not isinstance(max_attempts, int) or isinstance(max_attempts, bool) or not 1 <= max_attempts <= MOST_ATTEMPTS:
        message = f"max_attempts must be a whole number from 1 to {MOST_ATTEMPTS:,}, not {shown(max_attempts)}"
        raise ConfigurationError(message)


@dataclass(frozen=True)
class RetryPolicy:
    """Delays between the attempts of a command.

    Args:
        max_attempts: Attempts in all for commands that do not say themselves; from 1 to 2,147,483,647.
        backoff_schedule: Delays, each seconds or ``timedelta``; the last one repeats.
        jitter: Share by which a delay is randomly lengthened or shortened, 0 to 1. Spreads the retries of commands that
            failed together.

    Raises:
        ConfigurationError: A value out of range.
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    backoff_schedule: Sequence[timedelta | float] = field(default=DEFAULT_BACKOFF_SCHEDULE)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check every value once, here."""
        _check_attempts(self.max_attempts)
        if not isinstance(self.jitter, int | float) or not 0 <= self.jitter <= 1:
            message = f"jitter must lie between 0 and 1, not {shown(self.jitter)}"
            raise ConfigurationError(message)
        if not isinstance(self.backoff_schedule, Sequence) or isinstance(self.backoff_schedule, str | bytes):
            message = f"backoff_schedule must be a list of durations, not {shown(self.backoff_schedule)}"
            raise ConfigurationError(message)
        object.__setattr__(self, "backoff_schedule", [as_seconds(delay) for delay in self.backoff_schedule])

    @classmethod
    def exponential(
        cls,
        *,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        base: timedelta | float = 10.0,
        multiplier: float = 2.0,
        maximum: timedelta | float = 300.0,
        jitter: float = 0.1,
    ) -> Self:
        """Delays that grow by a factor: ``base``, ``base * multiplier``, ... up to ``maximum``.

        Raises:
            ConfigurationError: A value out of range.
        """
        _check_attempts(max_attempts)
        if not isinstance(multiplier, int | float) or not 1 <= multiplier < float("inf"):
            message = f"multiplier must be at least 1 and finite, not {shown(multiplier)}"
            raise ConfigurationError(message)
        first, ceiling = as_seconds(base), as_seconds(maximum)
        schedule: list[float] = []
        delay, growth = first, float(min(multiplier, LONGEST_DURATION))
        for _ in range(min(max(max_attempts - 1, 1), _LONGEST_SCHEDULE)):
            schedule.append(min(delay, ceiling))
            if delay >= ceiling or delay == 0 or multiplier == 1:
                break
            delay *= growth
        return cls(max_attempts=max_attempts, backoff_schedule=schedule, jitter=jitter)

    def should_retry(self, attempt: int, max_attempts: int | None = None) -> bool:
        """Whether another attempt may follow this one.

        Args:
            attempt: The attempt that failed, counted from 1.
            max_attempts: The command's own limit; the policy's if None.
        """
        return attempt < (max_attempts or self.max_attempts)

    def get_backoff(self, attempt: int) -> float:
        """Seconds to wait after this attempt, without jitter; 0 when the policy's own attempts are used up.

        Args:
            attempt: The attempt that failed, counted from 1.
        """
        return self._listed(attempt) if self.should_retry(attempt) else 0.0

    def delay_after(self, attempt: int) -> float:
        """Seconds to wait after this attempt, with jitter, whatever the policy's own number of attempts.

        Args:
            attempt: The attempt that failed, counted from 1.
        """
        delay = self._listed(attempt)
        return delay * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 - spreads load, guards nothing

    def _listed(self, attempt: int) -> float:
        schedule = self.backoff_schedule
        if not schedule:
            return FALLBACK_DELAY
        return as_seconds(schedule[min(max(attempt, 1), len(schedule)) - 1])


DEFAULT_RETRY_POLICY = RetryPolicy()
READING_POLICY = RetryPolicy(max_attempts=5, backoff_schedule=(0.1, 0.5, 2.0, 10.0))
"""For those who read in order, and whose readers wait while an event or a message is tried again."""
