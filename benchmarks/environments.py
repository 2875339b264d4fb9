"""A virtual environment for each peer, because two of them share an import name and all of them share a driver.

Environments are kept in ``MAINSTAY_BENCH_CACHE``, else ``~/.cache/mainstay-bench``, under a name made from what they
hold, so that a changed pin makes a new one and the next run costs nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.line_up import HERE, Peer


class NotInstalledError(Exception):
    """A peer's environment could not be made, for instance without a network."""


def cache_directory() -> Path:
    """Where environments are kept."""
    if named := os.environ.get("MAINSTAY_BENCH_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainstay-bench"


def python_for(peer: Peer) -> Path:
    """The interpreter that runs this peer, its environment made if need be.

    Raises:
        NotInstalledError: The environment could not be made.
    """
    if not peer.requirements:
        return Path(sys.executable)
    holds = "\n".join((sys.version, *sorted(peer.requirements)))
    folder = cache_directory() / f"{peer.key}-{hashlib.sha256(holds.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    done = folder / ".complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in _making(folder, python, peer.requirements):
            _run(command)
        done.touch()
    return python


def _making(folder: Path, python: Path, requirements: tuple[str, ...]) -> list[list[str]]:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *requirements],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotInstalledError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NotInstalledError(f"{' '.join(command)}\n{done.stderr.strip()}")


def command_for(peer: Peer, python: Path, request: str) -> list[str]:
    """The command line that has a peer answer a request."""
    alone = ["-E", "-s"] if peer.requirements else []  # our own door must not stand in for the peer's package
    return [str(python), *alone, str(peer.path), request]


def environment_for(peer: Peer) -> dict[str, str]:
    """Environment variables for a peer's process; those in this interpreter also see an uninstalled ``src``."""
    variables = dict(os.environ, PYTHONDONTWRITEBYTECODE="", PYTHONWARNINGS="ignore")
    if not peer.requirements:
        variables["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(HERE.parent / "src"), os.environ.get("PYTHONPATH")))
        )
    return variables
