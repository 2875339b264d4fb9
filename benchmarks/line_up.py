"""Who is compared: each peer's script, the releases it is pinned to, and the question that tells when it is done."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent

MAINSTAY = "mainstay"
RELIABLE_CMD = "reliable-cmd"
PROCRASTINATE = "procrastinate"
PGQUEUER = "pgqueuer"
BARE_SQL = "bare-sql"
BARE_NOTIFY = "bare-notify"
TWO_LIBRARIES = "two-libraries"
MAINSTAY_EVENTS = "mainstay-events"
EVENTSOURCE_PY = "eventsource-py"
EVENTSOURCING = "eventsourcing"
BARE_EVENTS = "bare-events"

Room = Literal["commands", "events"]

_PSYCOPG = ("psycopg[binary]==3.3.9", "psycopg-pool==3.3.3")
_RELIABLE_CMD = ("reliable-cmd==0.2.2", "pgmq==1.1.4", *_PSYCOPG)
_EVENTSOURCE_PY = (
    "eventsource-py[postgresql]==0.8.1",
    "asyncpg==0.32.0",
    "sqlalchemy[asyncio]==2.1.9",
    "pydantic==2.14.3",
)


@dataclass(frozen=True)
class Peer:
    """One column of the comparison.

    Args:
        key: Its name on the command line and in the results.
        title: Its name in tables.
        script: Module in ``peers/`` that runs it.
        requirements: What its own environment holds; empty for those that run in this interpreter.
        keeps: What is left of a command when it is done, or kept of an event, for the reader who compares.
        room: What it is compared at.
    """

    key: str
    title: str
    script: str
    keeps: str
    requirements: tuple[str, ...] = ()
    room: Room = "commands"

    @property
    def path(self) -> Path:
        """The script."""
        return HERE / "peers" / f"{self.script}.py"

    @property
    def idle_query(self) -> str:
        """The question that is true once nothing of the peer's is ready or in hand."""
        return (HERE / "questions" / f"{self.key}.sql").read_text(encoding="utf-8")

    @property
    def history_statements(self) -> str:
        """What adds ``copies`` copies of every completed command of the peer's."""
        return (HERE / "histories" / f"{self.key}.sql").read_text(encoding="utf-8")

    def pinned(self, requirement: str) -> "Peer":
        """The same peer with one requirement replaced, as in ``pgqueuer==1.6.0``."""
        name = requirement.partition("==")[0]
        kept = tuple(old for old in self.requirements if old.partition("==")[0] != name)
        return replace(self, requirements=(requirement, *kept))


LINE_UP = (
    Peer(MAINSTAY, "mainstay", "mainstay_commands", "command with payload and result, full audit"),
    Peer(
        RELIABLE_CMD,
        "reliable-cmd",
        "reliable_cmd",
        "command without payload or result, full audit",
        _RELIABLE_CMD,
    ),
    Peer(
        TWO_LIBRARIES,
        "reliable-cmd and eventsource-py",
        "two_libraries",
        "as each of them alone; a crash between their transactions decides twice",
        (*_RELIABLE_CMD, *_EVENTSOURCE_PY),
    ),
    Peer(
        PROCRASTINATE,
        "procrastinate",
        "procrastinate_jobs",
        "job, three events",
        ("procrastinate==3.9.0", *_PSYCOPG),
    ),
    Peer(PGQUEUER, "PgQueuer", "pgqueuer_jobs", "three log rows, no payload", ("pgqueuer==1.3.2", "asyncpg==0.32.0")),
    Peer(BARE_SQL, "bare SQL", "bare_sql", "as mainstay"),
    Peer(BARE_NOTIFY, "bare NOTIFY", "bare_notify", "nothing"),
    Peer(MAINSTAY_EVENTS, "mainstay", "mainstay_events", "event, its stream; three index entries", room="events"),
    Peer(
        EVENTSOURCE_PY,
        "eventsource-py",
        "eventsource_py",
        "event with its envelope twice; ten index entries",
        _EVENTSOURCE_PY,
        room="events",
    ),
    Peer(
        EVENTSOURCING,
        "eventsourcing",
        "eventsourcing_app",
        "event without id, cause and author; two index entries",
        ("eventsourcing[postgres]==9.5.6", *_PSYCOPG),
        room="events",
    ),
    Peer(BARE_EVENTS, "bare SQL", "bare_events", "event as mainstay, no stream", room="events"),
)


def pick(names: list[str] | None, pins: list[str]) -> tuple[Peer, ...]:
    """The peers asked for, in the line-up's order, with the pins asked for.

    Raises:
        SystemExit: A name or a pin fits no peer.
    """
    chosen = LINE_UP if not names else tuple(peer for peer in LINE_UP if peer.key in names)
    if unknown := set(names or ()) - {peer.key for peer in LINE_UP}:
        raise SystemExit(f"unknown peer: {', '.join(sorted(unknown))}; known: {', '.join(p.key for p in LINE_UP)}")
    for pin in pins:
        name = pin.partition("==")[0]
        held = [any(old.partition("==")[0] == name for old in peer.requirements) for peer in LINE_UP]
        if "==" not in pin or not any(held):
            raise SystemExit(f"--pin {pin}: write it as name==version, for something a peer requires")
        chosen = tuple(
            peer.pinned(pin) if any(old.partition("==")[0] == name for old in peer.requirements) else peer
            for peer in chosen
        )
    return chosen
