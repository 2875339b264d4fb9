"""Fsck from the console: it reads everything, so it runs when somebody asks, and its last answer is kept."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mainstay.commands.store import Finding, FsckReport
from mainstay.errors import InvalidOperationError, MainstayError
from mainstay.operations.operator import Operator

SHOWN = 100
"""Findings that are kept."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A run of fsck.

    Args:
        by: Who asked for it.
        begun_at: When.
        ended_at: When it ended; None while it runs.
        commands: How many were looked at.
        events: How many were looked at.
        findings: What must not be; the first hundred.
        found: How many findings there are.
        problem: Why it could not be done.
    """

    by: str
    begun_at: datetime
    ended_at: datetime | None = None
    commands: int = 0
    events: int = 0
    findings: tuple[Finding, ...] = ()
    found: int = 0
    problem: str | None = None


class Checkup:
    """Runs fsck in the background.

    Args:
        operator: Can.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._task: asyncio.Task[None] | None = None
        self.last: Checked | None = None

    def begin(self, by: str) -> Checked:
        """Begin a run.

        Raises:
            InvalidOperationError: One is under way.
        """
        if self._task is not None and not self._task.done():
            raise InvalidOperationError("fsck is running already: wait for its answer")
        self.last = Checked(by, datetime.now(UTC))
        self._task = asyncio.create_task(self._run(self.last))
        return self.last

    async def _run(self, begun: Checked) -> None:
        try:
            report = await self._operator.fsck()
        except MainstayError as error:
            self.last = replace(begun, ended_at=datetime.now(UTC), problem=str(error))
        except BaseException:
            self.last = replace(begun, ended_at=datetime.now(UTC), problem="it was ended before it had an answer")
            raise
        else:
            self.last = _ended(begun, report)


def _ended(begun: Checked, report: FsckReport) -> Checked:
    return replace(
        begun,
        ended_at=datetime.now(UTC),
        commands=report.commands,
        events=report.events,
        findings=tuple(report.findings[:SHOWN]),
        found=len(report.findings),
    )
