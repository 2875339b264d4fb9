"""What is measured, with whom, and how much of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.line_up import BARE_NOTIFY, BARE_SQL, MAINSTAY, PGQUEUER, PROCRASTINATE, RELIABLE_CMD

Kind = Literal["send", "batch", "drain", "latency", "round-trip", "memory", "snapshot"]
ALL = (MAINSTAY, RELIABLE_CMD, PROCRASTINATE, PGQUEUER, BARE_SQL)
_DRAIN = {RELIABLE_CMD: 4_000, PROCRASTINATE: 2_000}  # so that slow and fast take seconds alike
_MILLION = 1_000_000
SMOKE = 200


@dataclass(frozen=True)
class Scenario:
    """One row of the comparison.

    Args:
        key: Its name on the command line and in the results.
        title: Its name in tables.
        kind: Which measurement; see ``measurements``.
        count: How many commands in a full run.
        counts: The same for peers that need another number.
        smoke: How many commands in a smoke run; 0 leaves it out, where another takes the same path.
        peers: Who can do it.
        senders: Tasks that send at once.
        chunk: Commands in a batch.
        concurrency: Commands in hand at once, per process.
        processes: Worker processes.
        handler: ``noop``, ``sync``, ``transactional`` or ``reply``.
        deferred: Commands present that are due in a day.
        history: Commands completed before.
        keys: Keys that the commands are spread over, each handled in order.
        blocked: Commands that wait behind one more key, whose first waits for an operator.
        seconds: How long ``snapshot`` goes on, filling and working off ``count`` at a time; see ``--seconds``.
        group: Shared by neighbours that are compared with each other: their rounds alternate.
        note: What a reader must know to judge the row.
    """

    key: str
    title: str
    kind: Kind
    count: int
    counts: Mapping[str, int] = field(default_factory=dict)
    smoke: int = SMOKE
    peers: tuple[str, ...] = ALL
    senders: int = 1
    chunk: int = 1_000
    concurrency: int = 100
    processes: int = 1
    handler: Literal["noop", "sync", "transactional", "reply"] = "noop"
    deferred: int = 0
    history: int = 0
    keys: int = 0
    blocked: int = 0
    seconds: float = 0.0
    group: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """What the numbers are: a rate, the more the better, or a time or memory, the less the better."""
        return {"latency": "ms", "round-trip": "ms", "memory": "MB"}.get(self.kind, "/s")

    def size(self, peer: str, *, smoke: bool) -> int:
        """How many commands this peer gets."""
        return (self.smoke or SMOKE) if smoke else self.counts.get(peer, self.count)

    def before(self, size: int, *, smoke: bool) -> int:
        """So many deferred, completed or blocked commands, or a thousandth part of them in a smoke run."""
        return max(1, size // 1_000) if smoke and size else size


SCENARIOS = (
    Scenario("send", "send one by one", "send", 2_000, smoke=100),
    Scenario("send-16", "send, 16 senders at once", "send", 6_000, smoke=160, senders=16),
    Scenario("send-batch", "send_batch, chunks of 1,000", "batch", 10_000, smoke=1_000),
    Scenario(
        "work-1",
        "worker, concurrency 1",
        "drain",
        6_000,
        {RELIABLE_CMD: 1_500, PROCRASTINATE: 1_000, PGQUEUER: 2_000, BARE_SQL: 3_000},
        concurrency=1,
    ),
    Scenario("work-16", "worker, concurrency 16", "drain", 30_000, _DRAIN, smoke=0, concurrency=16),
    Scenario("work-100", "worker, concurrency 100", "drain", 40_000, _DRAIN, concurrency=100),
    Scenario("work-400", "worker, concurrency 400", "drain", 40_000, _DRAIN, smoke=0, concurrency=400),
    Scenario("work-2x100", "2 worker processes, 100 each", "drain", 40_000, _DRAIN, processes=2),
    Scenario(
        "transactional",
        "handler that writes a row",
        "drain",
        20_000,
        {RELIABLE_CMD: 3_000, PROCRASTINATE: 2_000, PGQUEUER: 10_000},
        handler="transactional",
        note="exactly once with mainstay, one COMMIT for each, and bare SQL, one for all in hand; else at least once",
    ),
    Scenario(
        "sync",
        "plain function as handler, concurrency 16",
        "drain",
        15_000,
        {**_DRAIN, PGQUEUER: 8_000},
        peers=ALL[:-1],
        concurrency=16,
        handler="sync",
    ),
    Scenario(
        "latency",
        "send to an idle worker until its handler starts",
        "latency",
        200,
        smoke=20,
        peers=(*ALL, BARE_NOTIFY),
        concurrency=16,
        note="from the call of send, its commit included; a bare NOTIFY, one way, stores nothing",
    ),
    Scenario(
        "round-trip",
        "request to an idle worker until its reply",
        "round-trip",
        200,
        smoke=20,
        peers=(MAINSTAY, RELIABLE_CMD, BARE_SQL, BARE_NOTIFY),
        concurrency=16,
        handler="reply",
        note="three durable commits; a bare NOTIFY, there and back, stores nothing; the others have no way to wait",
    ),
    Scenario(
        "deferred-none",
        "worker at 100, nothing deferred",
        "drain",
        20_000,
        _DRAIN,
        smoke=0,
        peers=(MAINSTAY, PROCRASTINATE, PGQUEUER),
        group="deferred",
    ),
    Scenario(
        "deferred-1m",
        "worker at 100, 1,000,000 deferred",
        "drain",
        20_000,
        _DRAIN,
        peers=(MAINSTAY, PROCRASTINATE, PGQUEUER),
        deferred=_MILLION,
        group="deferred",
        note="reliable-cmd cannot defer a command",
    ),
    Scenario(
        "history-1k",
        "worker at 100, 1,000 completed before",
        "drain",
        20_000,
        smoke=0,
        peers=(MAINSTAY, PGQUEUER, BARE_SQL),
        history=1_000,
        group="history",
    ),
    Scenario(
        "history-1m",
        "worker at 100, 1,000,000 completed before",
        "drain",
        20_000,
        peers=(MAINSTAY, PGQUEUER, BARE_SQL),
        history=_MILLION,
        group="history",
        note="100 are worked off and copied, row by row, for those whose tables are known here",
    ),
    Scenario(
        "keys-free",
        "worker at 100, order kept in 1,000 keys",
        "drain",
        20_000,
        smoke=0,
        peers=(MAINSTAY,),
        keys=1_000,
        group="keys",
    ),
    Scenario(
        "keys-blocked",
        "the same beside a blocked key",
        "drain",
        20_000,
        peers=(MAINSTAY,),
        keys=1_000,
        blocked=10_000,
        group="keys",
        note="its first command waits for an operator, and 10,000 behind it",
    ),
    Scenario(
        "snapshot",
        "worker at 100, a snapshot held open",
        "snapshot",
        10_000,
        peers=(MAINSTAY, PGQUEUER),
        seconds=120.0,
        note="idle, REPEATABLE READ; in turn with a database where none is held; the later half of the time",
    ),
    Scenario(
        "memory",
        "memory that a worker gains over 1,000,000 commands",
        "memory",
        _MILLION,
        smoke=2_000,
        peers=(MAINSTAY, PGQUEUER),
        note="held in the last tenth of the work beyond the first",
    ),
)


@dataclass(frozen=True)
class Goal:
    """A ratio between two cells that mainstay means to keep, at least (or at most, for times).

    Args:
        title: What it says.
        scenario: Row of mainstay's figure.
        peer: Column it is divided by.
        ratio: The bound.
        against: Row of the divisor, if another.
        beside: Name of what to divide by instead of the figure, out of what was seen beside it.
        ours: Name of what to divide instead of mainstay's figure, out of what was seen beside it.
        at_most: Whether the bound is an upper one.
    """

    title: str
    scenario: str
    peer: str
    ratio: float
    against: str = ""
    beside: str = ""
    ours: str = ""
    at_most: bool = False

    def held(self, found: float) -> bool:
        """Whether the ratio found keeps the bound."""
        return found <= self.ratio if self.at_most else found >= self.ratio

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.ratio:g}"


GOALS = (
    Goal("worker at 100, against reliable-cmd", "work-100", RELIABLE_CMD, 12.0),
    Goal("worker at 100, against PgQueuer", "work-100", PGQUEUER, 1.0),
    Goal("handler that writes a row, against reliable-cmd", "transactional", RELIABLE_CMD, 3.0),
    Goal("send one by one, against reliable-cmd", "send", RELIABLE_CMD, 3.0),
    Goal("send one by one, against PgQueuer", "send", PGQUEUER, 0.8),
    Goal("send_batch, against reliable-cmd", "send-batch", RELIABLE_CMD, 2.0),
    Goal(
        "a sent command starts, against a bare NOTIFY there",
        "latency",
        BARE_NOTIFY,
        3.0,
        ours="after_send_returned_ms",
        at_most=True,
    ),
    Goal(
        "the same from the call of send, against a bare NOTIFY there and back",
        "latency",
        BARE_NOTIFY,
        3.0,
        beside="send_ms",
        at_most=True,
    ),
    Goal("1,000,000 deferred, against none", "deferred-1m", MAINSTAY, 0.9, against="deferred-none"),
    Goal("1,000,000 of history, against 1,000", "history-1m", MAINSTAY, 0.9, against="history-1k"),
    Goal("request and reply, against reliable-cmd", "round-trip", RELIABLE_CMD, 1.0, at_most=True),
    Goal("a blocked key, against none", "keys-blocked", MAINSTAY, 0.9, against="keys-free"),
    Goal("a snapshot held open, against none", "snapshot", MAINSTAY, 0.9, beside="without"),
)


def choose(names: list[str] | None, *, smoke: bool, seconds: float | None = None) -> tuple[Scenario, ...]:
    """The scenarios asked for, in order; all of them, or all that a smoke run needs, if none is named.

    Args:
        names: Those asked for.
        smoke: Whether it is a smoke run.
        seconds: How long those go on that go on for a while, if not as they say themselves.

    Raises:
        SystemExit: A name fits none.
    """
    if unknown := set(names or ()) - {scenario.key for scenario in SCENARIOS}:
        known = ", ".join(scenario.key for scenario in SCENARIOS)
        raise SystemExit(f"unknown scenario: {', '.join(sorted(unknown))}; known: {known}")
    usual = {scenario.key for scenario in SCENARIOS if scenario.smoke or not smoke}
    return tuple(
        replace(scenario, seconds=seconds) if seconds is not None and scenario.seconds else scenario
        for scenario in SCENARIOS
        if scenario.key in (names or usual)
    )
