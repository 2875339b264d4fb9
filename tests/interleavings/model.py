"""A small model of writers and a reader of the feed, and every order in which their steps can happen.

What is modelled is what PostgreSQL promises: numbers of a sequence are drawn at once and never given back; what a
transaction wrote is seen, all of it, by snapshots that are taken after its commit; its locks are let go in a later
step than its commit; a rollback to a savepoint takes back what was written, locked and set since. Steps are as small
as they are in the server: reading the sequence, locking and drawing are three.

`explore` walks all states that can be reached, each once, and counts the orders that lead to them. It stops at the
first end in which the reader has missed an event, or has met one out of order, and tells the steps that led there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

Step = str
Event = tuple[int, int, str, int]
"""Position, transaction number, stream, version."""

APPEND = ("read", "hold", "draw")
"""The order that is right; with ``lock`` of the stream before it."""
TWO_EVENTS = (*APPEND, "draw")
COMMIT = ("commit", "release")
ABORT = ("abort", "release")
READ = ("sequence", "floors", "rows")


@dataclass(frozen=True, slots=True)
class Writer:
    """Where a transaction is. The ``saved`` fields are what a rollback to its savepoint puts back."""

    stream: str
    steps: tuple[Step, ...]
    at: int = 0
    number: int = 0
    last_read: int = 0
    floor: int | None = None
    drawn: tuple[tuple[int, int], ...] = ()
    saved: tuple[int | None, tuple[tuple[int, int], ...]] | None = None
    ended: bool = False
    owns: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """Where the reader is, and what it has met."""

    steps: tuple[Step, ...]
    at: int = 0
    after: tuple[int, int] = (0, 0)
    sequence: int = 0
    floor: int | None = None
    snapshot: frozenset[Event] | None = None
    met: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Everything at one moment."""

    writers: tuple[Writer, ...]
    reader: Reader
    sequence: int = 0
    numbers: int = 0
    committed: frozenset[Event] = frozenset()


Rule = Callable[[State], Reader]


@dataclass(frozen=True, slots=True)
class Explored:
    """What was found.

    Attributes:
        orders: In how many orders the steps can happen.
        states: How many states there are.
        fault: The first end that is wrong: what is wrong, and the events met; None if none is.
    """

    orders: int
    states: int
    fault: str | None


def by_floor(state: State) -> Reader:
    """Rows up to the lower of what was read in the sequence and of the lowest floor."""
    reader = state.reader
    horizon = reader.sequence if reader.floor is None else min(reader.sequence, reader.floor)
    seen = state.committed if reader.snapshot is None else reader.snapshot
    met = sorted(event for event in seen if reader.after[0] < event[0] <= horizon)
    return replace(reader, after=(max(reader.after[0], horizon), 0), met=(*reader.met, *met), snapshot=None)


def naive(state: State) -> Reader:
    """Whatever is there after the highest position that was met."""
    reader = state.reader
    met = sorted(event for event in state.committed if event[0] > reader.after[0])
    return replace(reader, after=(met[-1][0], 0) if met else reader.after, met=(*reader.met, *met))


def by_transaction_filter(state: State) -> Reader:
    """What older transactions than any open one have written, by position."""
    reader = state.reader
    met = sorted(event for event in state.committed if event[0] > reader.after[0] and event[1] < _oldest(state))
    return replace(reader, after=(met[-1][0], 0) if met else reader.after, met=(*reader.met, *met))


def by_transaction_order(state: State) -> Reader:
    """What older transactions than any open one have written, by transaction and then position."""
    reader = state.reader
    met = sorted(
        (event for event in state.committed if (event[1], event[0]) > reader.after and event[1] < _oldest(state)),
        key=lambda event: (event[1], event[0]),
    )
    after = (met[-1][1], met[-1][0]) if met else reader.after
    return replace(reader, after=after, met=(*reader.met, *met))


def _oldest(state: State) -> int:
    """The lowest number of a transaction that has not ended, or the next one."""
    return min((each.number for each in state.writers if each.number and not each.ended), default=state.numbers + 1)


def explore(writers: list[Writer], reads: tuple[Step, ...], rule: Rule = by_floor) -> Explored:
    """Walk every order of all steps; at each end the reader reads on until nothing is left."""
    faults: list[str] = []

    @cache
    def orders_from(state: State) -> int:
        if faults:
            return 0
        following = list(_following(state, rule))
        if following:
            return sum(orders_from(each) for each in following)
        if stuck := [each.stream for each in state.writers if each.at < len(each.steps)]:
            faults.append(f"writers wait for ever: {stuck}")
        elif fault := _fault(_read_on(state, rule)):
            faults.append(fault)
        return 1

    orders = orders_from(State(tuple(writers), Reader(reads)))
    return Explored(orders, orders_from.cache_info().currsize, faults[0] if faults else None)


def _following(state: State, rule: Rule) -> Iterator[State]:
    for place, writer in enumerate(state.writers):
        if writer.at < len(writer.steps) and (after := _written(state, place, writer.steps[writer.at])):
            yield after
    if state.reader.at < len(state.reader.steps):
        yield _read(state, state.reader.steps[state.reader.at], rule)


def _written(state: State, place: int, step: Step) -> State | None:
    """The state after a step of a writer; None if it has to wait."""
    writer = replace(state.writers[place], at=state.writers[place].at + 1)
    done = _STEPS[step](state, writer)
    if done is None:
        return None
    after, writer = done
    return replace(after, writers=(*state.writers[:place], writer, *state.writers[place + 1 :]))


def _number(state: State, writer: Writer) -> tuple[State, Writer]:
    return replace(state, numbers=state.numbers + 1), replace(writer, number=state.numbers + 1)


def _lock(state: State, writer: Writer) -> tuple[State, Writer] | None:
    if any(each.owns and each.stream == writer.stream for each in state.writers):
        return None
    return state, replace(writer, owns=True)


def _look(state: State, writer: Writer) -> tuple[State, Writer]:
    return state, replace(writer, last_read=state.sequence)


def _hold(state: State, writer: Writer) -> tuple[State, Writer]:
    return state, replace(writer, floor=writer.last_read if writer.floor is None else writer.floor)


def _draw(state: State, writer: Writer) -> tuple[State, Writer]:
    version = sum(event[2] == writer.stream for event in state.committed) + len(writer.drawn) + 1
    position = state.sequence + 1
    return replace(state, sequence=position), replace(writer, drawn=(*writer.drawn, (position, version)))


def _save(state: State, writer: Writer) -> tuple[State, Writer]:
    return state, replace(writer, saved=(writer.floor, writer.drawn))


def _go_back(state: State, writer: Writer) -> tuple[State, Writer]:
    assert writer.saved is not None
    return state, replace(writer, floor=writer.saved[0], drawn=writer.saved[1])


def _go_back_but_keep_the_flag(state: State, writer: Writer) -> tuple[State, Writer]:
    """The lock is gone, but a setting that outlives the savepoint says that it is held: never lock again."""
    steps = tuple("nothing" if each == "hold" else each for each in writer.steps)
    return _go_back(state, replace(writer, steps=steps))


def _commit(state: State, writer: Writer) -> tuple[State, Writer]:
    mine = {(position, writer.number, writer.stream, version) for position, version in writer.drawn}
    return replace(state, committed=state.committed | mine), replace(writer, ended=True)


_STEPS: dict[Step, Callable[[State, Writer], tuple[State, Writer] | None]] = {
    "number": _number,
    "lock": _lock,
    "read": _look,
    "hold": _hold,
    "draw": _draw,
    "savepoint": _save,
    "rollback to": _go_back,
    "rollback to, flag kept": _go_back_but_keep_the_flag,
    "commit": _commit,
    "abort": lambda state, writer: (state, replace(writer, ended=True, drawn=())),
    "release": lambda state, writer: (state, replace(writer, floor=None, owns=False)),
    "nothing": lambda state, writer: (state, writer),
}


def _read(state: State, step: Step, rule: Rule) -> State:
    reader = replace(state.reader, at=state.reader.at + 1)
    match step:
        case "sequence":
            reader = replace(reader, sequence=state.sequence)
        case "floors":
            held = [each.floor for each in state.writers if each.floor is not None]
            reader = replace(reader, floor=min(held, default=None))
        case "snapshot":
            reader = replace(reader, snapshot=state.committed)
        case "rows":
            reader = rule(replace(state, reader=reader))
        case _:
            raise AssertionError(step)
    return replace(state, reader=reader)


def _read_on(state: State, rule: Rule) -> State:
    """Two more pages, now that nobody writes."""
    for step in (*READ, *READ):
        state = _read(state, step, rule)
    return state


def _fault(state: State) -> str | None:
    met = state.reader.met
    if missed := state.committed.difference(met):
        return f"skipped {sorted(missed)}, met {met}"
    if len(set(met)) != len(met):
        return f"met twice: {met}"
    versions: dict[str, list[int]] = {}
    for _, _, stream, version in met:
        versions.setdefault(stream, []).append(version)
    if any(each != sorted(each) for each in versions.values()):
        return f"inverted: {met}"
    return None
