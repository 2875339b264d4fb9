"""Reading the README and the pages of docs/, and running what they show.

A fenced block is run when its info string says how:

- ``python``: a part of the page's program. The parts run in order, in one namespace, and may await. They are given
  `pool` (open), `bus`, `dsn` and what they import.
- ``python title="shop.py"``: a file, written to the page's folder.
- ``python from="examples/bank/domain.py"``: what stands in that file; dots, and two empty lines, stand for what is left
  out. It is not run here, but by the tests of the file.
- ``bash run``: run in the page's folder with DATABASE_URL set; every command must succeed.
- ``bash background``: started there, and stopped with SIGTERM at the end of the page; it must exit with 0.
- ``sql run``: executed.
- ``text output``: what the ``bash run`` before it printed; ``…`` stands for anything, and the width of
  columns does not count.

A comment ``<!-- python ... -->`` runs like a ``python`` block and is not shown to readers: it waits for what the page
says will happen, and asserts it. `eventually` is there for that, and `page`, the page's text. All other blocks are only
read.
"""

import ast
import asyncio
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainstay import CommandBus, Worker
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"^```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<text>.*?)^```$|^<!-- python\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
TITLE = re.compile(r'title="([^"]+)"')
SOURCE = re.compile(r'from="([^"]+)"')
SHELL = {"bash", "console", "sh"}
SEPARATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, or a hidden one, and the line of the page that its first line is."""

    language: str
    options: str
    text: str
    line: int

    @property
    def title(self) -> str | None:
        found = TITLE.search(self.options)
        return found.group(1) if found else None

    @property
    def source(self) -> str | None:
        found = SOURCE.search(self.options)
        return found.group(1) if found else None

    @property
    def excerpts(self) -> list[str]:
        """The text, cut where something is left out."""
        parts = re.split(r"^ *\.\.\.$|\n\n\n", self.text, flags=re.MULTILINE)
        return [part.strip("\n") for part in parts if part.strip()]

    def has(self, option: str) -> bool:
        return option in self.options.split()


def pages() -> list[Path]:
    """The README and every page of docs/ but the decisions, which show code that is gone."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(path for path in found if "decisions" not in path.parts)]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for match in BLOCK.finditer(text):
        hidden = match["hidden"]
        body = match["text"] if hidden is None else hidden
        line = text.count("\n", 0, match.start()) + 2
        yield Block(match["language"] or "python", match["options"] or "", body, line)


def prose(text: str) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", text)


def commands_of(text: str, program: str) -> Iterator[list[str]]:
    """The arguments of every call of a program on a page, in shell blocks and in `inline code`."""
    lines = [line.removeprefix("$ ") for block in blocks(text) if block.language in SHELL for line in joined(block)]
    lines += [code for code in re.findall(r"`([^`\n]+)`", prose(text)) if code.startswith(f"{program} ")]
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = [*lexer, ";"]
        while words:
            end = next(index for index, word in enumerate(words) if word in SEPARATORS)
            call = [word for word in words[:end] if "=" not in word or word.startswith("-")]
            if call and call[0] == program:
                yield call[1:]
            words = words[end + 1 :]


def joined(block: Block) -> list[str]:
    """The lines of a shell block, continued ones joined."""
    return block.text.replace("\\\n", " ").splitlines()


def squeezed(text: str) -> str:
    """A text whose columns may be of any width."""
    return "\n".join(re.sub(r"\s+", " ", re.sub(r"─+", "─", line)).strip() for line in text.strip().splitlines())


class PageRun:
    """Runs one page from top to bottom.

    Args:
        page: Which.
        folder: Where its files go and its commands run.
        pool: Given to its program.
        dsn: Of the same database.
        env: More environment variables for its commands.
    """

    def __init__(self, page: Path, folder: Path, pool: Any, dsn: str, env: dict[str, str]) -> None:
        self._page = page
        self._folder = folder
        self._pool = pool
        self._bus = CommandBus(pool)
        self._names: dict[str, Any] = {
            "__name__": "page",
            "pool": pool,
            "bus": self._bus,
            "dsn": dsn,
            "eventually": eventually,
            "page": page.read_text(encoding="utf-8"),
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._env = os.environ | env | {"DATABASE_URL": dsn, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
        self._env["PYTHONPATH"] = str(ROOT)  # for `python -m examples.bank`, which readers run in the checkout
        self._printed = ""
        self._background: list[tuple[Block, asyncio.subprocess.Process]] = []

    async def run(self) -> None:
        """Run every block that says how.

        Raises:
            AssertionError: A command failed, or printed something else.
            Exception: Whatever the page's program raised.
        """
        try:
            for block in blocks(self._page.read_text(encoding="utf-8")):
                await self._run(block)
        finally:
            await self._end()

    async def _run(self, block: Block) -> None:
        match block.language:
            case "python" if block.title:
                (self._folder / block.title).write_text(block.text, encoding="utf-8")
            case "python" if not block.source:
                await self._python(block)
            case "bash" if block.has("run"):
                self._printed = await self._bash(block)
            case "bash" if block.has("background"):
                process = await self._start(f"exec {block.text.strip()}")
                self._background.append((block, process))
            case "sql" if block.has("run"):
                async with self._pool.connection() as conn:
                    await conn.execute(block.text)
            case "text" if block.has("output"):
                pattern = r".*?".join(re.escape(part) for part in squeezed(block.text).split("…"))
                assert re.fullmatch(pattern, squeezed(self._printed), re.DOTALL), self._said(block, self._printed)

    async def _python(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, str(self._page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, self._names)
        if inspect.isawaitable(result):
            await result

    async def _bash(self, block: Block) -> str:
        process = await self._start(f"set -e\n{block.text}")
        printed, _ = await process.communicate()
        text = printed.decode()
        assert process.returncode == 0, self._said(block, text)
        return text

    async def _start(self, script: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "bash", "-c", script, cwd=self._folder, env=self._env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )

    async def _end(self) -> None:
        for value in list(self._names.values()):
            if isinstance(value, Worker):
                await value.stop()
        await self._bus.close()
        for block, process in self._background:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            printed, _ = await process.communicate()
            assert process.returncode == 0, self._said(block, printed.decode())

    def _said(self, block: Block, printed: str) -> str:
        return f"{self._page.relative_to(ROOT)}, line {block.line}:\n{printed}"
