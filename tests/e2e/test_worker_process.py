"""``mainstay worker``, as a process that gets signals."""

import json
import os
import signal
import subprocess
from uuid import uuid4

import psycopg
import pytest

from tests.support.cli import program, read_until, run
from tests.support.thorough import thorough
from tests.support.waiting import eventually_sync

HANDLERS = """
import asyncio
import gc
import pathlib
import sys
import threading

from mainstay import HandlerContext, HandlerRegistry

registry = HandlerRegistry()


@registry.handler("shop", "Quick")
async def quick(command, context: HandlerContext):
    return {"attempt": context.attempt, "objects": gc.get_threshold()[0]}


@registry.handler("shop", "Waits")
async def waits(command, context: HandlerContext):
    pathlib.Path(command.data["begun"]).touch()
    while not pathlib.Path(command.data["until"]).exists():
        await asyncio.sleep(0.02)


@registry.handler("shop", "Hangs")
def hangs(command, context: HandlerContext):
    pathlib.Path(command.data["begun"]).touch()
    threading.Event().wait()


@registry.handler("till", "Locks", transactional=True)
async def locks(command, context: HandlerContext):
    await context.conn.execute("select pg_advisory_xact_lock_shared(4711)")


@registry.handler("bank", "Quick")
async def other(command, context: HandlerContext):
    pass
"""


PURSES = """
from dataclasses import dataclass
from uuid import UUID

from mainstay import CommandModel, DeciderAggregate, DomainEvent, HandlerRegistry


class Put(CommandModel, domain="purses"):
    purse_id: UUID


class WasPut(DomainEvent, event_type="WasPutIntoPurse"):
    pass


@dataclass(frozen=True)
class Coins:
    number: int = 0


class Purse(DeciderAggregate[Coins, Put]):
    aggregate_type = "Purse"

    @staticmethod
    def initial_state():
        return Coins()

    @staticmethod
    def decide(state, command):
        return WasPut()

    @staticmethod
    def evolve(state, event):
        return Coins(state.number + 1)


registry = HandlerRegistry()
registry.register_decider(domain="purses", decider=Purse)
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "handlers_of_a_shop.py").write_text(HANDLERS)
    return tmp_path


def a_worker(shop, dsn, *options, **more):
    env = {"DATABASE_URL": dsn, "PYTHONPATH": ""}
    return program(
        *("worker", "handlers_of_a_shop:registry", "--json", "--report-every", "0.1", *options),
        cwd=shop, env=env, **more,
    )  # fmt: skip


def send(dsn, tmp_path, command_type, **data):
    key = str(uuid4())
    line = {"domain": "shop", "command_type": command_type, "command_id": key, "data": data}
    result = run("send", "-", "--dsn", dsn, stdin=json.dumps(line))
    assert result.code == 0, result.err
    return key


def status_of(dsn, key):
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute("select status, attempts from commandbus.command where command_id = %s", [key]).fetchone()


def started(line):
    return "started" in line


def test_it_handles_what_is_sent_and_ends_gently(shop, dsn):
    with a_worker(shop, dsn) as worker:
        read_until(worker, started)
        key = send(dsn, shop, "Quick")
        eventually_sync(lambda: status_of(dsn, key) == ("COMPLETED", 1))
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=90)

    with psycopg.connect(dsn, autocommit=True) as conn:
        (result,) = conn.execute("select result from commandbus.command where command_id = %s", [key]).fetchone()
    assert result == {"attempt": 1, "objects": 5_000}, "it collects rarely"
    lines = [json.loads(line) for line in out.splitlines()]
    assert worker.returncode == 0
    assert err == ""
    assert {"domain": "shop", "handled": 1, "message": "stopped"}.items() <= [
        line for line in lines if line.get("domain") == "shop"
    ][-1].items()


@pytest.mark.thorough
def test_as_many_transactional_handlers_run_as_it_is_told(shop, dsn):
    lines = [{"domain": "till", "command_type": "Locks", "command_id": str(uuid4()), "data": {}} for _ in range(12)]
    assert run("send", "-", "--dsn", dsn, stdin="\n".join(json.dumps(line) for line in lines)).code == 0
    locked = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(4711)")
        with a_worker(shop, dsn, "--domain", "till", "--concurrency", "12") as worker:
            eventually_sync(lambda: conn.execute(locked).fetchone() == (12,))
            conn.execute("select pg_advisory_unlock(4711)")
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=90)

    assert worker.returncode == 0
    assert [status_of(dsn, line["command_id"]) for line in lines] == [("COMPLETED", 1)] * 12


@pytest.mark.thorough
def test_it_leaves_snapshots_and_commits_one_by_one_if_told_so(tmp_path, dsn):
    (tmp_path / "handlers_of_purses.py").write_text(PURSES)
    lines = [
        {"domain": "purses", "command_type": "Put", "command_id": str(uuid4()), "data": {"purse_id": str(uuid4())}}
        for _ in range(3)
    ]
    lines += [lines[0] | {"command_id": str(uuid4())}]
    sent = run("send", "-", "--dsn", dsn, stdin="\n".join(json.dumps(line) for line in lines))
    options = ("--json", "--no-group-commit", "--snapshots", "2")
    command = ("worker", "handlers_of_purses:registry", *options)

    with program(*command, cwd=tmp_path, env={"DATABASE_URL": dsn, "PYTHONPATH": ""}) as worker:
        read_until(worker, started)
        with psycopg.connect(dsn, autocommit=True) as conn:
            eventually_sync(lambda: conn.execute("select version from eventsource.snapshot").fetchall() == [(2,)])
            eventually_sync(
                lambda: conn.execute("select count(distinct xmin::text) from commandbus.decision").fetchone() == (4,)
            )
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=90)

    assert (sent.code, worker.returncode) == (0, 0)


@pytest.mark.thorough
def test_a_running_handler_may_finish(shop, dsn):
    with a_worker(shop, dsn) as worker:
        read_until(worker, started)
        key = send(dsn, shop, "Waits", begun=str(shop / "begun"), until=str(shop / "go"))
        eventually_sync((shop / "begun").exists)
        worker.send_signal(signal.SIGINT)
        read_until(worker, lambda line: "stopping, with 1 running" in line)
        (shop / "go").touch()
        worker.communicate(timeout=90)

    assert worker.returncode == 0
    assert status_of(dsn, key) == ("COMPLETED", 1)


def test_a_second_signal_stops_at_once_and_gives_back(shop, dsn):
    with a_worker(shop, dsn) as worker:
        read_until(worker, started)
        key = send(dsn, shop, "Waits", begun=str(shop / "begun"), until=str(shop / "never"))
        eventually_sync((shop / "begun").exists)
        worker.send_signal(signal.SIGINT)
        read_until(worker, lambda line: "stopping, with" in line)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=90)

    assert worker.returncode == 130
    assert status_of(dsn, key) == ("PENDING", 0)


@pytest.mark.thorough
def test_what_outlives_the_grace_is_given_back(shop, dsn):
    with a_worker(shop, dsn, "--grace", "0.2") as worker:
        read_until(worker, started)
        key = send(dsn, shop, "Waits", begun=str(shop / "begun"), until=str(shop / "never"))
        eventually_sync((shop / "begun").exists)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=90)

    assert worker.returncode == 0
    assert status_of(dsn, key) == ("PENDING", 0)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["gently", "at once"])
@pytest.mark.thorough
def test_a_thread_that_hangs_does_not_keep_the_process_alive(shop, dsn, signals):
    with a_worker(shop, dsn, "--grace", "1") as worker:
        read_until(worker, started)
        key = send(dsn, shop, "Hangs", begun=str(shop / "begun"))
        eventually_sync((shop / "begun").exists)
        seen = []
        for number in signals:
            worker.send_signal(number)
            seen += read_until(worker, lambda line: "stopping" in line)
        out, err = worker.communicate(timeout=90)

    lines = [json.loads(line) for line in [*seen, *out.splitlines()]]
    assert worker.returncode == 1
    assert err == ""
    assert {"level": "error", "command_type": "Hangs", "command_id": key}.items() <= lines[-1].items()
    assert "still runs" in lines[-1]["message"]


@pytest.mark.thorough
def test_the_end_of_its_input_stops_it_if_asked_for(shop, dsn):
    with a_worker(shop, dsn, "--stop-at-eof", stdin=subprocess.PIPE) as worker:
        read_until(worker, started)
        worker.stdin.close()

        assert worker.wait(timeout=90) == 0


@pytest.mark.thorough
def test_only_the_named_domains_are_worked_on(shop, dsn):
    with a_worker(shop, dsn, "--domain", "bank") as worker:
        (line,) = read_until(worker, started)
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=90)

    assert json.loads(line)["domain"] == "bank"
    assert "shop" not in out


@pytest.mark.thorough
def test_logs_for_people_go_to_standard_error(shop, dsn):
    env = os.environ | {"DATABASE_URL": dsn}
    with program("worker", "handlers_of_a_shop:registry", cwd=shop, env=env) as worker:
        assert worker.stderr is not None
        first = worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=90)

    assert "INFO    started domain=bank worker=" in first
    assert out == ""


@pytest.mark.parametrize(
    ("options", "code"),
    [
        thorough(["handlers_of_a_shop:registry", "--domain", "nowhere"], 2),
        thorough(["handlers_of_a_shop:nothing"], 2),
        (["handlers_of_a_shop:registry", "--dsn", "postgresql://127.0.0.1:1/x"], 3),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(shop, dsn, options, code):
    with program("worker", *options, cwd=shop, env={"DATABASE_URL": dsn}) as worker:
        _, err = worker.communicate(timeout=90)

    assert worker.returncode == code
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@pytest.mark.thorough
def test_a_database_without_schema_is_code_4(shop, empty_dsn):
    with a_worker(shop, empty_dsn) as worker:
        out, _ = worker.communicate(timeout=90)

    assert worker.returncode == 4
    assert json.loads(out)["error"]["type"] == "SchemaMissingError"


@pytest.mark.thorough
def test_a_worker_whose_database_is_gone_ends_all_the_same(shop, restartable_server, restartable_dsn):
    with a_worker(shop, restartable_dsn, "--grace", "0") as worker:
        read_until(worker, started)
        restartable_server.interrupt("kill")
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=90)

    assert worker.returncode is not None


@pytest.mark.thorough
def test_stats_are_watched_until_ctrl_c(shop, dsn):
    send(dsn, shop, "Quick")
    with program("stats", "--watch", "--interval", "0.1", "--json", env={"DATABASE_URL": dsn}) as watching:
        lines = [read_until(watching, bool)[0] for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=90)

    assert watching.returncode == 0
    assert [json.loads(line)["domains"][0]["domain"] for line in lines] == ["shop", "shop"]


@pytest.mark.thorough
def test_it_prunes_if_it_is_told_so_beside_another_that_was_told_so_too(shop, dsn):
    key = send(dsn, shop, "Quick")
    pruning = ("--prune", "0s", "--prune-every", "0s")
    with a_worker(shop, dsn, *pruning) as one, a_worker(shop, dsn, *pruning) as other:
        read_until(one, started)
        read_until(other, started)
        with psycopg.connect(dsn, autocommit=True) as conn:

            def is_pruned():
                asked = "select pruned_at is not null from commandbus.command where command_id = %s"
                return conn.execute(asked, [key]).fetchone() == (True,)

            eventually_sync(is_pruned)
        for worker in (one, other):
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=90)

    assert (one.returncode, other.returncode) == (0, 0)


def test_options_of_pruning_need_the_first(dsn):
    assert run("worker", "a:b", "--prune-audit", "1d", "--dsn", dsn).code == 2
    assert run("worker", "a:b", "--prune", "soon", "--dsn", dsn).code == 2
