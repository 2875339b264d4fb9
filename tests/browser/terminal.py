"""The pictures of the command line that the documentation shows: what a terminal shows of the program itself."""

import os
import pty
import subprocess
from pathlib import Path
from shlex import join

from rich.text import Text

from mainstay.operations.cli.picture import picture
from tests.support.cli import PROGRAM

WIDTH = 118


def typed(dsn: str, *arguments: str) -> Text:
    """A prompt, and what the program answers at a terminal, in its colours."""
    ours, theirs = pty.openpty()
    environ = os.environ | {"DATABASE_URL": dsn, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    with subprocess.Popen([*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if process.returncode:
        raise RuntimeError(f"mainstay {join(arguments)} ended with {process.returncode}: {said.decode()}")
    shown = Text.from_ansi(said.decode().replace("\r\n", "\n").rstrip())
    return Text.assemble((f"$ mainstay {join(arguments)}\n", "bold"), shown)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # as Linux says that nobody holds the other end any more
        return b""


def take(target: Path, title: str, *shown: Text) -> None:
    """Write a picture of a terminal in which all this was typed."""
    target.write_text(picture(title, *shown, width=WIDTH), encoding="utf-8")
    print(f"{target.name}: {target.stat().st_size:,} bytes")
