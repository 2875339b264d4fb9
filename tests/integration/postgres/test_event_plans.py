"""What reading and appending touch in a million events: as much as what they give, however much there is.

Counted in blocks, not in time. Each question is asked in a session that had made its plans when there was next to
nothing (decision 5), in a new one without statistics, and in a new one with them; plain statements also with plans that
do not know what is asked, as a driver that prepares has them.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import ClientCursor

from mainstay.events.log import Condition, FeedFilter, NewEvent, Query, QueryItem, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.event_rows import append_parameters, feed_parameters, name_of, names_of, plain_array_of
from tests.support.servers import Server

FILL = (Path(__file__).parent / "many_events.sql").read_text(encoding="utf-8")
EVENTS, PROJECTIONS, SNAPSHOTS, FEED = (queries.load(name) for name in ("events", "projections", "snapshots", "feed"))
pytestmark = pytest.mark.thorough

MOMENTS = ("plans of old", "no statistics", "statistics", "plans that know nothing")
CATALOG = 60
"""Blocks that a question may touch for its own sake: roots and branches of indexes, the sequence, the horizon."""
STREAM = StreamId("Category2", "stream 1002", "tenant1")
"""Stream 1,002, the 501st of those with tenants."""

Session = psycopg.Connection[Any]


def page(after: int = 500_000, limit: int = 100, **wanted: Any) -> dict[str, Any]:
    return feed_parameters(after, limit, FeedFilter(**wanted), archived=True)


def written(*events: NewEvent, condition: Condition | None = None, stream: StreamId = STREAM) -> dict[str, Any]:
    return append_parameters([StreamAppend(stream, events, ExpectedVersion.any())], condition)


def new(*tags: str) -> NewEvent:
    return NewEvent(uuid4(), "A", b'{"n": 1}', datetime.now(UTC), tags=tags)


def forbidden(**item: frozenset[str]) -> Condition:
    return Condition(Query((QueryItem(**item),)), 999_500)


@dataclass(frozen=True)
class Question:
    """A statement, what it is asked, how many rows it gives, and how many blocks each of them may touch."""

    sql: str
    asked: dict[str, Any] = field(default_factory=dict)
    rows: int = 1
    each: int = 10


WINDOW = {"up_to": 2**31 - 1, "up_to_time": None, "limit": 5}
LISTED = {"category": None, "tenant": None, "prefix": "", "after_category": "", "after_tenant": "", "after_id": ""}
LETTERS = {"subscription": "busy1", "key": None, "status": "WAITING", "after": 50_000, "limit": 50}
HELD = """
    insert into eventsource.subscription (subscription, shards) values ('busy50', 64);
    insert into eventsource.shard (subscription, shard, position, event_position, owner, leased_until)
    values ('busy50', 5, 5, 0, 'me', 'infinity')
"""
OURS = {"subscription": "busy50", "shard": 5}
QUESTIONS = {
    "a stream from a version": Question(EVENTS["read_stream"], {**name_of(STREAM), **WINDOW, "after": 40}, rows=5),
    "a stream backwards": Question(EVENTS["read_stream_backwards"], {**name_of(STREAM), **WINDOW, "after": 0}, rows=5),
    "several streams": Question(
        EVENTS["read_streams"], {**names_of([STREAM] * 3), "after": plain_array_of([48] * 3)}, rows=6
    ),
    "a page of the feed": Question(EVENTS["read_feed"], page(), rows=101),
    # Of each of the twenty kinds, a type in a category, a page is looked at.
    "a page of types": Question(EVENTS["read_feed"], page(types=frozenset({"A", "B"})), rows=101, each=30),
    "a page of a rare type": Question(
        EVENTS["read_feed"], page(1_000, 50, types=frozenset({"Rare"})), rows=51, each=15
    ),
    "a page of a category": Question(EVENTS["read_feed"], page(categories=frozenset({"Category3"})), rows=101, each=15),
    "a page of a tenant": Question(EVENTS["read_feed"], page(0, 10, tenant_id="tenant1"), rows=11, each=1_000),
    "a page of a tag": Question(
        EVENTS["read_feed"], page(query=Query((QueryItem(tags=frozenset({"tag"})),))), rows=101, each=15
    ),
    "a page of what nobody wrote": Question(EVENTS["read_feed"], page(0, 100, types=frozenset({"Never"}))),
    "the end of the feed": Question(EVENTS["read_feed"], page(1_000_000)),
    "the horizon": Question(EVENTS["horizon"]),
    "one event": Question(EVENTS["event_at"], {"position": 500_000}),
    "what is known of a stream": Question(EVENTS["stream_state"], name_of(STREAM)),
    "a page of streams": Question(
        EVENTS["streams"],
        {**LISTED, "after_category": "Category4", "after_tenant": "tenant5", "after_id": "stream 5", "limit": 50},
        rows=50,
    ),
    "streams of a category": Question(EVENTS["streams"], {**LISTED, "category": "Category7", "limit": 50}, rows=50),
    "a page of dead letters": Question(PROJECTIONS["dead_letters"], LETTERS, rows=50),
    "dead letters that block": Question(PROJECTIONS["blocked"], {**OURS, "keys": ["key 1", "key 2", "a"]}, rows=0),
    # 20,000 positions are looked at, and the stream of each event: no index has the tenant.
    "the last events of a tenant that has none": Question(
        FEED["last_positions"],
        {"types": None, "categories": None, "tenant": "nobody", "up_to": 900_000, "count": 51},
        each=65_000,
    ),
    # 50,000 dead letters are counted, which were never vacuumed: an entry of the index leads to its block each time.
    "how it is with a hundred subscriptions": Question(
        FEED["overview"], {"subscription": None, "most": 100_000}, rows=100, each=15 + 500
    ),
    # A plan that does not know that one is meant looks through all 6,400 shards.
    "how it is with one": Question(FEED["overview"], {"subscription": "busy50", "most": 100_000}, each=400),
    "how far each of 6,400 shards is behind": Question(
        FEED["lags"], {"subscription": None, "most": 100_000}, rows=6_400, each=1
    ),
    "a claim": Question(
        PROJECTIONS["claim"],
        {"subscription": "busy50", "owner": "another", "seconds": 5.0, "most": 1, "version": 1},
        each=100,
    ),
    "a batch": Question(PROJECTIONS["begin_batch"], {**OURS, "token": 0}),
    "a checkpoint": Question(
        PROJECTIONS["advance"],
        {**OURS, "position": 9, "epoch": uuid4(), "event_id": uuid4(), "event_position": 9},
        rows=0,
    ),
    "a snapshot": Question(SNAPSHOTS["load"], name_of(STREAM), rows=0),
    "one event appended": Question(EVENTS["append"], written(new()), each=60),
    "five events appended": Question(EVENTS["append"], written(*(new("b") for _ in range(5))), each=200),
    "a stream begun": Question(EVENTS["append"], written(new(), stream=StreamId("New", "1")), each=60),
    "an append on a type": Question(
        EVENTS["append"], written(new(), condition=forbidden(types=frozenset({"Rare", "Never"}))), each=150
    ),
    "an append on a tag": Question(
        EVENTS["append"], written(new(), condition=forbidden(tags=frozenset({"never"}))), each=150
    ),
}


def explained(conn: Session, sql: str, asked: dict[str, Any], *, generic: bool = False) -> dict[str, Any]:
    """The plan of a statement and what it did; what it writes is undone."""
    before, statement = "", sql
    if generic:
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
        before = f"prepare asked as {numbered.rstrip().rstrip(';')}"
        given = ", ".join(f"%({name})s" for name in names)
        statement = f"execute asked ({given})" if names else "execute asked"
    with conn.transaction(force_rollback=True), ClientCursor(conn) as cursor:
        if before:
            cursor.execute("set local plan_cache_mode = force_generic_plan")
            cursor.execute(before.encode())
        try:
            cursor.execute(f"explain (analyze, buffers, format json) {statement}".encode(), asked)
            ((found,),) = cursor.fetchall()
        finally:
            if before:
                cursor.execute("deallocate asked")
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def blocks(conn: Session, question: Question, *, generic: bool = False) -> tuple[int, int]:
    """How many rows a question gives and how many blocks it touches."""
    plan = explained(conn, question.sql, question.asked, generic=generic)
    return int(plan["Actual Rows"]), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


Counts = dict[str, dict[str, tuple[int, int]]]


def ask_all(conn: Session, *, generic: bool = False) -> dict[str, tuple[int, int]]:
    """All questions, twice: the first time a session learns what the tables are."""
    for question in QUESTIONS.values():
        blocks(conn, question, generic=generic)
    return {name: blocks(conn, question, generic=generic) for name, question in QUESTIONS.items()}


def session(server: Server, database: str) -> Session:
    return psycopg.connect(server.dsn(database), autocommit=True)


@pytest.fixture(scope="module")
def crowded(postgres_server: Server) -> Iterator[tuple[Server, str, Counts]]:
    """A database with a million events, and what each question touched in it."""
    with postgres_server.database(untouched=True) as name:
        with session(postgres_server, name) as old:
            for (table,) in old.execute(
                "select relname from pg_class where relnamespace = 'eventsource'::regnamespace and relkind = 'r'"
            ).fetchall():
                old.execute(f"alter table eventsource.{table} set (autovacuum_enabled = false)")
            old.execute(HELD)
            for _ in range(3):
                ask_all(old)
            with session(postgres_server, name) as filler:
                filler.execute(FILL.encode())
            counts: Counts = {"plans of old": ask_all(old)}
        with session(postgres_server, name) as conn:
            counts["no statistics"] = ask_all(conn)
        with session(postgres_server, name) as conn:
            conn.execute("analyze")
        with session(postgres_server, name) as conn:
            counts["statistics"] = ask_all(conn)
            counts["plans that know nothing"] = ask_all(conn, generic=True)
        yield postgres_server, name, counts


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_asked_often_touches_as_much_as_it_gives(crowded, name: str, moment: str) -> None:
    _, _, counts = crowded
    question = QUESTIONS[name]
    rows, touched = counts[moment][name]

    print(f"{moment}: {rows} rows, {touched:,} blocks")
    assert rows == question.rows
    assert touched <= CATALOG + max(rows, 1) * question.each


def test_a_feed_as_one_would_write_it_reads_on_until_it_has_found_enough(crowded) -> None:
    """The control: what a plan that the planner chose touches for a page of a rare type."""
    server, name, counts = crowded
    naive = """
        select e.position from eventsource.event as e
        join eventsource.stream as s using (stream_no) join eventsource.kind as k using (kind_no)
        where e.position > 1000 and k.event_type = 'Rare' order by e.position limit 50
    """
    with session(server, name) as conn:
        rows, touched = blocks(conn, Question(naive))

    assert rows == 50
    assert touched > 5_000 > counts["statistics"]["a page of a rare type"][1]


def test_a_page_can_be_asked_for_with_an_id_of_a_stream(crowded) -> None:
    """The data is what it says it is."""
    server, name, _ = crowded
    with session(server, name) as conn:
        ((events, streams, faults),) = conn.execute(
            "select (select count(*) from eventsource.event), (select count(*) from eventsource.stream),"
            " (select count(*) from eventsource.find_event_faults())"
        ).fetchall()

    assert (events, streams, faults) == (1_000_000, 20_000, 0)
    assert isinstance(STREAM.id, str | UUID)
