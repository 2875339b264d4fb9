"""The commands of the demo: which there are, and how each is sent.

Number ``n`` of a run is always the same command, so nothing has to be kept to ask later what must have become of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, TypeVar
from uuid import UUID, uuid5

from mainstay.commands.command import SendRequest
from mainstay.operations.demo.behaviours import CommandBehavior
from mainstay.operations.demo.handlers import DOMAIN, REPORTS

REPLIES: Final = f"{DOMAIN}__replies"
MAX_ATTEMPTS: Final = 3
BATCH_NAME: Final = "Monthly statements"
_IDS: Final = UUID("0d7c2f0e-4f1b-5f6a-8a53-9b7a3f5f2d10")
_LARGEST_BATCH: Final = 5000
T = TypeVar("T")


class Way(StrEnum):
    """How a command is sent."""

    BULK = "in bulk"
    SINGLE = "one by one"
    BATCH = "as a batch"
    REPLY = "with a reply asked for"
    DELAYED = "for later"


@dataclass(frozen=True, slots=True)
class Planned:
    """One command of the demo."""

    number: int
    way: Way
    behavior: CommandBehavior
    request: SendRequest


#: Way, share in percent.
_WAYS: Final = ((Way.BATCH, 10), (Way.REPLY, 5), (Way.SINGLE, 5), (Way.DELAYED, 5), (Way.BULK, 75))
#: Command type, share in percent, behaviour.
_TYPES: Final = (
    (
        "TestCommand",
        50,
        CommandBehavior(
            fail_permanent_pct=1, fail_transient_pct=5, fail_business_rule_pct=1, timeout_pct=0.5, max_duration_ms=20
        ),
    ),
    ("LedgerCommand", 25, CommandBehavior(2, 8, 1, 0.3, 0, 20)),
    ("ThreadCommand", 10, CommandBehavior(1, 5, 0, 0, 1, 10)),
    ("NoOp", 15, CommandBehavior()),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """All commands of a run.

    Args:
        commands: How many.
        seed: Of the dice.
        run: Makes ids differ from those of another run in the same database.
        delay: Seconds that delayed commands wait.
    """

    commands: int
    seed: int
    run: str
    delay: float = 2.0

    @property
    def batch_id(self) -> UUID:
        """Id of the batch."""
        return uuid5(_IDS, f"{self.run}/batch")

    @property
    def batch_size(self) -> int:
        """How many commands are in the batch."""
        return min(self.commands * _WAYS[0][1] // 100, _LARGEST_BATCH)

    @property
    def batch_report(self) -> SendRequest:
        """What is sent when the batch is done."""
        return SendRequest(REPORTS, "BatchReport", uuid5(_IDS, f"{self.run}/report"), {"batch": str(self.batch_id)})

    def command(self, number: int) -> Planned:
        """Command number ``number``, counted from 0."""
        dice = Random(f"{self.seed}/{number}")  # noqa: S311 - dice that must fall the same way again
        way = Way.BATCH if number < self.batch_size else _drawn(dice, _WAYS[1:])
        index = _drawn(dice, [(n, share) for n, (_, share, _) in enumerate(_TYPES)])
        command_type, _, behavior = _TYPES[index]
        request = SendRequest(
            domain=DOMAIN,
            command_type=command_type,
            command_id=uuid5(_IDS, f"{self.run}/{number}"),
            data={"n": number, "seed": self.seed, "behavior": behavior.to_data()},
            reply_to=REPLIES if way is Way.REPLY else None,
            max_attempts=MAX_ATTEMPTS,
            batch_id=self.batch_id if way is Way.BATCH else None,
            delay=self.delay if way is Way.DELAYED else None,
        )
        return Planned(number, way, behavior, request)

    def __iter__(self) -> Iterator[Planned]:
        """All commands, in order; the batch comes first."""
        return (self.command(number) for number in range(self.commands))

    def probes(self, count: int) -> Iterator[SendRequest]:
        """Commands that do nothing, to measure how soon an idle worker starts one."""
        for number in range(count):
            yield SendRequest(DOMAIN, "NoOp", uuid5(_IDS, f"{self.run}/probe/{number}"), {"probe": number})


def _drawn(dice: Random, shares: Sequence[tuple[T, int]]) -> T:
    """One of several, with chances as their shares."""
    values, weights = zip(*shares, strict=True)
    drawn: T = dice.choices(values, weights)[0]
    return drawn
