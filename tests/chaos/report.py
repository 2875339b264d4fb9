"""What a scenario ends with, and the questions that are put to the database for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

from rich.table import Table

TERMINAL = "('COMPLETED', 'FAILED', 'CANCELED')"
SETTLED = "('COMPLETED', 'FAILED', 'CANCELED', 'IN_TROUBLESHOOTING_QUEUE')"

#: A completed command must carry the answer of whoever received it last: anything else was a stale outcome.
STALE_APPLIED = """
    select count(*) from commandbus.command as c
    cross join lateral (
        select a.details from commandbus.audit as a
        where a.subject_no = c.subject_no and a.event_type = 'RECEIVED' order by a.audit_id desc limit 1
    ) as last
    where c.status = 'COMPLETED' and (
        c.result ->> 'worker' is distinct from last.details ->> 'worker'
        or c.result ->> 'attempt' is distinct from last.details ->> 'attempt')
"""
DOUBLED = "select count(*) from (select from chaos_effect group by command_id having count(*) > 1) as d"
#: Completed without its effect, or an effect without the completion.
TORN = """
    select count(*) from chaos_effect as e
    full join (
        select * from commandbus.command
        where status = 'COMPLETED' and command_type in ('Effect', 'DoomedEffect', 'StubbornEffect', 'Supplied')
    ) as c using (command_id)
    where e.command_id is null or c.command_id is null
"""
TRAILS = """
    select c.status, array_agg(a.event_type order by a.audit_id)
    from commandbus.command as c join commandbus.audit as a using (subject_no) group by c.subject_no, c.status
"""
LOST = f"""
    select count(*) from unnest(%s::uuid[]) as sent(command_id)
    left join commandbus.command as c using (command_id)
    where c.command_id is null or c.status not in {SETTLED}
"""
#: Poison belongs before an operator; nothing else may fail for good.
MISPLACED = """
    select count(*) from commandbus.command as c
    where (c.command_type = any (%(poison)s)) <> (c.status = 'IN_TROUBLESHOOTING_QUEUE')
        and not (c.status = 'IN_TROUBLESHOOTING_QUEUE' and %(may_give_up)s)
"""
#: Unique keys that more than one command has which has not ended.
SHARED = f"""
    select count(*) from (
        select from commandbus.command where unique_key is not null and status not in {TERMINAL}
        group by domain, unique_key having count(*) > 1) as k
"""
BY_STATUS = "select status, count(*) from commandbus.command group by status"
OPENED = "select count(*) from commandbus.breaker_event where event_type = 'OPENED'"
REFUSED = "select count(*) from commandbus.audit where event_type = 'STALE_REFUSED'"

_MUST_BE_ZERO = (
    "lost",
    "doubled",
    "torn",
    "stale_applied",
    "illegal_trails",
    "fsck_findings",
    "misplaced",
    "shared",
    "died",
    "slow",
)


@dataclass(frozen=True)
class Recovery:
    """How the rate came back after a fault."""

    fault: str
    before: float
    """Commands completed in a second before it."""
    seconds: float
    """From the end of the fault until the rate was back."""


@dataclass(frozen=True)
class Report:
    """The figures of one scenario."""

    scenario: str
    commands: int
    completed: int
    troubleshooting: int
    lost: int
    """Sent, and neither terminal nor before an operator at the end."""
    doubled: int
    """Commands whose transactional effect is there more than once."""
    torn: int
    """Transactional effects without completion, or the other way round."""
    stale_applied: int
    """Completed with another answer than that of the last lease."""
    illegal_trails: int
    fsck_findings: int
    misplaced: int
    """Poison that was not set aside, or a good command that was."""
    shared: int
    """Unique keys that were seen to be held by two."""
    died: int
    """Worker processes that ended by themselves."""
    refused: int
    """Stale outcomes that were refused."""
    opened: int
    """Times that a breaker opened."""
    skipped: int
    """Sends that were told who has their unique key."""
    faults: int
    """Kills, restarts, cuts and the like that really happened."""
    seconds: float
    recoveries: tuple[Recovery, ...] = ()
    slow: int = 0
    """Faults after which the rate took too long to come back."""
    log: str = ""

    @property
    def slowest(self) -> Recovery | None:
        """Where the rate took longest to come back."""
        return max(self.recoveries, key=lambda each: each.seconds, default=None)

    @property
    def wrong(self) -> list[str]:
        """What does not hold; empty if all is well."""
        found = [f"{name}={value}" for name in _MUST_BE_ZERO if (value := getattr(self, name))]
        return found if self.faults else [*found, "no fault happened"]

    @property
    def holds(self) -> bool:
        return not self.wrong


def table(reports: list[Report]) -> Table:
    """All figures, a column for each scenario."""
    shown = Table(title="Chaos")
    shown.add_column("")
    for report in reports:
        shown.add_column(report.scenario, justify="right")
    for name in [field.name for field in fields(Report) if field.name not in ("scenario", "log", "recoveries")]:
        values = [getattr(report, name) for report in reports]
        cells = [f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in values]
        shown.add_row(name.replace("_", " "), *cells)
    shown.add_section()
    shown.add_row("holds", *("[green]yes[/]" if report.holds else "[red]NO[/]" for report in reports))
    return shown


def recoveries_table(recoveries: Sequence[Recovery]) -> Table:
    """How the rate came back, a line for each kind of fault."""
    shown = Table(title="The rate comes back after")
    for head in ("fault", "times", "rate before", "median s", "slowest s"):
        shown.add_column(head, justify="left" if head == "fault" else "right")
    kinds: dict[str, list[Recovery]] = {}
    for each in recoveries:
        kinds.setdefault(each.fault, []).append(each)
    for fault, of_it in sorted(kinds.items()):
        seconds = [each.seconds for each in of_it]
        before = median(each.before for each in of_it)
        shown.add_row(
            fault.replace("_", " "),
            f"{len(of_it)}",
            f"{before:,.0f}/s",
            f"{median(seconds):.1f}",
            f"{max(seconds):.1f}",
        )
    return shown
