"""The numbers of the dashboard, asked once for everybody who looks.

Counting a million commands takes longer than a page may. So what was counted last is kept: whoever asks gets it at
once unless it is older than `PATIENCE`, and if it is no longer fresh, one question is on its way to the database, never
two. Pages say of when their numbers are; the stream brings the next ones. A page that nobody has looked at for a while
waits `SOON` for them and no longer: it says that they are being counted.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from mainstay.commands.activity import LiveWorker
from mainstay.commands.failures import FailureGroup
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import DomainStats
from mainstay.operations.activity import Span, Traffic
from mainstay.operations.console.checking import Checkup
from mainstay.operations.console.keeping import Budget, Kept
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.doctor import Check

FRESH: Final = 2.0
"""Seconds for which numbers are shown without asking again."""
EXAMINED: Final = 60.0
"""The same of the doctor's findings, which are dear and change slowly."""
READING: Final = 0.5
"""Seconds that one look at the history may take; what is older is read by the next."""
PATIENCE: Final = 30.0
"""Seconds after which numbers are too old to be shown."""
SOON: Final = 0.05
"""Seconds that a page waits for numbers."""


@dataclass(frozen=True, slots=True)
class ProjectionLag:
    """How far a subscription is behind: events, and seconds since the first of them was recorded."""

    subscription: str
    status: str
    position: int
    horizon: int
    events: int
    seconds: float
    dead_letters: int
    owners: list[str]
    shards: int
    owned: int


@dataclass(frozen=True, slots=True)
class Overview:
    """How it is with everything.

    Args:
        at: When it was counted.
        domains: Numbers by domain.
        groups: What waits for an operator, the largest group first.
        projections: How far they are.
        checks: What the doctor would mend; None until it has looked.
        workers: Who is alive, and handles what.
    """

    at: datetime
    domains: list[DomainStats]
    groups: list[FailureGroup]
    projections: list[ProjectionLag]
    checks: list[Check] | None
    workers: list[LiveWorker]

    def total(self, status: str) -> int:
        """Commands of all domains in a status."""
        return sum(each.by_status.get(CommandStatus(status), 0) for each in self.domains)


class Watch:
    """Keeps the numbers of the dashboard.

    Args:
        operator: Knows them.
        budget: What asking for them may take.

    Attributes:
        checkup: Runs fsck.
    """

    def __init__(self, operator: Operator, budget: Budget) -> None:
        self._operator = operator
        self._budget = budget
        self.checkup = Checkup(operator)
        self._checks: Kept[list[Check]] = Kept(self._examine, fresh=EXAMINED, patience=EXAMINED, budget=budget)
        self._overview: Kept[Overview] = Kept(self._count, fresh=FRESH, patience=PATIENCE, budget=budget)

    async def overview(self, *, patience: float | None = None) -> Overview:
        """The numbers, at most `PATIENCE` seconds old unless told otherwise.

        Raises:
            MainstayError: The database cannot be asked.
        """
        return await self._overview.get(patience)

    async def overview_soon(self) -> Overview | None:
        """The same, unless it takes longer than a page may: then they are being counted, and None.

        Raises:
            MainstayError: The database cannot be asked.
        """
        return await self._overview.soon(SOON)

    async def traffic(self, span: Span, *, patience: float | None = None) -> Traffic:
        """What happened lately, as far back as was read already.

        Raises:
            MainstayError: The database cannot be asked.
        """
        return await self._traffic[span].get(patience)

    def traffic_known(self, span: Span) -> Traffic | None:
        """The same, as it was counted last; None if it was not, and is now."""
        return self._traffic[span].now()

    @cached_property
    def _traffic(self) -> dict[Span, Kept[Traffic]]:
        """Begun when somebody looks for the first time: a console can be made before its database is there."""
        return {span: self._history(span) for span in Span}

    def _history(self, span: Span) -> Kept[Traffic]:
        history = self._operator.activity.history(span)
        return Kept(lambda: history.look(budget=READING), fresh=FRESH, patience=PATIENCE, budget=self._budget)

    async def _count(self) -> Overview:
        domains = await self._operator.stats()
        groups = await self._operator.failure_groups()
        subscriptions = await self._operator.projections.list()
        workers = await self._operator.activity.workers()
        lags = [
            ProjectionLag(
                each.subscription, each.status.value, each.position, each.horizon, each.events, each.seconds,
                each.dead_letters, list(each.owners), each.shards, each.owned,
            )
            for each in subscriptions
        ]  # fmt: skip
        return Overview(datetime.now(UTC), domains, groups, lags, self._checks.now(), workers)

    async def _examine(self) -> list[Check]:
        return [each for each in await self._operator.doctor() if each.advice is not None]
