"""Several processes share an embedded server, and every one of the processes involved may die."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from mainstay.storage.postgres.embedded import EmbeddedServer, supervisor
from mainstay.storage.postgres.embedded.process import Postmaster
from tests.support.embedded import OtherProcess, another, answers, ended, owns_no_supervisor, remember, remembered
from tests.support.waiting import eventually_sync

# --- sharing ----------------------------------------------------------------------------------------------------------


def test_the_last_of_two_processes_stops_the_server(data_dir: Path) -> None:
    with another(data_dir) as first, another(data_dir) as second:
        one, two = first.told(), second.told()

        assert one == two
        first.leave()
        assert answers(one["dsn"])
        second.leave()
        assert ended(one["pid"])


@pytest.mark.thorough
def test_many_processes_that_start_at_once_share_one_server(new_data_dir: Path) -> None:
    processes = [OtherProcess(new_data_dir) for _ in range(3)]
    try:
        told = [process.told() for process in processes]

        assert len({each["pid"] for each in told}) == 1
    finally:
        for process in processes:
            process.leave()
    assert ended(told[0]["pid"])


def test_two_instances_in_one_process_share_the_server(shared: EmbeddedServer) -> None:
    with EmbeddedServer(shared.data_dir) as other:
        assert other.pid == shared.pid

    assert answers(shared.dsn())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_neither_uses_nor_stops_the_server(shared: EmbeddedServer) -> None:
    dsn = shared.dsn()
    child = os.fork()
    if child == 0:
        shared.stop()
        os._exit(3 if shared.running else 0)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert answers(dsn)


# --- dying ------------------------------------------------------------------------------------------------------------


def test_the_server_stops_when_its_only_user_is_killed(data_dir: Path) -> None:
    with another(data_dir) as user:
        told = user.told()
        remember(told["dsn"], "a")

        user.kill()

        eventually_sync(lambda: ended(told["pid"]))
    assert not (data_dir / "pgdata" / "postmaster.pid").exists()
    with EmbeddedServer(data_dir, durable=False) as server:
        assert remembered(server.dsn()) == ["a"]


def test_the_server_stays_when_one_of_two_users_is_killed(data_dir: Path, server: EmbeddedServer) -> None:
    with another(data_dir) as user:
        user.told()

        user.kill()

    assert answers(server.dsn())


def test_a_killed_server_is_started_again(server: EmbeddedServer) -> None:
    dsn = server.dsn()
    remember(dsn, "a")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: ended(pid))

    server.start()

    assert server.pid != pid
    assert answers(dsn)


def test_without_its_supervisor_the_server_runs_on_and_the_last_user_stops_it(
    server: EmbeddedServer, data_dir: Path
) -> None:
    assert server.pid is not None
    pid = server.pid
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    eventually_sync(lambda: owns_no_supervisor(data_dir))

    with EmbeddedServer(data_dir) as other:
        assert other.pid == pid
    assert answers(server.dsn())
    with psycopg.connect(server.dsn()) as conn:
        sockets = Path(conn.info.host)
    server.stop()

    assert ended(pid)
    assert not sockets.exists()


def test_a_server_whose_data_directory_is_gone_can_be_stopped(server: EmbeddedServer, data_dir: Path) -> None:
    pid = server.pid
    assert pid is not None
    shutil.rmtree(data_dir)

    server.stop()

    eventually_sync(lambda: ended(pid))


def test_sigterm_to_the_supervisor_is_a_clean_stop(server: EmbeddedServer, data_dir: Path) -> None:
    assert server.pid is not None
    parent = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(parent, signal.SIGTERM)

    eventually_sync(lambda: owns_no_supervisor(data_dir))
    assert "database system is shut down" in server.log_tail()
    assert Postmaster.read(data_dir / "pgdata") is None


def test_a_server_that_nobody_uses_is_stopped_though_its_starter_was_in_the_background(tmp_path: Path) -> None:
    """A shell's background ignores Ctrl-C, and so would a server that is told to stop before it has handlers."""
    with (tmp_path / "users.lock").open("w") as users:
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                supervisor.__file__,
                str(users.fileno()),
                str(tmp_path),
                "-",
                "-",
                "sleep",
                "300",
            ],
            pass_fds=(users.fileno(),),
            stdout=subprocess.PIPE,  # which it holds open until it ends
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            timeout=30,
            check=True,
        )

    assert done.stdout == b""


@pytest.mark.thorough
def test_a_starter_killed_at_any_moment_is_no_obstacle(new_data_dir: Path) -> None:
    def initdb_is_busy() -> bool:
        return any(new_data_dir.glob("init-*/pgdata/*"))

    for moment in (new_data_dir.exists, initdb_is_busy, (new_data_dir / "pgdata").exists):
        with another(new_data_dir) as starter:
            eventually_sync(moment)
            starter.kill()

    with EmbeddedServer(new_data_dir, durable=False) as server:
        assert answers(server.dsn())
    assert not list(new_data_dir.glob("init-*"))
