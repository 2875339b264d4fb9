"""Streams: which there are, and what stands in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from mainstay.commands.ledger import StreamName
from mainstay.deciding.store import stream_name
from mainstay.errors import StreamNotFoundError
from mainstay.events.log import StreamState
from mainstay.events.stream import StreamId
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, operation
from mainstay.operations.console.masking import MASK, without
from mainstay.operations.console.questions.events import EventShown, shown, writable
from mainstay.operations.console.questions.paging import cursor, cut, place
from mainstay.operations.states import MOST_FOLDED, Change, Path, VersionState

_MOST_CHANGES = 100


@dataclass(frozen=True, slots=True)
class StreamShown:
    """A stream.

    Args:
        category: The first part of its name; ``stream_id`` and ``tenant_id`` are the others.
        version: The number of its events.
        created_at: When its first event was appended.
        archived: It takes no more events.
        tombstoned: It was emptied for good, for the ``reason``, by the ``actor``.
    """

    category: str
    stream_id: str
    tenant_id: str | None
    version: int
    created_at: datetime
    archived: bool
    tombstoned: bool
    reason: str | None
    actor: str | None


def _shown(state: StreamState) -> StreamShown:
    category, stream_id, tenant = stream_name(state.stream)
    closed = (state.archived, state.tombstoned, state.reason, state.actor)
    return StreamShown(category, stream_id, tenant, state.version, state.created_at, *closed)


class StreamsAsked(Asked):
    """Which streams; all conditions must hold."""

    category: str | None = None
    tenant_id: str | None = None
    prefix: str = Field("", description="What their ids begin with.")
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Streams in the order of category, tenant and id, and where the next page begins; None on the last."""

    streams: list[StreamShown]
    next: str | None


@operation("GET", "/streams", StreamsAsked, StreamPage)
async def list_streams(desk: Desk, asked: StreamsAsked, _user: User) -> StreamPage:
    """Streams that meet all conditions, in the order of category, tenant and id."""
    conditions = asked.model_dump(exclude={"after", "limit"})
    after = place(StreamName, asked.after)
    found = await desk.operator.events.streams(
        limit=asked.limit + 1, after=None if after is None else StreamId(*after), **conditions
    )
    page, following = cut(found, asked.limit, lambda last: cursor(stream_name(last.stream)))
    return StreamPage([_shown(each) for each in page], following)


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """What an event changed in a state, at a place such as ``lines[2].total``; it is added, removed or changed."""

    path: str
    kind: str
    was: Any
    now: Any


@dataclass(frozen=True, slots=True)
class StateShown:
    """The state of an aggregate at a version, and what the event of that version changed in it."""

    version: int
    state: Any
    changes: list[ChangeShown]


@dataclass(frozen=True, slots=True)
class StatesShown:
    """States at versions of a stream.

    Args:
        aggregate: The class that tells them; None if it is not known here.
        states: By version; empty if they are not known.
        problem: Why they are not known, and what to do; None if all are.
    """

    aggregate: str | None
    states: dict[int, StateShown]
    problem: str | None


_NOT_KNOWN: Final = (
    "What events make of it is shown where its class is known: give the console the handlers that are called with it "
    "(--registry MODULE:NAME), or the class itself (--aggregate MODULE:NAME)."
)


async def states_of(desk: Desk, events: Sequence[EventShown], *, however_long: bool = False) -> StatesShown:
    """The states that events of one stream led to.

    Args:
        desk: Knows the classes.
        events: The latest first.
        however_long: Also if more than a few thousand events must be read for that.
    """
    last, first = events[0], events[-1]
    kind = desk.states.kind_of(last.category)
    if kind is None:
        return StatesShown(None, {}, _NOT_KNOWN)
    if last.version > MOST_FOLDED and not however_long:
        problem = (
            f"To tell the state, all {last.version:,} events up to here must be read: that is done when asked for."
        )
        return StatesShown(kind.__name__, {}, problem)
    stream = StreamId(last.category, last.stream_id, last.tenant_id)
    told = await desk.states.at(desk.operator.events.log, stream, first.version, last.version)
    names = desk.masking.names_in_state(kind)
    return StatesShown(
        kind.__name__, {each.version: _state(each, names) for each in told.states.values()}, told.problem
    )


def _state(state: VersionState, names: frozenset[str]) -> StateShown:
    def change(each: Change) -> ChangeShown:
        hidden = names.intersection(str(part) for part in each.path)
        values = [
            None if value is None else MASK if hidden else _masked(value, names) for value in (each.was, each.now)
        ]
        return ChangeShown(_place_in(each.path), each.kind, *values)

    return StateShown(
        state.version, _masked(state.state, names), [change(each) for each in state.changes[:_MOST_CHANGES]]
    )


def _masked(value: Any, names: frozenset[str]) -> Any:
    return writable(without(value, names))


def _place_in(path: Path) -> str:
    found = ""
    for part in path:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else part
    return found or "the whole"


class OneStream(Asked):
    """Which stream, and which of its events."""

    category: str
    stream_id: str
    tenant_id: str | None = None
    up_to: int | None = Field(None, ge=1, description="Not later than this version.")
    limit: int = Field(20, ge=1, le=200)
    states: bool = Field(
        default=False, description="Tell the states also if more than a few thousand events must be read."
    )


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream, and some of its events, the latest first.

    Args:
        stream: What is known of it.
        events: None of a stream that is tombstoned.
        older: ``up_to`` of the page with older ones; None if there are none.
        newer: ``up_to`` of the page with later ones; None if there are none.
        states: What the events made of the aggregate; None without events.
    """

    stream: StreamShown
    events: list[EventShown]
    older: int | None
    newer: int | None
    states: StatesShown | None


@operation("GET", "/stream", OneStream, StreamFacts)
async def show_stream(desk: Desk, asked: OneStream, _user: User) -> StreamFacts:
    """One stream: what became of it, and its events, the latest first."""
    stream = StreamId(asked.category, asked.stream_id, asked.tenant_id)
    state = await desk.operator.events.log.stream_state(stream)
    if state is None:
        raise StreamNotFoundError(str(stream))
    top = state.version if asked.up_to is None else min(asked.up_to, state.version)
    if state.tombstoned:
        return StreamFacts(_shown(state), [], None, None, None)
    found = await desk.operator.events.stream_events(stream, up_to=top, limit=asked.limit)
    lowest = found[0].version if found else 1
    newer = min(top + asked.limit, state.version) if top < state.version else None
    events = await shown(desk, found[::-1])
    states = await states_of(desk, events, however_long=asked.states) if events else None
    return StreamFacts(_shown(state), events, lowest - 1 if lowest > 1 else None, newer, states)
