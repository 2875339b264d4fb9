"""What a run came to: the report, and taking stock for it.

Everything is counted in the database after the fact, from commands, audit trails, the ledger and the reply queue; what
processes said of themselves is for the screen only.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from mainstay.commands.command import Reply
from mainstay.commands.lifecycle import AuditEventType, CommandStatus, ReplyOutcome
from mainstay.operations.demo.behaviours import RETRIED, Fate, roll
from mainstay.operations.demo.calculator import Expected, Outcomes, calculate
from mainstay.operations.demo.workload import MAX_ATTEMPTS, REPLIES, Planned, Way, Workload
from mainstay.storage.postgres.demo import DemoStore, End
from mainstay.storage.postgres.operations import Latency
from mainstay.storage.postgres.pgmq import PgmqClient

LEASE_EXPIRED = "LEASE_EXPIRED"
_CHUNK = 5000
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Comparison:
    """A number to expect beside what happened."""

    name: str
    expected: float
    tolerance: float
    happened: int

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.happened - self.expected) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, and what was found."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Killed:
    """What a SIGKILL cost.

    Args:
        worker: Number of the process.
        pid: Of the process.
        handled: Commands that it had handled.
        leases_expired: Commands that it held, and whose lease ended.
        started_again: Of them, those that another worker took over.
        exhausted: Of them, those whose attempts were used up by that.
    """

    worker: int
    pid: int | None
    handled: int
    leases_expired: int
    started_again: int
    exhausted: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A kind of decision that the operator took, and what came of it."""

    what: str
    commands: int
    became: str
    as_expected: int


@dataclass(slots=True)
class Report:
    """All that a run shows at its end."""

    commands: int
    seed: int
    workers: int
    concurrency: int
    server: str
    outcomes: list[Comparison] = field(default_factory=list)
    ways: dict[str, int] = field(default_factory=dict)
    send_seconds: float = 0.0
    sent_per_second: float = 0.0
    worked_per_second: float = 0.0
    latencies: dict[str, Latency] = field(default_factory=dict)
    killed: Killed | None = None
    decisions: list[Decision] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        return all(each.holds for each in self.outcomes) and all(each.holds for each in self.checks)

    def check(self, name: str, found: str, *, holds: bool) -> None:
        """Add a check."""
        self.checks.append(Check(name, holds, found))


@dataclass(frozen=True, slots=True)
class FirstPass:
    """Where all commands stood when none was under way any more, before the operator came.

    Args:
        statuses: How many stood where; troubleshooting by the kind of error.
        strayed: Commands that did not end as their dice say.
        lost: Commands that are not in the database.
    """

    statuses: Counter[str]
    strayed: int
    lost: int


async def first_pass(store: DemoStore, workload: Workload) -> FirstPass:
    """Look at every command of a run, beside its dice."""
    statuses: Counter[str] = Counter()
    strayed = lost = 0
    for chunk in _chunks(workload, _CHUNK):
        ends = await store.ends([planned.request.command_id for planned in chunk])
        for planned in chunk:
            end = ends.get(planned.request.command_id)
            if end is None:
                lost += 1
                continue
            statuses[_name(end)] += 1
            strayed += not _as_rolled(planned, end, workload.seed)
    return FirstPass(statuses, strayed, lost)


def compare(
    workload: Workload, first: FirstPass, events: dict[AuditEventType, int]
) -> tuple[list[Comparison], dict[str, int]]:
    """Expected numbers beside what happened, and how many commands were sent in which way."""
    ways: Counter[str] = Counter()

    def behaviors() -> Iterator[tuple[Any, int]]:
        for planned in workload:
            ways[planned.way] += 1
            yield planned.behavior, MAX_ATTEMPTS

    expected: Outcomes = calculate(behaviors())
    happened = first.statuses
    rows: list[tuple[str, Expected, int]] = [
        ("completed", expected.completed, happened["completed"]),
        ("failed: refused by a business rule", expected.failed, happened["failed"]),
        ("troubleshooting: permanent failure", expected.permanent, happened["permanent"]),
        ("troubleshooting: all attempts used up", expected.exhausted, happened["exhausted"]),
        ("attempts beyond the first", expected.retries, events.get(AuditEventType.RETRY_SCHEDULED, 0)),
    ]
    return [Comparison(name, each.mean, each.tolerance, number) for name, each, number in rows], dict(ways)


def _name(end: End) -> str:
    if end.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
        return "permanent" if end.error_type == "PERMANENT" else "exhausted"
    return end.status.lower()


def _as_rolled(planned: Planned, end: End, seed: int) -> bool:
    """Whether a command ended as the dice of its last attempt say."""
    if end.error_code == LEASE_EXPIRED and end.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
        return end.attempts == MAX_ATTEMPTS  # killed in its last attempt, so there are no dice to ask
    fate = roll(planned.behavior, seed, planned.request.command_id, end.attempts).fate
    match _name(end):
        case "completed":
            return fate is Fate.SUCCESS
        case "failed":
            return fate is Fate.BUSINESS_RULE
        case "permanent":
            return fate is Fate.PERMANENT
        case "exhausted":
            return fate in RETRIED and end.attempts == MAX_ATTEMPTS
        case _:
            return False


_OUTCOMES = {
    CommandStatus.COMPLETED: ReplyOutcome.SUCCESS,
    CommandStatus.FAILED: ReplyOutcome.FAILED,
    CommandStatus.CANCELED: ReplyOutcome.CANCELED,
}


async def check_replies(report: Report, pool: Any, store: DemoStore, workload: Workload) -> None:
    """Each ended command that asked for a reply has exactly one, and it says how the command ended."""
    asked = [planned.request.command_id for planned in workload if planned.way is Way.REPLY]
    ends = await store.ends(asked)
    due = {key: _OUTCOMES[end.status] for key, end in ends.items() if end.status in _OUTCOMES}
    got = await _take_replies(PgmqClient(pool), set(asked))
    right = sum(got.get(key) == [outcome] for key, outcome in due.items())
    surplus = sum(len(replies) for key, replies in got.items() if key not in due)
    report.check(
        "replies: one for each that asked",
        f"{right:,} of {len(due):,}" + (f", {surplus:,} not due" if surplus else ""),
        holds=right == len(due) and not surplus,
    )


async def _take_replies(client: PgmqClient, ours: set[UUID]) -> dict[UUID, list[ReplyOutcome]]:
    """Outcomes of the replies to our commands, taken out of the queue; those to others stay."""
    got: dict[UUID, list[ReplyOutcome]] = {}
    while messages := await client.read(REPLIES, visibility_timeout=30, batch_size=_PAGE):
        taken: list[int] = []
        for message in messages:
            reply = Reply.from_message(message.message)
            if reply.command_id in ours:
                got.setdefault(reply.command_id, []).append(reply.outcome)
                taken.append(message.msg_id)
        await asyncio.gather(*(client.delete(REPLIES, msg_id) for msg_id in taken))
    return got


def _chunks(planned: Iterable[Planned], size: int) -> Iterator[list[Planned]]:
    source = iter(planned)
    while chunk := list(islice(source, size)):
        yield chunk
