"""What must come of many commands: expected numbers, and how far chance may lead away from them.

A command is retried while its attempts fail transiently or time out. With ``q`` the chance of that, ``m`` attempts
allowed and ``p`` the chance that an attempt ends in some final way, the command ends that way with probability
``p * (1 - q**m) / (1 - q)``, and exhausts its attempts with ``q**m``. Numbers of many independent commands have the
sums of these as their mean and the sums of ``p * (1 - p)`` as their variance.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

from mainstay.operations.demo.behaviours import CommandBehavior

LOOKS: Final = 16_000
"""Chance alone leads a number out of its tolerance once in so many looks, at most."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A number to expect.

    Args:
        mean: On average.
        deviation: Standard deviation.
        most: How much one command can add.
    """

    mean: float
    deviation: float
    most: int = 1

    @property
    def tolerance(self) -> float:
        """How far off a number may be.

        Bernstein's inequality, on both sides. A small number is far more often far above its mean than standard
        deviations make believe, which have nothing to say about what is rare.
        """
        if not self.mean:
            return 0.0
        surprise = log(2 * LOOKS)
        rare = self.most * surprise / 3
        return rare + sqrt(rare * rare + 2 * surprise * self.deviation**2)

    def allows(self, happened: int) -> bool:
        """Whether a number is within the tolerance."""
        return abs(happened - self.mean) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What to expect of a set of commands.

    Args:
        completed: End well.
        failed: Refused by a business rule.
        permanent: In the troubleshooting queue after a permanent failure.
        exhausted: In the troubleshooting queue with all attempts used up.
        retries: Attempts beyond each command's first.
    """

    completed: Expected
    failed: Expected
    permanent: Expected
    exhausted: Expected
    retries: Expected


def calculate(commands: Iterable[tuple[CommandBehavior, int]]) -> Outcomes:
    """What to expect.

    Args:
        commands: Behaviour and allowed attempts of each.
    """
    names = ("completed", "failed", "permanent", "exhausted", "retries")
    means = dict.fromkeys(names, 0.0)
    variances = dict.fromkeys(names, 0.0)
    numbers = Counter(commands)
    for (behavior, attempts), number in numbers.items():
        for name, chance in _chances(behavior, attempts).items():
            means[name] += number * chance
            variances[name] += number * chance * (1 - chance)
        mean, variance = _retries(_chance_of_retry(behavior), attempts)
        means["retries"] += number * mean
        variances["retries"] += number * variance
    most = max((attempts - 1 for (_, attempts) in numbers), default=0)
    return Outcomes(
        **{name: Expected(means[name], sqrt(variances[name]), most if name == "retries" else 1) for name in names}
    )


def _chances(behavior: CommandBehavior, attempts: int) -> dict[str, float]:
    """How likely one command is to end in each way."""
    permanent = behavior.fail_permanent_pct / 100
    passed = (1 - permanent) * (1 - behavior.fail_transient_pct / 100)
    refused = passed * behavior.fail_business_rule_pct / 100
    again = _chance_of_retry(behavior)
    succeeded = 1 - permanent - refused - again
    repeated = sum(again**n for n in range(attempts))
    return {
        "completed": succeeded * repeated,
        "failed": refused * repeated,
        "permanent": permanent * repeated,
        "exhausted": again**attempts,
    }


def _chance_of_retry(behavior: CommandBehavior) -> float:
    """How likely one attempt is to fail so that another may follow."""
    went_on = 1 - behavior.fail_permanent_pct / 100
    transient = went_on * behavior.fail_transient_pct / 100
    accepted = (went_on - transient) * (1 - behavior.fail_business_rule_pct / 100)
    return transient + accepted * behavior.timeout_pct / 100


def _retries(again: float, attempts: int) -> tuple[float, float]:
    """Mean and variance of the attempts beyond the first of one command."""
    chances = [again**n * (1 - again) for n in range(attempts - 1)] + [again ** (attempts - 1)]
    mean = sum(n * chance for n, chance in enumerate(chances))
    return mean, sum(n * n * chance for n, chance in enumerate(chances)) - mean * mean
