"""What a command of the demo does when it is handled: percentages, and dice that always fall the same way.

The dice are rolled for each attempt in a fixed order: permanent failure, transient failure, refusal by a business rule,
timeout; if none of them comes up, the command succeeds after a while. A roll depends on seed, command and attempt only.
So whoever knows these can say afterwards what the handler must have done, wherever and whenever it ran.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random
from typing import Any, Self
from uuid import UUID

from mainstay.errors import InvalidInputError

_PERCENTAGES = ("fail_permanent_pct", "fail_transient_pct", "fail_business_rule_pct", "timeout_pct")


class Fate(StrEnum):
    """How an attempt ends."""

    PERMANENT = "PERMANENT"
    TRANSIENT = "TRANSIENT"
    BUSINESS_RULE = "BUSINESS_RULE"
    TIMEOUT = "TIMEOUT"
    SUCCESS = "SUCCESS"


#: After these there is another attempt, if any is left.
RETRIED = frozenset({Fate.TRANSIENT, Fate.TIMEOUT})


@dataclass(frozen=True, slots=True)
class CommandBehavior:
    """How likely a command is to end how.

    Args:
        fail_permanent_pct: Chance of a permanent failure, 0 to 100.
        fail_transient_pct: Chance of a transient failure, if it did not fail permanently.
        fail_business_rule_pct: Chance of a refusal, if it did not fail.
        timeout_pct: Chance that it takes longer than its handler may, if none of the above.
        min_duration_ms: What a success takes at least.
        max_duration_ms: What a success takes at most.

    Raises:
        InvalidInputError: A percentage or duration out of range.
    """

    fail_permanent_pct: float = 0.0
    fail_transient_pct: float = 0.0
    fail_business_rule_pct: float = 0.0
    timeout_pct: float = 0.0
    min_duration_ms: float = 0.0
    max_duration_ms: float = 0.0

    def __post_init__(self) -> None:
        """Check every value once, here."""
        for name in _PERCENTAGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004 - percent
                raise InvalidInputError(f"{name} must be a number from 0 to 100, not {value!r}")
        for name in ("min_duration_ms", "max_duration_ms"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise InvalidInputError(f"{name} must be a number that is not negative, not {value!r}")
        if self.min_duration_ms > self.max_duration_ms:
            raise InvalidInputError(
                f"min_duration_ms ({self.min_duration_ms}) is more than max_duration_ms ({self.max_duration_ms})"
            )

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The behaviour in a command's data, under ``behavior``; without it the command just succeeds.

        Raises:
            InvalidInputError: It is not one.
        """
        fields = data.get("behavior") or {}
        try:
            return cls(**fields)
        except TypeError as error:
            raise InvalidInputError(f"behavior: {error}") from error

    def to_data(self) -> dict[str, Any]:
        """What is not zero, for a command's data."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Roll:
    """What the dice say of one attempt: how it ends, and for a success after how many seconds."""

    fate: Fate
    seconds: float


def roll(behavior: CommandBehavior, seed: int, command_id: UUID, attempt: int) -> Roll:
    """Roll the dice for one attempt.

    Args:
        behavior: The percentages.
        seed: Of the whole run.
        command_id: Whose attempt.
        attempt: Which, counted from 1.
    """
    dice = Random(f"{seed}/{command_id}/{attempt}")  # noqa: S311 - dice that must fall the same way again
    chances = (
        (Fate.PERMANENT, behavior.fail_permanent_pct),
        (Fate.TRANSIENT, behavior.fail_transient_pct),
        (Fate.BUSINESS_RULE, behavior.fail_business_rule_pct),
        (Fate.TIMEOUT, behavior.timeout_pct),
    )
    for fate, percent in chances:
        if dice.random() * 100 < percent:
            return Roll(fate, 0.0)
    least, most = behavior.min_duration_ms, behavior.max_duration_ms
    sampled = dice.gauss((least + most) / 2, (most - least) / 6)
    return Roll(Fate.SUCCESS, min(max(sampled, least), most) / 1000)


def replay(behavior: CommandBehavior, seed: int, command_id: UUID, max_attempts: int) -> Fate:
    """How a command ends that starts over with its first attempt and is never interrupted.

    Args:
        behavior: The percentages.
        seed: Of the whole run.
        command_id: Which.
        max_attempts: How many there may be.

    Returns:
        TRANSIENT or TIMEOUT if all attempts are used up.
    """
    fate = Fate.TRANSIENT
    for attempt in range(1, max_attempts + 1):
        fate = roll(behavior, seed, command_id, attempt).fate
        if fate not in RETRIED:
            break
    return fate
