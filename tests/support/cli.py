"""Running the command line: in this process, or as the program that users run."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from mainstay.operations.cli import main

_NOT_PASSED_ON = ("DATABASE_URL", "MAINSTAY_OPERATOR", "COLUMNS")
PROGRAM = (sys.executable, "-m", "mainstay.operations.cli")


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


def run(*arguments: object, stdin: bytes | str = b"", at_terminal: bool = False, **environ: str) -> Result:
    """Run a command in this process, which must not be inside an event loop."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    keyboard = (Terminal if at_terminal else io.StringIO)(given.decode("utf-8", "replace"))
    keyboard.buffer = io.BytesIO(given)
    out, err = io.StringIO(), io.StringIO()
    clean = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    code = 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "stdin", keyboard),
        patch.dict(os.environ, clean | environ, clear=True),
    ):
        try:
            main([str(each) for each in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


@contextmanager
def program(*arguments: object, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """The program as a process of its own, killed at the end if it still runs."""
    environ = os.environ | options.pop("env", {})
    command = [*PROGRAM, *(str(each) for each in arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(command, text=True, env=environ, preexec_fn=_hear_ctrl_c, **pipes) as process:  # noqa: PLW1509 - sets one signal, in a process without threads of ours
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _hear_ctrl_c() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def read_until(process: "subprocess.Popen[str]", condition: Callable[[str], bool]) -> list[str]:
    """Lines of a process's standard output up to the first that meets a condition.

    Raises:
        AssertionError: It ended without one.
    """
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if condition(line):
            return lines
    raise AssertionError(f"the process ended without it: {''.join(lines)}")
