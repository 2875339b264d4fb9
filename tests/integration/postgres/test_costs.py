"""What a call costs does not depend on how much is stored: measured in buffers, rows and scans, never in time.

Every function is measured twice with the same work: in a database with a thousand commands, and in one with
MAINSTAY_PLAN_ROWS finished and as many deferred ones (20,000 unless set; a million of each is the promise).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from tests.support.servers import Server
from tests.support.thorough import every, thorough

ROWS = int(os.environ.get("MAINSTAY_PLAN_ROWS", "20000"))
FEW = 1000
N = 100
DOMAIN = "orders"
QUEUE = f"{DOMAIN}__commands"
#: Tables that grow with what is stored; the others are empty or short by design.
LARGE = ("command", "deferred", "audit", "batch", "unique_claim")
#: A B-tree of a million rows has one or two levels more than one of a thousand.
DEEPER = 2.0

FILL = """
select commandbus.create_queue(%(domain)s);
insert into commandbus.command (command_id, domain, command_type, status, attempts, data, created_at, unique_key)
select gen_random_uuid(), %(domain)s, 'Do', 'COMPLETED', 1, '{"n": 1}', now() - make_interval(secs => n), 'old ' || n
from generate_series(1, %(rows)s) as n;
insert into commandbus.unique_claim (domain, unique_key, command_id)
select domain, unique_key, command_id from commandbus.command;
insert into commandbus.audit (subject_no, event_type)
select subject_no, 'SENT' from commandbus.command;
with late as (
    insert into commandbus.command (command_id, domain, command_type, data, due_at)
    select gen_random_uuid(), %(domain)s, 'Do', '{"n": 1}', now() + make_interval(secs => 86400 + n)
    from generate_series(1, %(rows)s) as n
    returning command_id, domain, due_at
)
insert into commandbus.deferred (command_id, domain, due_at) select command_id, domain, due_at from late;
insert into commandbus.batch (batch_id, domain, started_at, completed_at, status)
select gen_random_uuid(), %(domain)s, now(), now(), 'COMPLETED' from generate_series(1, %(rows)s / 100);
"""


@dataclass
class Cost:
    """What a piece of work made the server do."""

    buffers: int
    scans: int
    fetched: int


def _buffers(explained: psycopg.Cursor[Any]) -> int:
    """Pages that an explained statement looked at, in the cache or not."""
    row = explained.fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


class Database:
    """A filled database, and one connection whose work is measured."""

    def __init__(self, conn: psycopg.Connection[Any], watch: psycopg.Connection[Any], rows: int) -> None:
        self.rows = rows
        self.conn = conn
        self._watch = watch
        with psycopg.ClientCursor(conn) as cursor:
            cursor.execute(FILL, {"domain": DOMAIN, "rows": rows})

    def measured(self, call: str, **parameters: Any) -> Cost:
        """Call a function of ours; what it cost."""
        scans, fetched = self._counters()
        with psycopg.ClientCursor(self.conn) as cursor:
            cursor.execute(
                f"explain (analyze, buffers, format json, timing off) select * from commandbus.{call}", parameters
            )
            buffers = _buffers(cursor)
        scans_after, fetched_after = self._counters()
        return Cost(buffers, scans_after - scans, fetched_after - fetched)

    def _counters(self) -> tuple[int, int]:
        """Sequential scans of large tables, and rows of `command` fetched through indexes, by everybody so far."""
        self.conn.execute("select pg_stat_force_next_flush()")
        self.conn.execute("select 1")
        row = self._watch.execute(
            "select sum(seq_scan) filter (where relname = any (%s)),"
            " sum(idx_tup_fetch) filter (where relname = 'command')"
            " from pg_stat_user_tables where schemaname = 'commandbus'",
            [list(LARGE)],
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    # -- work ---------------------------------------------------------------------------------------------------------
    def ids(self) -> list[UUID]:
        return [uuid4() for _ in range(N)]

    def commands(self, ids: list[UUID], **more: Any) -> str:
        return orjson.dumps(
            [
                {
                    "domain": DOMAIN,
                    "command_type": "Do",
                    "command_id": one,
                    "data": {"n": 1},
                    "correlation_id": one,
                    **more,
                }
                for one in ids
            ]
        ).decode()

    def send(self, ids: list[UUID], **more: Any) -> None:
        self.conn.execute("select commandbus.send(%s)", [self.commands(ids, **more)])

    def receive(self) -> list[dict[str, Any]]:
        rows = self.conn.execute(
            "select command_id, msg_id, lease_no from commandbus.receive(%s, %s, 60, 'test')", [DOMAIN, N]
        ).fetchall()
        return [{"command_id": one[0], "msg_id": one[1], "lease_no": one[2]} for one in rows]

    def outcomes(self, leases: list[dict[str, Any]], verb: str, **more: Any) -> str:
        return orjson.dumps([{**lease, "verb": verb, **more} for lease in leases]).decode()

    def finish(self, leases: list[dict[str, Any]], verb: str = "COMPLETE", **more: Any) -> None:
        self.conn.execute("select commandbus.complete(%s, %s)", [DOMAIN, self.outcomes(leases, verb, **more)])

    def drain(self) -> None:
        while leases := self.receive():
            self.finish(leases)


def send(db: Database) -> Cost:
    return db.measured("send(%(commands)s::jsonb)", commands=db.commands(db.ids()))


def send_late(db: Database) -> Cost:
    return db.measured("send(%(commands)s::jsonb)", commands=db.commands(db.ids(), delay=3600))


def send_unique(db: Database, keys: str, **more: Any) -> Cost:
    """Each command with a key of its own."""
    commands = [
        one | {"unique_key": f"{keys} {n}"} for n, one in enumerate(orjson.loads(db.commands(db.ids(), **more)), 1)
    ]
    return db.measured("send(%(commands)s::jsonb)", commands=orjson.dumps(commands).decode())


def send_unique_anew(db: Database) -> Cost:
    return send_unique(db, str(uuid4()))


def send_unique_again(db: Database) -> Cost:
    """Commands that are known, with other keys."""
    ids = db.ids()
    db.send(ids, delay=3600)
    commands = [one | {"unique_key": f"again {uuid4()}"} for one in orjson.loads(db.commands(ids))]
    return db.measured("send(%(commands)s::jsonb)", commands=orjson.dumps(commands).decode())


def receive(db: Database) -> Cost:
    db.send(db.ids())
    return db.measured("receive(%(domain)s, %(n)s, 60, 'test')", domain=DOMAIN, n=N)


def receive_nothing(db: Database) -> Cost:
    return db.measured("receive(%(domain)s, %(n)s, 60, 'test')", domain=DOMAIN, n=N)


def receive_what_is_due(db: Database) -> Cost:
    ids = db.ids()
    db.send(ids, delay=0)
    return db.measured("receive(%(domain)s, %(n)s, 60, 'test')", domain=DOMAIN, n=N)


def receive_after_an_expired_lease(db: Database) -> Cost:
    db.send(db.ids())
    db.conn.execute("select commandbus.receive(%s, %s, -1, 'test')", [DOMAIN, N])
    return db.measured("receive(%(domain)s, %(n)s, 60, 'test')", domain=DOMAIN, n=N)


def finish(db: Database, verb: str, **more: Any) -> Cost:
    db.send(db.ids())
    outcomes = db.outcomes(db.receive(), verb, **more)
    return db.measured("complete(%(domain)s, %(outcomes)s::jsonb)", domain=DOMAIN, outcomes=outcomes)


def finish_one(db: Database) -> Cost:
    """What a transactional handler's command costs."""
    db.send(db.ids())
    lease, *others = db.receive()
    db.finish(others)
    db.conn.execute("set enable_seqscan = off")  # as the script has it; see queries/commands.sql
    try:
        return db.measured("complete_one(%(domain)s, %(command_id)s, %(lease_no)s, null)", domain=DOMAIN, **lease)
    finally:
        db.conn.execute("reset enable_seqscan")


def finish_again(db: Database) -> Cost:
    db.send(db.ids())
    leases = db.receive()
    db.finish(leases)
    outcomes = db.outcomes(leases, "COMPLETE")
    return db.measured("complete(%(domain)s, %(outcomes)s::jsonb)", domain=DOMAIN, outcomes=outcomes)


def renew(db: Database) -> Cost:
    db.send(db.ids())
    leases = orjson.dumps(db.receive()).decode()
    return db.measured("renew(%(domain)s, %(leases)s::jsonb, 60)", domain=DOMAIN, leases=leases)


def sleep(db: Database) -> Cost:
    return db.measured("about_to_sleep(%(domain)s, 'test', 60)", domain=DOMAIN)


def cancel(db: Database) -> Cost:
    ids = db.ids()
    db.send(ids)
    return db.measured("cancel(%(domain)s, %(one)s, null, false)", domain=DOMAIN, one=ids[50])


def retry_by_operator(db: Database) -> Cost:
    ids = db.ids()
    db.send(ids)
    db.finish(db.receive(), "TROUBLESHOOT", error_type="PERMANENT", error_code="X", error_message="x")
    request = '{"action": "RETRY", "operator": "ada"}'
    return db.measured(
        "act(%(domain)s, %(ids)s::uuid[], %(request)s::jsonb, null)", domain=DOMAIN, ids=ids, request=request
    )


def fold(db: Database) -> Cost:
    batch = uuid4()
    db.conn.execute(
        "select commandbus.create_batch(%s, %s, null, null, null, %s, null, true)",
        [DOMAIN, batch, db.commands(db.ids(), batch_id=batch)],
    )
    db.finish(db.receive())
    return db.measured("fold_batches(%(domain)s)", domain=DOMAIN)


CALLS = {
    "send": send,
    "send with a delay": send_late,
    "send with new unique keys": send_unique_anew,
    "send with unique keys of what has ended": partial(send_unique, keys="old"),
    "send what is known with unique keys": send_unique_again,
    "send with unique keys that are held": partial(send_unique, keys="held", delay=3600),
    "receive": receive,
    "receive nothing": receive_nothing,
    "receive what is due": receive_what_is_due,
    "receive after an expired lease": receive_after_an_expired_lease,
    "complete": partial(finish, verb="COMPLETE"),
    "complete one": finish_one,
    "retry": partial(finish, verb="RETRY", error_type="TRANSIENT", error_code="X", error_message="x", delay=90000),
    "troubleshoot": partial(finish, verb="TROUBLESHOOT", error_type="PERMANENT", error_code="X", error_message="x"),
    "give back": partial(finish, verb="GIVE_BACK"),
    "complete again": finish_again,
    "renew": renew,
    "sleep": sleep,
    "cancel": cancel,
    "operator's retry": retry_by_operator,
    "fold": fold,
}


@contextmanager
def filled(server: Server, rows: int) -> Iterator[Database]:
    with (
        server.database() as name,
        psycopg.connect(server.dsn(name), autocommit=True) as conn,
        psycopg.connect(server.dsn(name), autocommit=True) as watch,
    ):
        yield Database(conn, watch, rows)


@pytest.fixture(scope="module")
def small(postgres_server: Server) -> Iterator[Database]:
    with filled(postgres_server, FEW) as database:
        yield database


@pytest.fixture(scope="module", params=["with statistics", thorough("without statistics")])
def large(request: pytest.FixtureRequest, postgres_server: Server) -> Iterator[Database]:
    """The planner may know how much there is, or think that the tables are as empty as after the installation."""
    with filled(postgres_server, ROWS) as database:
        if request.param == "with statistics":
            database.conn.execute("vacuum analyze")
        yield database


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", every(2, CALLS))
def test_a_call_costs_the_same_however_much_is_stored(small: Database, large: Database, name: str) -> None:
    call = CALLS[name]
    costs = []
    for database in (small, large):
        call(database)  # once for the caches of the connection
        database.drain()
        costs.append(call(database))
        database.drain()
    little, much = costs

    assert much.scans == 0, "a large table was read from its beginning to its end"
    assert much.fetched <= little.fetched + N
    assert much.buffers <= little.buffers * DEEPER + N, f"{little} in the small database, {much} in the large one"


@pytest.mark.timeout(600)
def test_plans_that_were_made_when_no_key_was_taken_stay_good(postgres_server: Server) -> None:
    """A session keeps its plans while the table grows."""
    with filled(postgres_server, 0) as database:
        first = send_unique_anew(database)
        for _ in range(30):
            last = send_unique_anew(database)

    assert last.buffers <= first.buffers * DEEPER + N


@pytest.mark.timeout(600)
def test_the_measure_shows_a_reader_whose_cost_grows(small: Database, large: Database) -> None:
    """What pgmq.read does: it walks over everything that is not due yet. Delays stay out of the queue for that."""
    buffers = []
    for database in (small, large):
        database.conn.execute("select pgmq.create('naive')")
        database.conn.execute(
            "insert into pgmq.q_naive (vt, message) select now() + interval '1 day', '{}' from generate_series(1, %s)",
            [database.rows],
        )
        database.conn.execute("select * from pgmq.read('naive', 30, 100)")  # once for the caches of the connection
        buffers.append(
            _buffers(
                database.conn.execute(
                    "explain (analyze, buffers, format json) select * from pgmq.read('naive', 30, 100)"
                )
            )
        )

    assert buffers[1] > buffers[0] * DEEPER * 2


def test_the_cost_of_receiving_does_not_grow_with_batches_that_have_not_begun(small: Database) -> None:
    receive(small)
    small.drain()
    without = receive(small)
    small.drain()
    small.conn.execute(
        "insert into commandbus.batch (batch_id, domain, total_count)"
        " select gen_random_uuid(), %s, 1 from generate_series(1, 5000)",
        [DOMAIN],
    )
    receive(small)
    small.drain()
    with_many = receive(small)
    small.drain()
    small.conn.execute("delete from commandbus.batch where started_at is null")

    assert with_many.buffers <= without.buffers * DEEPER + N
