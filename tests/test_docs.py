"""The pages are true: code runs, commands exist, links lead somewhere, and the generated pages are current.

How a block says that it is to be run is written in `tests/support/pages.py`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mainstay.operations.cli.program import build
from tests.support.pages import BLOCK, ROOT, PageRun, blocks, commands_of, pages

LINK = re.compile(r"!?\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
RUNNABLE = re.compile(r"^```python(?! title| from)|^```bash (?:run|background)|^<!-- python", re.MULTILINE)
#: British forms; the pages are written in American English, as the names of statuses are.
BRITISH = re.compile(
    r"\b(?:cancell(?:ed|ing)|behaviours?|colou?red|colours?|licence|organis\w+|recognis\w+)\b", re.IGNORECASE
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def with_code() -> list[Path]:
    return [page for page in pages() if RUNNABLE.search(page.read_text(encoding="utf-8"))]


# --- code and commands ------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("page", with_code(), ids=named)
async def test_what_a_page_shows_runs(page: Path, tmp_path: Path, server_directory: Path, pool: Any, dsn: str) -> None:
    with chdir(tmp_path):  # where the files of its programs go
        await PageRun(page, tmp_path, pool, dsn, {"MAINSTAY_DATA_DIR": str(server_directory / "data")}).run()


def test_every_file_that_a_page_shows_is_run_or_imported() -> None:
    unused = []
    for page in pages():
        found = list(blocks(page.read_text(encoding="utf-8")))
        files = {block.title: block.text for block in found if block.title}
        run = " ".join(block.text for block in found if block.has("run") or block.has("background"))
        imports = " ".join(re.findall(r"^(?:from|import) (\w+)", "\n".join(files.values()), re.MULTILINE))
        used = {"conftest", *re.findall(r"\w+", f"{run} {imports}")}
        unused += [f"{named(page)}: {title}" for title in files if Path(title).stem not in used]

    assert unused == []


def test_what_a_page_shows_of_a_file_stands_in_it() -> None:
    shown = [(page, block) for page in pages() for block in blocks(page.read_text(encoding="utf-8")) if block.source]
    wrong = [
        f"{named(page)}, line {block.line}: not in {block.source}:\n{part}"
        for page, block in shown
        for part in block.excerpts
        if f"\n{part}\n" not in (ROOT / str(block.source)).read_text(encoding="utf-8")
    ]

    assert shown
    assert wrong == []


@cache
def program() -> Any:
    """All commands of `mainstay`."""
    import typer  # noqa: PLC0415  # only this check needs it

    return typer.main.get_command(build())


def unknown_parts(words: list[str]) -> Iterator[str]:
    """What is wrong with a call of `mainstay`: a command or an option that does not exist."""
    command = program()
    rest = list(words)
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            yield f"no command {name!r}"
            return
        command = command.commands[name]
    known = {"--help"}.union(*(each.opts + each.secondary_opts for each in command.params))
    for word in rest:
        if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known:
            yield f"{command.name}: no option {word!r}"


def test_every_call_of_mainstay_on_a_page_exists() -> None:
    wrong = [
        f"{named(page)}: mainstay {' '.join(words)}: {problem}"
        for page in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        for words in commands_of(page.read_text(encoding="utf-8"), "mainstay")
        for problem in unknown_parts(words)
    ]

    assert wrong == []


@pytest.mark.parametrize("call", ["tsq shout", "tsq retry --loud", "stat", "commands list -z"])
def test_a_call_that_does_not_exist_is_seen(call: str) -> None:
    assert list(unknown_parts(call.split()))


def test_commands_are_found_in_shell_blocks_and_in_inline_code() -> None:
    page = "Run `mainstay fsck`.\n\n```bash\nA=1 mainstay stats --json | mainstay \\\n  tsq list # all\n```\n"

    assert list(commands_of(page, "mainstay")) == [["stats", "--json"], ["tsq", "list"], ["fsck"]]


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in HEADING.findall(BLOCK.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> Iterator[str]:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            yield f"{named(page)}: {match['target']} does not exist"
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            yield f"{named(page)}: {target} has no heading #{anchor}"
        test = re.fullmatch(r"`(test_\w+)`", match["text"])
        if test and path.is_file() and f"def {test.group(1)}(" not in path.read_text(encoding="utf-8"):
            yield f"{named(page)}: {target} has no {test.group(1)}"


@pytest.mark.parametrize("page", pages(), ids=named)
def test_links_lead_somewhere_and_named_tests_exist(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {
            (page.parent / match["target"].partition("#")[0]).resolve() for match in LINK.finditer(page.read_text())
        }
        waiting += [path for path in targets if path.suffix == ".md" and path.is_file() and path not in reached]

    assert [named(page) for page in pages() if page not in reached] == []


# --- words ------------------------------------------------------------------------------------------------------------


def test_pages_are_written_in_one_spelling() -> None:
    written = (page for page in pages() if "reference" not in page.parts and page.name != "compatibility.md")

    assert {
        named(page): found for page in written if (found := BRITISH.findall(page.read_text(encoding="utf-8")))
    } == {}


# --- generated pages --------------------------------------------------------------------------------------------------


def test_the_reference_is_current() -> None:
    command = [sys.executable, "scripts/reference.py", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
