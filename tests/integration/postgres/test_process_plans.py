"""What moving and asking for processes reads: by lookups, however many processes there are.

Plans are made on empty tables, as a worker on a new database makes them, and asked again when there are 20,000.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay.storage.postgres import queries
from tests.integration.postgres.test_plans import Counters, Counting, Session, session
from tests.support.servers import Server

PROCESSES = 20_000
TABLES = [
    "process",
    "process_step",
    "process_audit",
    "process_event",
    "command",
    "audit",
    "batch",
    "batch_delta",
    "operator_action",
    "operator_item",
]
FILL = (Path(__file__).parent / "many_processes.sql").read_text(encoding="utf-8")
SQL = queries.load("processes")
FEW = 50
"""Rows of one process, and those beside them."""


class Crowded:
    """A server with many processes, and a session that has asked everything before they were there."""

    def __init__(self, server: Server, database: str) -> None:
        self._of = server, database
        self.session: Session = session(server, database)

    def ask(self, text: str, **parameters: Any) -> list[Any]:
        return self.session.execute(text.encode(), parameters, prepare=True).fetchall()

    def fill(self, script: str = FILL, **counts: Any) -> None:
        """Give it many processes, or something else, and no statistics of them."""
        with session(*self._of) as conn, psycopg.ClientCursor(conn) as cursor:
            for table in TABLES:
                conn.execute(f"alter table commandbus.{table} set (autovacuum_enabled = false)")
            cursor.execute(script.encode(), counts or {"processes": PROCESSES})

    def read_by(self, doing: Callable[[], Any]) -> int:
        """How many rows are read; no table as a whole."""
        self.session.execute("select pg_stat_force_next_flush()")  # what was read before
        with Counting(*self._of, TABLES) as counts:
            doing()
            self.session.execute("select pg_stat_force_next_flush()")
        assert scans(counts) == {}, counts
        return sum(counted["idx_tup_fetch"] for counted in counts.values())


def scans(counts: Counters) -> dict[str, int]:
    return {table: counted["seq_tup_read"] for table, counted in counts.items() if counted["seq_tup_read"]}


def started(process_id: UUID, command_id: UUID) -> str:
    step = {"step_no": 1, "name": "Reserve", "domain": "orders", "command_type": "Reserve", "data": {}}
    change = moved(process_id, sent=[step | {"command_id": str(command_id)}], told=[{"event_type": "STARTED"}])
    fields = {"domain": "buying", "reply_domain": "buying", "process_type": "Buy", "correlation_id": str(uuid4())}
    return json.dumps([{"process_id": str(process_id), "change": change, **fields}])


def moved(process_id: UUID, **fields: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {"outcomes": [], "sent": [], "told": []}
    return {"process_id": str(process_id), "status": "WAITING_FOR_REPLY", "state": {}} | parts | fields


def move(db: Crowded) -> dict[str, int]:
    """Start processes and move them, and what each part of that reads; ten times, so that plans are kept."""
    read: dict[str, int] = {}
    for _ in range(10):
        process_id, command_id = uuid4(), uuid4()
        fields = {
            "outcomes": [{"step_no": 1, "status": "SUCCESS", "result": {}}],
            "told": [{"event_type": "STEP_SUCCEEDED", "step_no": 1}],
        }
        asked: dict[str, dict[str, Any]] = {
            "start": {"processes": started(process_id, command_id)},
            "lock by its id": {"process_id": process_id, "command_id": None},
            "lock by a step": {"process_id": None, "command_id": command_id},
            "standing": {"process_id": process_id, "command_id": command_id, "step_no": None, "event_id": uuid4()},
            "steps": {"process_id": process_id},
            "to_undo": {"process_id": process_id, "after": None, "limit": 20},
            "advance": {"change": json.dumps(moved(process_id, **fields))},
        }
        for name, parameters in asked.items():
            text = SQL[name.split()[0]]
            read[name] = db.read_by(lambda text=text, parameters=parameters: db.ask(text, **parameters))
    return read


@pytest.fixture
def db(server, database):
    return Crowded(server, database)


@pytest.mark.thorough
def test_moving_processes_reads_a_few_rows_however_many_there_are(db) -> None:
    with db.session:
        move(db)
        db.session.execute("analyze")  # of ten processes: reading them all would be cheapest
        move(db)
        db.fill()

        read = move(db)

        assert {name: rows for name, rows in read.items() if rows > FEW} == {}
        db.session.execute("drop index commandbus.process_step_command")
        with pytest.raises(AssertionError):  # the control
            move(db)


def test_asking_for_processes_reads_what_is_shown(db) -> None:
    anything = dict.fromkeys(("domain", "process_type", "status", "batch_id"))
    with db.session:
        db.fill()
        ((process_id, batch_id),) = db.ask(
            "select process_id, batch_id from commandbus.process where batch_id is not null limit 1"
        )

        read = {
            name: db.read_by(lambda name=name, parameters=parameters: db.ask(SQL[name], **parameters))
            for name, parameters in {
                "get": {"process_id": process_id},
                "audit_trail": {"process_id": process_id},
                "count": {"batch_id": batch_id},
                "list": anything | {"batch_id": batch_id, "limit": 50, "offset": 0},
            }.items()
        }
        page = db.read_by(lambda: db.ask(SQL["list"], **anything, limit=50, offset=0))

    assert {name: rows for name, rows in read.items() if rows > FEW} == {}
    assert page <= 4 * 50
