"""The same proof on real servers: every coarse order of two writers and a reader, and samples of three writers.

A coarse step is a statement of a session. In between, transactions stay open. The reader asks its two questions in two
steps. Wrong readers, and a writer that holds no floor, must skip in the same orders.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, cycle, islice
from random import Random
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from mainstay.storage.postgres import schema_files
from tests.support.servers import Server
from tests.support.thorough import thorough
from tests.support.waiting import eventually_sync

APPEND = """
    select position from eventsource.append(
        array['Order'], array[''], array[%s], array[-1], array[1],
        array[gen_random_uuid()], array['Placed'], array['{}']::json[], array[now()], array[1],
        array[null]::uuid[], array[null]::uuid[], array[null]::text[], array[null]::text[], null)
"""
APPEND_ONE = """
    select position from eventsource.append_one(
        'Order', '', %s, -1, gen_random_uuid(), 'Placed', '{}', now(), 1, null, null, null, null)
"""
ROWS = """
    select e.position, s.stream_id, e.version from eventsource.event as e join eventsource.stream as s using (stream_no)
    where e.position > %s and e.position <= %s order by e.position
"""
FINISHED = "e.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
COMMIT = ("begin", "append", "commit")
ABORT = ("begin", "append", "rollback")
SAVEPOINT = ("begin", "savepoint", "back", "commit")
READ = ("horizon", "rows")
SAMPLES = 150

Met = list[tuple[int, str, int]]


class Writer:
    """A session that appends to one stream, by one of the two functions."""

    def __init__(self, dsn: str, steps: Sequence[str], append: LiteralString = APPEND) -> None:
        self._append = append
        self._conn = psycopg.connect(dsn, autocommit=True)
        self._conn.execute("set synchronous_commit = off")
        self.steps = steps
        self.stream = ""

    def begin(self) -> None:
        # A transaction that writes something else first has its number before it draws a position.
        self._conn.execute("begin")
        self._conn.execute("select pg_current_xact_id()")

    def append(self) -> None:
        self._conn.execute(self._append, [self.stream])

    def savepoint(self) -> None:
        self._conn.execute("savepoint here")
        self.append()

    def back(self) -> None:
        self._conn.execute("rollback to here")
        self.append()

    def commit(self) -> None:
        self._conn.execute("commit")

    def rollback(self) -> None:
        self._conn.execute("rollback")

    def close(self) -> None:
        self._conn.close()


class Reader:
    """A session that reads on from where it is."""

    steps: Sequence[str] = READ

    def __init__(self, dsn: str) -> None:
        self._conn = psycopg.connect(dsn, autocommit=True)
        self.begin_again()

    def begin_again(self) -> None:
        (self.after,) = self.ask("select coalesce(max(position), 0) from eventsource.event")[0]
        self.start = self.after
        self.up_to = 0
        self.met: Met = []

    def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        return self._conn.execute(question, values or None).fetchall()

    def horizon(self) -> None:
        ((self.up_to,),) = self.ask("select eventsource.horizon()")

    def rows(self) -> None:
        self.met += self.ask(ROWS, self.after, self.up_to)
        self.after = max(self.after, self.up_to)

    def read_on(self) -> None:
        page = self.ask("select position, stream_id, version from eventsource.read_feed(%s, 1000)", self.after)
        self.met += page[1:]
        self.after = max(self.after, page[0][0])

    def truth(self) -> Met:
        return self.ask(ROWS, self.start, 2**62)

    def close(self) -> None:
        self._conn.close()


class NaiveReader(Reader):
    """Whatever is there after the last one."""

    steps = ("rows", "rows")

    def horizon(self) -> None:
        self.up_to = 2**62

    def rows(self) -> None:
        met = self.ask(ROWS, self.after, 2**62)
        self.met += met
        self.after = met[-1][0] if met else self.after

    read_on = rows


class FilteringReader(NaiveReader):
    """What transactions wrote that are older than any open one, in the order of positions."""

    def rows(self) -> None:
        met = self.ask(ROWS.replace("where", f"where {FINISHED} and"), self.after, 2**62)
        self.met += met
        self.after = met[-1][0] if met else self.after

    read_on = rows


class TransactionReader(NaiveReader):
    """What transactions wrote that are older than any open one, in the order of transactions."""

    def begin_again(self) -> None:
        super().begin_again()
        self.cursor = (0, 0)

    def rows(self) -> None:
        met = self.ask(
            f"""
            select e.xmin::text::bigint, e.position, s.stream_id, e.version
            from eventsource.event as e join eventsource.stream as s using (stream_no)
            where {FINISHED} and e.position > %s and (e.xmin::text::bigint, e.position) > (%s, %s) order by 1, 2
            """,
            self.start,
            *self.cursor,
        )
        self.met += [row[1:] for row in met]
        self.cursor = met[-1][:2] if met else self.cursor

    read_on = rows


def orders(lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order in which sequences of these lengths can be gone through: who takes the next step."""
    if not any(lengths):
        yield ()
    for who, left in enumerate(lengths):
        if left:
            for rest in orders([*lengths[:who], left - 1, *lengths[who + 1 :]]):
                yield (who, *rest)


def has_to_wait(order: Sequence[int], steps: Sequence[Sequence[str]]) -> bool:
    """Whether a writer would append to a stream while the other has: then it waits, and this is no order."""
    at = [0] * (len(steps) + 1)
    owner: int | None = None
    for who in order:
        if who < len(steps):
            step = steps[who][at[who]]
            if step in {"append", "savepoint", "back"}:
                if owner not in {None, who}:
                    return True
                owner = who
            elif owner == who:
                owner = None
        at[who] += 1
    return False


def play(order: Sequence[int], writers: Sequence[Writer], reader: Reader, *, one_stream: bool) -> str | None:
    """Take the steps; what the reader did wrong."""
    shared = str(uuid4())
    for writer in writers:
        writer.stream = shared if one_stream else str(uuid4())
    reader.begin_again()
    actors = [*writers, reader]
    ahead = [iter(actor.steps) for actor in actors]
    for who in order:
        getattr(actors[who], next(ahead[who]))()
    reader.read_on()
    reader.read_on()
    met, truth = reader.met, reader.truth()
    if skipped := [row for row in truth if row not in met and (reader.after >= row[0] or type(reader) is Reader)]:
        return f"skipped {skipped}"
    versions: dict[str, list[int]] = {}
    for _, stream, version in met:
        versions.setdefault(stream, []).append(version)
    if any(each != sorted(each) for each in versions.values()):
        return f"inverted {met}"
    return None if met == truth or type(reader) is not Reader else f"met {met} of {truth}"


def faults(
    dsn: str,
    steps: Sequence[Sequence[str]],
    kind: type[Reader] = Reader,
    *,
    one_stream: bool = False,
    chosen: Sequence[Sequence[int]] | None = None,
) -> tuple[int, list[str]]:
    """Play all orders; how many, and what went wrong."""
    with ExitStack() as stack:
        writers = [Writer(dsn, each, append) for each, append in zip(steps, cycle((APPEND, APPEND_ONE)), strict=False)]
        reader = kind(dsn)
        for each in (*writers, reader):
            stack.callback(each.close)
        if chosen is None:
            chosen = list(orders([len(each.steps) for each in (*writers, reader)]))
        possible = [order for order in chosen if not (one_stream and has_to_wait(order, steps))]
        played = [play(order, writers, reader, one_stream=one_stream) for order in possible]
        return len(played), [fault for fault in played if fault]


@contextmanager
def replaced(dsn: str, path: str, right: str, wrong: str) -> Iterator[None]:
    """Another text of one of our functions."""
    (file,) = (each for each in schema_files.load().functions if each.path == path)
    assert right in file.text
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(file.text.replace(right, wrong).encode())
        yield


@pytest.mark.parametrize(
    ("steps", "streams"),
    [
        ([COMMIT, COMMIT], 2),
        thorough([COMMIT, COMMIT], 1),
        thorough([COMMIT, ABORT], 2),
        thorough([COMMIT, ABORT], 1),
        thorough([COMMIT, SAVEPOINT], 2),
        thorough([COMMIT, SAVEPOINT], 1),
        thorough([ABORT, SAVEPOINT], 2),
        thorough([ABORT, SAVEPOINT], 1),
    ],
)
def test_no_order_of_two_writers_and_a_reader_skips_or_inverts(
    postgres_server: Server, dsn: str, steps: list[Sequence[str]], streams: int
) -> None:
    played, wrong = faults(dsn, steps, one_stream=streams == 1)

    print(f"{played:,} orders")
    assert wrong == []
    assert played > 50


@pytest.mark.parametrize("streams", [3, thorough(1)])
@pytest.mark.parametrize("seed", [1, thorough(2), thorough(3)])
def test_no_sample_of_three_writers_and_a_reader_skips_or_inverts(
    postgres_server: Server, dsn: str, seed: int, streams: int
) -> None:
    steps = [COMMIT, SAVEPOINT, ABORT if seed % 2 else COMMIT]
    chance = Random(seed)
    taken = [who for who, each in enumerate([*steps, READ]) for _ in each]
    drawn = (chance.sample(taken, len(taken)) for _ in count(0))
    possible = (order for order in drawn if streams > 1 or not has_to_wait(order, steps))

    played, wrong = faults(dsn, steps, one_stream=streams == 1, chosen=list(islice(possible, SAMPLES)))

    print(f"{played:,} orders")
    assert wrong == []
    assert played == SAMPLES


@pytest.mark.parametrize(
    ("kind", "streams", "fault"),
    [
        thorough(NaiveReader, 2, "skipped"),
        thorough(FilteringReader, 2, "skipped"),
        thorough(TransactionReader, 1, "inverted"),
    ],
)
def test_other_ways_of_reading_skip_or_invert(dsn: str, kind: type[Reader], streams: int, fault: str) -> None:
    played, wrong = faults(dsn, [COMMIT, COMMIT], kind, one_stream=streams == 1)

    print(f"{kind.__name__}: wrong in {len(wrong)} of {played:,} orders")
    assert any(each.startswith(fault) for each in wrong)


def test_without_the_floor_the_same_reader_skips(dsn: str) -> None:
    with replaced(dsn, "events/hold_floor.sql", "if coalesce(", "if false and coalesce("):
        _, wrong = faults(dsn, [COMMIT, COMMIT])

    assert any(each.startswith("skipped") for each in wrong)


def test_a_horizon_found_inside_the_scanning_statement_loses_events(postgres_server: Server, dsn: str) -> None:
    """The statement has its snapshot; then it is held up, and what it waits for lets an event be committed."""
    scan = """
        with gate as materialized (select pg_advisory_lock_shared(1, 1)), here as materialized (
            select eventsource.horizon() as up_to from gate)
        select here.up_to, array(
            select e.position from eventsource.event as e where e.position > %s and e.position <= here.up_to)
        from here
    """
    with ExitStack() as stack:
        first, second = Writer(dsn, (), APPEND_ONE), Writer(dsn, ())
        first.stream, second.stream = str(uuid4()), str(uuid4())
        keeper = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        scanner = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        right = Reader(dsn)
        for each in (first, second, right):
            stack.callback(each.close)
        first.begin()
        first.append()
        second.begin()
        second.append()
        second.commit()
        keeper.execute("select pg_advisory_lock(1, 1)")
        found: list[tuple[int, list[int]]] = []
        thread = threading.Thread(target=lambda: found.extend(scanner.execute(scan, [right.after]).fetchall()))
        thread.start()
        waiting = sql.SQL("select from pg_stat_activity where pid = {} and wait_event_type = 'Lock'")
        eventually_sync(lambda: keeper.execute(waiting.format(scanner.info.backend_pid)).fetchone() is not None)
        first.commit()
        keeper.execute("select pg_advisory_unlock(1, 1)")
        thread.join()
        right.read_on()
        ((up_to, positions),) = found

        assert up_to == max(position for position, _, _ in right.truth())
        assert len(positions) < len(right.truth())  # below its own horizon it has not met them all
        assert right.met == right.truth()
