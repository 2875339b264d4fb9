"""Where receivers need not look any more (see `commandbus.narrow`), and that no message is ever there.

Every interleaving is made of single steps, with sessions that stay open between them. The same stories are told to
naive narrowers, each with one of its safeguards taken out, which must lose a command.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import install_schema
from tests.support.servers import Server
from tests.support.thorough import every
from tests.support.waiting import eventually_sync

QUEUE = "pgmq.q_orders__commands"
SEQUENCE = f"{QUEUE}_msg_id_seq"
SEEDS = range(25)
STEPS = 60
CHURN = 40
"""Rounds of a hundred commands behind an open snapshot."""

NAIVE = {
    "who draws numbers is not asked": ("settle", "k.mode = 'RowExclusiveLock'", "false"),
    "numbers are settled when they are read": ("settle", "settled := p_old.seen;", "settled := seen;"),
    "what is leased is left behind": ("narrow", "+ coalesce(v_kept, '{}')", ""),
}


class Session:
    """A connection that calls our functions."""

    def __init__(self, dsn: str, *, autocommit: bool = True) -> None:
        self.conn: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=autocommit)

    def send(self, count: int = 1, **more: Any) -> list[UUID]:
        ids = [uuid4() for _ in range(count)]
        commands = [
            {"domain": "orders", "command_type": "Do", "command_id": str(one), "max_attempts": 1000, **more}
            for one in ids
        ]
        self.conn.execute("select from commandbus.send(%s)", [json.dumps(commands)])
        return ids

    def receive(self, limit: int = 100) -> list[dict[str, Any]]:
        rows = self.conn.execute(
            "select command_id, msg_id, lease_no from commandbus.receive('orders', %s, 60, 'w')", [limit]
        ).fetchall()
        return [{"command_id": str(one), "msg_id": msg, "lease_no": lease} for one, msg, lease in rows if one]

    def complete(self, leases: list[dict[str, Any]], verb: str = "COMPLETE", **more: Any) -> None:
        outcomes = json.dumps([{**lease, "verb": verb, **more} for lease in leases])
        self.conn.execute("select from commandbus.complete('orders', %s)", [outcomes])

    def work(self, limit: int = 100) -> list[UUID]:
        """Receive and complete; what was done."""
        leases = self.receive(limit)
        if leases:
            self.complete(leases)
        return [UUID(lease["command_id"]) for lease in leases]

    def narrow(self, leases: list[dict[str, Any]]) -> None:
        """What `receive` does when it walked far."""
        self.conn.execute("select commandbus.narrow('orders', %s)", [[lease["msg_id"] for lease in leases]])

    def churn(self, count: int = 10) -> None:
        """Work some commands off, and narrow."""
        self.send(count)
        leases = self.receive(count)
        self.complete(leases)
        self.narrow(leases)

    def end_leases(self, leases: list[dict[str, Any]]) -> None:
        """What time does to the leases of a worker that died."""
        gone = [lease["msg_id"] for lease in leases]
        self.conn.execute(f"update {QUEUE} set vt = clock_timestamp() where msg_id = any (%s)", [gone])

    def one(self, query: str) -> Any:
        row = self.conn.execute(query).fetchone()
        assert row is not None
        return row[0]

    def holes(self) -> bool:
        """Whether there is anywhere that receivers need not look."""
        return bool(self.one("select exists (select from commandbus.live_range where not ranges @> 5::bigint)"))

    def mutate(self, function: str, safeguard: str, instead: str) -> None:
        """Take a safeguard out of one of our functions."""
        text = self.one(f"select pg_get_functiondef('commandbus.{function}'::regproc)")
        assert safeguard in text
        self.conn.execute(text.replace(safeguard, instead))

    def is_sound(self) -> bool:
        return not self.conn.execute("select * from commandbus.find_faults()").fetchall()


@pytest.fixture
def sessions(server: Server, database: str) -> Iterator[Any]:
    """Makes sessions."""
    with ExitStack() as stack:

        def make(*, autocommit: bool = True) -> Session:
            made = Session(server.dsn(database), autocommit=autocommit)
            stack.callback(made.conn.close)
            return made

        yield make


@pytest.fixture
def worker(sessions) -> Session:
    made: Session = sessions()
    made.conn.execute("select commandbus.create_queue('orders')")
    return made


class Story:
    """Senders that commit late or never, a worker that loses what it holds, and a narrower after every receive."""

    def __init__(self, worker: Session, senders: list[Session], seed: int) -> None:
        self.worker = worker
        self.senders = senders
        self.open: dict[int, list[UUID]] = {}
        self.held: list[dict[str, Any]] = []
        self.sent: set[UUID] = set()
        self.random = Random(seed)

    def send(self) -> None:
        number = self.random.randrange(len(self.senders))
        sender = self.senders[number]
        priority = self.random.choice([0, 0, 0, 1, -1])
        if self.random.random() < 0.2:
            sender.conn.execute("savepoint s")
            sender.send(2, priority=priority)
            sender.conn.execute("rollback to s")
        self.open[number] = self.open.get(number, []) + sender.send(self.random.randint(1, 3), priority=priority)

    def end_sender(self) -> None:
        if self.open:
            number = self.random.choice(sorted(self.open))
            if self.random.random() < 0.2:
                self.open.pop(number)
                self.senders[number].conn.rollback()
            else:
                self.commit(number)

    def commit(self, number: int) -> None:
        self.senders[number].conn.commit()
        self.sent.update(self.open.pop(number))

    def receive(self) -> None:
        leases = self.worker.receive(self.random.randint(1, 5))
        self.held += leases
        if leases:
            self.worker.narrow(leases)

    def complete(self) -> None:
        self.random.shuffle(self.held)
        done, self.held = self.held[:3], self.held[3:]
        verb, more = self.random.choice(
            [("COMPLETE", {}), ("COMPLETE", {}), ("GIVE_BACK", {}), ("RETRY", {"delay": 0, "error_type": "TRANSIENT"})]
        )
        if done:
            self.worker.complete(done, verb, **more)

    def die(self) -> None:
        self.worker.end_leases(self.held)
        self.held = []

    def told(self) -> bool:
        """Whether every command that was sent was done in the end."""
        steps = [self.send] * 3 + [self.end_sender] * 3 + [self.receive] * 4 + [self.complete] * 4 + [self.die]
        for _ in range(STEPS):
            self.random.choice(steps)()
        for number in sorted(self.open):
            self.commit(number)
        self.die()
        while self.worker.work():
            pass
        done = {
            row[0]
            for row in self.worker.conn.execute("select command_id from commandbus.command where status = 'COMPLETED'")
        }
        return done == self.sent and self.worker.is_sound()


def lost(sessions: Any, worker: Session) -> list[int]:
    """The stories in which a command was lost; told until the first."""
    senders = [sessions(autocommit=False) for _ in range(3)]
    for seed in SEEDS:
        if not Story(worker, senders, seed).told():
            return [seed]
        worker.conn.execute("delete from commandbus.command")
        worker.conn.execute("delete from commandbus.audit")
    return []


@pytest.mark.thorough
def test_no_command_is_lost_whoever_commits_late_gives_back_or_dies(postgres_server, sessions, worker) -> None:
    assert lost(sessions, worker) == []


@pytest.mark.parametrize("naive", NAIVE)
@pytest.mark.thorough
def test_a_naive_narrower_loses_one(sessions, worker, naive) -> None:
    worker.mutate(*NAIVE[naive])

    assert lost(sessions, worker) != []


def test_what_a_slow_sender_commits_behind_everybody_else_is_received(postgres_server, sessions, worker) -> None:
    slow = sessions(autocommit=False)
    (late,) = slow.send()
    for _ in range(3):
        worker.churn()
    assert not worker.holes()

    slow.conn.commit()
    assert worker.work() == [late]
    worker.churn()
    assert worker.holes()


def test_senders_that_overlap_without_end_do_not_stop_the_narrowing(sessions, worker) -> None:
    first, second = sessions(autocommit=False), sessions(autocommit=False)
    first.send()
    worker.churn()
    for one, other in [(first, second), (second, first)] * 2:
        other.send()
        worker.churn()
        one.conn.commit()
        worker.churn()

    assert worker.holes()


def test_a_command_whose_worker_died_is_received_again(postgres_server, worker) -> None:
    (left,) = worker.send()
    leases = worker.receive()
    for _ in range(3):
        worker.churn(100)
    assert worker.holes()
    worker.end_leases(leases)

    assert worker.work() == [left]


def test_a_retry_that_is_due_is_received(worker) -> None:
    (again,) = worker.send()
    worker.complete(worker.receive(), "RETRY", delay=0, error_type="TRANSIENT")
    worker.send()
    leases = worker.receive()
    worker.narrow(leases)
    worker.complete([lease for lease in leases if lease["command_id"] != str(again)])
    worker.end_leases(leases)

    assert worker.work() == [again]
    assert worker.is_sound()


@pytest.mark.parametrize("is_naive", [False, True])
def test_a_parked_command_has_its_place_again(worker, is_naive) -> None:
    """Parked and released while others pass; then its worker dies."""
    if is_naive:
        worker.mutate("narrow", "unnest(v_present || v_parked)", "unnest(v_present)")
    worker.conn.execute("select commandbus.pause('orders', 'Wait', 'ada', null)")
    (parked,) = worker.send(command_type="Wait")
    assert worker.receive() == []
    worker.churn()
    assert worker.holes()
    worker.conn.execute("select commandbus.resume('orders', 'Wait')")
    leases = worker.receive()
    worker.end_leases(leases)

    assert [lease["command_id"] for lease in leases] == [str(parked)]
    assert worker.work() == ([] if is_naive else [parked])


@pytest.mark.parametrize("is_naive", [False, True])
def test_a_table_that_was_restored_is_looked_through(worker, is_naive) -> None:
    if is_naive:
        worker.mutate("live_range_of", "l.file = pg_relation_filenode(p_table)", "true")
    (old,) = worker.send()
    worker.conn.execute(f"create table backup as table {QUEUE}")
    for _ in range(3):
        worker.complete(worker.receive(), "GIVE_BACK")
        worker.work()
        worker.churn()
    worker.conn.execute(f"truncate {QUEUE}")
    worker.conn.execute(f"insert into {QUEUE} overriding system value table backup")
    worker.conn.execute("update commandbus.command set status = 'PENDING' where command_id = %s", [old])
    worker.conn.execute(
        f"update commandbus.command as c set msg_id = b.msg_id from backup as b where command_id = '{old}'"
    )

    assert worker.work() == ([] if is_naive else [old])


def test_a_sequence_that_was_set_back_is_noticed(worker) -> None:
    for _ in range(3):
        worker.churn()
    worker.conn.execute(f"delete from {QUEUE}")
    worker.conn.execute(f"select setval('{SEQUENCE}', 1)")
    sent = worker.send(2)

    assert worker.receive() == []  # it looks where something may be, and notices
    assert sorted(worker.work()) == sorted(sent)


def test_a_message_put_where_nobody_looks_is_found_and_mended_by_fsck(worker) -> None:
    (old,) = worker.send()
    worker.conn.execute(f"create table backup as table {QUEUE}")
    worker.conn.execute(f"delete from {QUEUE}")
    for _ in range(3):
        worker.churn()
    worker.conn.execute(f"insert into {QUEUE} overriding system value table backup")

    ((invariant, details),) = worker.conn.execute("select invariant, details from commandbus.find_faults()").fetchall()
    worker.conn.execute("select commandbus.repair(%s, 'orders', %s, %s, 'ada')", [invariant, old, json.dumps(details)])

    assert invariant == "a message in the queue is where receivers look"
    assert worker.work() == [old]
    assert worker.is_sound()


def test_a_message_that_repair_puts_back_is_received(worker) -> None:
    (old,) = worker.send()
    worker.conn.execute(f"delete from {QUEUE}")
    for _ in range(3):
        worker.churn()
    assert worker.holes()

    worker.conn.execute("select commandbus.repair_place('orders', %s)", [old])

    assert worker.work() == [old]
    assert worker.is_sound()


def read_by(worker: Session, call: Callable[[], object], index: str = "q_orders__commands_pkey") -> int:
    """How many entries of an index a call reads."""

    def read() -> int:
        worker.conn.execute("select pg_stat_force_next_flush()")
        return int(worker.one(f"select idx_tup_read from pg_stat_user_indexes where indexrelname = '{index}'"))

    before = read()
    call()
    return read() - before


@pytest.mark.parametrize("is_naive", [False, True])
def test_receiving_walks_no_further_while_a_snapshot_is_held(postgres_server, sessions, worker, is_naive) -> None:
    """The control does without: there it walks over everything that was done since."""
    if is_naive:
        worker.mutate("narrow", "if v_file is null", "if true or v_file is null")
    holder = sessions(autocommit=False)
    holder.conn.execute("set transaction isolation level repeatable read")
    holder.conn.execute("select count(*) from commandbus.command")
    for _ in range(CHURN):
        worker.send(100)
        worker.work()
    worker.send(100)

    entries = read_by(worker, worker.work)

    assert (entries > 100 * CHURN) is is_naive
    if not is_naive:
        assert entries < 15 * 100  # three lookups for each of the hundred, and what is not yet known to be gone
    holder.conn.rollback()
    assert worker.work() == []
    worker.send(100)
    assert len(worker.work()) == 100


@pytest.mark.parametrize("is_naive", [False, True])
def test_narrowing_walks_no_further_when_statistics_say_that_there_is_nothing(sessions, worker, is_naive) -> None:
    """As autovacuum leaves them while a snapshot is held: many pages, next to nothing alive."""
    if is_naive:
        worker.mutate("narrow", " offset 0)", ")")
    holder = sessions(autocommit=False)
    holder.conn.execute("set transaction isolation level repeatable read")
    holder.conn.execute("select count(*) from commandbus.command")
    for _ in range(CHURN):
        worker.churn(100)
    worker.conn.execute(f"vacuum analyze {QUEUE}")
    worker.send(100)
    leases = worker.receive()

    entries = read_by(worker, lambda: worker.narrow(leases))

    assert (entries > 100 * CHURN) is is_naive


def test_ranges_are_forgotten_when_vacuum_has_cleaned_the_queue(sessions, worker) -> None:
    for _ in range(3):
        worker.churn(1000)
    assert worker.holes()

    def are_forgotten() -> bool:
        worker.conn.execute(f"vacuum {QUEUE}")
        assert worker.work() == []
        return worker.one("select count(*) from commandbus.live_range") == 0

    eventually_sync(are_forgotten)  # a snapshot of somebody else's may keep what is dead


@pytest.mark.parametrize("is_naive", [False, True])
def test_hints_of_keys_are_not_walked_over_again_while_a_snapshot_is_held(
    postgres_server, sessions, worker, is_naive
) -> None:
    if is_naive:
        worker.mutate("narrow_hints", "if current_setting", "if true or current_setting")
    holder = sessions(autocommit=False)
    holder.conn.execute("set transaction isolation level repeatable read")
    holder.conn.execute("select count(*) from commandbus.command")
    for _ in range(CHURN):
        worker.send(100, key="a key")
        for _ in range(3):
            worker.work()
        worker.conn.execute("delete from commandbus.keyed")
        worker.conn.execute(
            "insert into commandbus.key_hint (domain, key) select 'orders', 'b' from generate_series(1, 200)"
        )
        worker.work()
    (one,) = worker.send(key="another")

    entries = read_by(worker, worker.work, "key_hint_pkey")

    assert (entries > 200 * CHURN) is is_naive
    assert worker.one(f"select status from commandbus.command where command_id = '{one}'") == "COMPLETED"


@pytest.mark.parametrize("is_naive", [False, True])
def test_a_hint_that_commits_behind_others_is_found(sessions, worker, is_naive) -> None:
    if is_naive:
        worker.mutate("settle", "k.mode = 'RowExclusiveLock'", "false")
    slow = sessions(autocommit=False)
    (late,) = slow.send(key="late")
    for _ in range(3):
        worker.send(key="quick")
        worker.work()
        worker.conn.execute("select commandbus.narrow_hints('orders')")
    slow.conn.commit()

    assert worker.work() == ([] if is_naive else [late])


@pytest.mark.parametrize("is_naive", every(2, [False, True]))
def test_what_a_prepared_transaction_sent_is_received_when_it_commits(data_dir, is_naive) -> None:
    """It holds its numbers, under its session's name until the server starts again, then under one of its own."""
    settings = {"max_prepared_transactions": "2"}
    with EmbeddedServer(data_dir, settings=settings) as server, ExitStack() as stack:
        install_schema(server.dsn())
        worker, slow = (Session(server.dsn(), autocommit=one) for one in (True, False))
        stack.callback(worker.conn.close)
        stack.callback(slow.conn.close)
        worker.conn.execute("select commandbus.create_queue('orders')")
        if is_naive:
            worker.mutate("settle", "or exists (select from unnest(senders) as s where s like '-%')", "")
        (late,) = slow.send()
        worker.churn()
        slow.conn.execute("prepare transaction 'late'")
        worker.churn()
        assert not worker.holes()

    with EmbeddedServer(data_dir, settings=settings) as server, ExitStack() as stack:
        worker = Session(server.dsn())
        stack.callback(worker.conn.close)
        for _ in range(3):
            worker.churn()
        assert worker.holes() is is_naive

        worker.conn.execute("commit prepared 'late'")

        assert worker.work() == ([] if is_naive else [late])
