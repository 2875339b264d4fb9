"""The statement that leases is prepared once in a session (`commandbus.lease_messages`), whatever the session does."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support.servers import Server

MOST = 100
"""How many of them a session keeps, as `lease_messages` says."""

Session = psycopg.Connection[Any]


@pytest.fixture
def worker(server: Server, database: str) -> Iterator[Session]:
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        conn.execute("select commandbus.create_queue('orders')")
        yield conn


def send(conn: Session, domain: str = "orders") -> UUID:
    command = {"domain": domain, "command_type": "Do", "command_id": str(uuid4())}
    conn.execute("select from commandbus.send(%s)", [json.dumps([command])])
    return UUID(command["command_id"])


def receive(conn: Session, domain: str = "orders") -> list[UUID]:
    rows = conn.execute("select command_id from commandbus.receive(%s, 10, 60, 'w')", [domain], prepare=False)
    return [row[0] for row in rows]


def prepared(conn: Session) -> list[tuple[str, int]]:
    return conn.execute(
        "select name, generic_plans from pg_prepared_statements where name like 'mainstay%' order by name",
        prepare=False,
    ).fetchall()


def test_it_is_prepared_once_and_its_plan_is_kept(worker) -> None:
    for _ in range(5):
        one = send(worker)
        assert receive(worker) == [one]

    assert prepared(worker) == [("mainstay_lease_orders", 5)]


@pytest.mark.parametrize("forget", ["deallocate all", "discard all", "discard plans"])
def test_a_session_that_forgot_it_prepares_it_again(worker, forget) -> None:
    assert receive(worker) == []
    worker.execute(forget, prepare=False)
    one = send(worker)

    assert receive(worker) == [one]


def test_it_outlives_the_transaction_that_prepared_it(worker) -> None:
    one = send(worker)
    worker.execute("begin")
    assert receive(worker) == [one]
    worker.execute("rollback")

    assert receive(worker) == [one]


def test_a_queue_that_was_made_anew_is_read(worker) -> None:
    assert receive(worker) == []
    worker.execute("select pgmq.drop_queue('orders__commands')")
    worker.execute("select commandbus.create_queue('orders')")
    one = send(worker)

    assert receive(worker) == [one]


def test_a_session_of_many_queues_keeps_the_latest(worker) -> None:
    for number in range(MOST + 5):
        worker.execute("select commandbus.create_queue(%s)", [f"d{number}"])
        receive(worker, f"d{number}")
    names = [name for name, _ in prepared(worker)]

    assert len(names) == MOST
    assert "mainstay_lease_d0" not in names
    one = send(worker, "d0")
    assert receive(worker, "d0") == [one]
