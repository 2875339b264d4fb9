"""What a scenario is, and what a goal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.line_up import MAINSTAY, MAINSTAY_EVENTS, Room

Kind = Literal[
    "send",
    "batch",
    "drain",
    "latency",
    "round-trip",
    "memory",
    "snapshot",
    "append",
    "stream",
    "feed",
    "project",
    "load",
]
EVENT_KINDS = frozenset({"append", "stream", "feed", "project", "load"})
SMOKE = 200


@dataclass(frozen=True)
class Scenario:
    """One row of the comparison.

    Args:
        key: Its name on the command line and in the results.
        title: Its name in tables.
        kind: Which measurement; see ``measurements`` and ``event_measurements``.
        peers: Who can do it.
        count: How many commands, events, or for ``load`` and ``stream`` streams, in a full run.
        counts: The same for peers that need another number.
        smoke: How many in a smoke run; 0 leaves it out, where another takes the same path.
        senders: Tasks that send at once.
        chunk: Commands in a batch.
        concurrency: Commands in hand at once, per process.
        processes: Worker processes.
        handler: ``noop``, ``sync``, ``transactional``, ``reply``, ``decide`` or ``group``; see ``peers/protocol.py``.
        deferred: Commands present that are due in a day.
        history: Commands completed before.
        keys: Keys that the commands are spread over, each handled in order.
        per_account: Deposits for each account, in turn, instead of commands for nobody.
        blocked: Commands that wait behind one more key, whose first waits for an operator.
        seconds: How long ``snapshot`` goes on, filling and working off ``count`` at a time; see ``--seconds``.
        writers: Tasks, or threads, that append at once.
        events: Events in an append, or in a stream that is read or loaded.
        work: Seconds of other work in the transaction after the append.
        snapshots: Whether the aggregate has a snapshot, of all but its last 50 events.
        group: Shared by neighbours that are compared with each other: their rounds alternate.
        note: What a reader must know to judge the row.
    """

    key: str
    title: str
    kind: Kind
    peers: tuple[str, ...]
    count: int
    counts: Mapping[str, int] = field(default_factory=dict)
    smoke: int = SMOKE
    senders: int = 1
    chunk: int = 1_000
    concurrency: int = 100
    processes: int = 1
    handler: Literal["noop", "sync", "transactional", "reply", "decide", "group"] = "noop"
    deferred: int = 0
    history: int = 0
    keys: int = 0
    per_account: int = 0
    blocked: int = 0
    seconds: float = 0.0
    writers: int = 1
    events: int = 1
    work: float = 0.0
    snapshots: bool = False
    group: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """What the numbers are: a rate, the more the better, or a time or memory, the less the better."""
        return {"latency": "ms", "round-trip": "ms", "memory": "MB", "load": "ms"}.get(self.kind, "/s")

    @property
    def room(self) -> Room:
        """What it is about."""
        return "events" if self.kind in EVENT_KINDS else "commands"

    @property
    def ours(self) -> str:
        """Who is mainstay in it."""
        return MAINSTAY_EVENTS if self.room == "events" else MAINSTAY

    def size(self, peer: str, *, smoke: bool) -> int:
        """How many commands this peer gets."""
        return (self.smoke or SMOKE) if smoke else self.counts.get(peer, self.count)

    def before(self, size: int, *, smoke: bool) -> int:
        """So many deferred, completed or blocked commands, or a thousandth part of them in a smoke run."""
        return max(1, size // 1_000) if smoke and size else size


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
