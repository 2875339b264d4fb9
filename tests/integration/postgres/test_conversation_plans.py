"""What a conversation touches among very many: a few hundred blocks, once the filters of its index are written.

Counted in blocks, not in time. Twenty thousand commands and as many events; MAINSTAY_TRACE_ROWS=1000000 says more.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import ClientCursor

from mainstay.storage.postgres import queries
from tests.support.servers import Server

ROWS = int(os.environ.get("MAINSTAY_TRACE_ROWS", "20000"))
COMMANDS, EVENTS, LEDGER = queries.load("commands"), queries.load("events"), queries.load("ledger")
FILL = (Path(__file__).parent / "many_commands.sql").read_text(encoding="utf-8")
FILL_EVENTS = """
insert into eventsource.stream (category, stream_id, version, created_at)
select 'Category', 'stream ' || n, 50, now() from generate_series(1, %(rows)s / 50) as n;
insert into eventsource.kind (category, event_type) values ('Category', 'A');
insert into eventsource.event (
    position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at, correlation_id, payload)
select n, s.stream_no, v, k.kind_no, 1, gen_random_uuid(), now(), now(), gen_random_uuid(),
       '{"amount": 5, "note": "as long as a payload often is, or a little longer"}'
from (
    select row_number() over () as n, s.stream_no, v from eventsource.stream as s cross join generate_series(1, 50) as v
) as s
cross join eventsource.kind as k;
select setval('eventsource.event_position', %(rows)s);
"""
ROOM = 200
"""Blocks, besides one for each 500 rows: some filters say yes wrongly, and each names 32 blocks."""

Session = psycopg.Connection[Any]


def blocks(conn: Session, statement: str, asked: dict[str, Any]) -> tuple[int, int]:
    """How many rows a question gives, and how many blocks it touches."""
    with ClientCursor(conn) as cursor:
        cursor.execute(f"explain (analyze, buffers, format json) {statement}".encode(), asked)
        ((found,),) = cursor.fetchall()
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return int(plan["Actual Rows"]), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture(scope="module")
def crowded(postgres_server: Server) -> Iterator[Session]:
    with (
        postgres_server.database(untouched=True) as name,
        psycopg.connect(postgres_server.dsn(name), autocommit=True) as conn,
    ):
        for table in ("commandbus.command", "eventsource.event"):
            conn.execute(f"alter table {table} set (autovacuum_enabled = false)".encode())
        with ClientCursor(conn) as cursor:
            cursor.execute(FILL.encode(), {"deferred": 0, "completed": ROWS})
            cursor.execute(FILL_EVENTS.encode(), {"rows": ROWS})
        yield conn


def some(conn: Session, question: str) -> UUID:
    row = conn.execute(question.encode()).fetchone()

    assert row is not None
    found: UUID = row[0]
    return found


QUESTIONS = {
    "commands": (COMMANDS["conversation"], "select correlation_id from commandbus.command offset 5000 limit 1"),
    "events": (EVENTS["conversation"], "select correlation_id from eventsource.event where position = 5000"),
    "an event": (EVENTS["event_known_as"], "select event_id from eventsource.event where position = 5000"),
}


def ask(conn: Session, name: str, sought: UUID) -> tuple[int, int]:
    return blocks(conn, QUESTIONS[name][0], {"correlation_ids": [sought], "event_id": sought, "limit": 1000})


@pytest.fixture(scope="module")
def before(crowded: Session) -> dict[str, tuple[int, int]]:
    """What questions touch before anything has written filters; then that is done, as autovacuum does it."""
    found = {name: ask(crowded, name, some(crowded, sought)) for name, (_, sought) in QUESTIONS.items()}
    crowded.execute("vacuum (analyze) commandbus.command, eventsource.event")
    return found


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_conversation_touches_a_few_hundred_blocks_however_much_there_is(crowded, before, name: str) -> None:
    there, none = ask(crowded, name, some(crowded, QUESTIONS[name][1])), ask(crowded, name, uuid4())
    rows, whole = before[name]

    print(f"{name}: {there[1]:,} blocks, {none[1]:,} for nothing, {whole:,} without filters")
    assert (rows, there[0], none[0]) == (1, 1, 0)
    assert max(there[1], none[1]) <= ROOM + ROWS // 500 < whole


def test_what_was_written_since_is_found_too(crowded, before) -> None:
    correlation_id, event_id = uuid4(), uuid4()
    crowded.execute(
        "insert into commandbus.command (command_id, domain, command_type, correlation_id)"
        " values (gen_random_uuid(), 'orders', 'Late', %s)",
        [correlation_id],
    )
    crowded.execute(
        "select eventsource.append_one('Late', '', '1', 0, %s, 'A', '{}', now(), 1, %s, null, null, null)",
        [event_id, correlation_id],
    )

    assert [ask(crowded, name, correlation_id)[0] for name in ("commands", "events")] == [1, 1]
    assert ask(crowded, "an event", event_id)[0] == 1


def test_the_decisions_on_one_stream_are_one_pass_of_the_ledger_and_a_lookup_for_each(crowded) -> None:
    """As `mainstay shadow --stream` asks. The ledger has one index, in the order of commands; no other is paid for."""
    crowded.execute(
        "insert into commandbus.decision (subject_no, decided_at, command_id, version_read, events, domain, category,"
        " tenant_id, stream_id, handler, handler_version)"
        " select subject_no, now(), command_id, 0, 1, domain, 'Account', '',"
        " case when subject_no % 400 = 0 then 'one' else 'another ' || subject_no end, 'handler', '1'"
        " from commandbus.command where command_type <> 'Late'"
    )
    anything = dict.fromkeys(["domain", "command_type", "since", "until"])
    asked = anything | {"category": "Account", "stream_id": "one", "tenant_id": "", "after": 0, "limit": 500}
    found = [blocks(crowded, LEDGER["list_decisions"], asked)]
    crowded.execute("vacuum (analyze) commandbus.decision, commandbus.command")
    found += [blocks(crowded, LEDGER["list_decisions"], asked)]
    ((ledger,),) = crowded.execute("select pg_table_size('commandbus.decision') / 8192").fetchall()

    assert [rows for rows, _ in found] == [ROWS // 400] * 2
    assert max(touched for _, touched in found) <= ledger + 5 * ROWS // 400 + ROOM
