"""Write the pages of docs/reference from what the code says of itself.

cli.md comes from the commands' help, sql-functions.md from the heads of the function files, settings.md from dataclass
fields and docstrings, errors.md from the error tree.

Usage: reference.py [--check], from the repository's root. With --check nothing is written, and the exit code is 1 if a
page is not current.
"""

import enum
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import typer

from mainstay import CommandBus, Config, Mainstay, RetryPolicy, Worker, errors, handler
from mainstay.errors import MainstayError, sqlstates
from mainstay.operations.cli.exits import EXIT_CODES_HELP, Exit, code_of
from mainstay.operations.cli.program import build
from mainstay.storage.postgres.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
FUNCTIONS = SRC / "mainstay/storage/postgres/schema/functions"
FOLDER = ROOT / "docs/reference"
WRITTEN = "<!-- Written by scripts/reference.py; do not edit. -->"

#: What users construct or call with settings.
CALLS: tuple[Callable[..., Any], ...] = (
    CommandBus,
    CommandBus.send,
    handler,
    Worker,
    Worker.run,
    Worker.stop,
    Mainstay.connect,
    EmbeddedServer,
)

#: Environment variables that no dataclass field and no option stands for.
VARIABLES = {
    "MAINSTAY_DATA_DIR": "Where the embedded server keeps its data.",
    "MAINSTAY_CACHE_DIR": "Where the embedded server's programs are copied to if its account cannot run them in place.",
    "MAINSTAY_EMBEDDED_USER": "The account that runs the embedded server when root starts it.",
    "MAINSTAY_OPERATOR": "Who decides, for `mainstay tsq` without `--operator`.",
    "MAINSTAY_DEBUG": "If set, the command line prints the traceback of an error.",
    "MAINSTAY_TEST_DSN": "The server that mainstay's own tests use instead of the embedded one.",
    "MAINSTAY_TEST_PG15_DSN": "The PostgreSQL 15 that mainstay's own tests use as well.",
}

_NOBODY = "00000000-0000-0000-0000-000000000000"
#: What the details of an error look like that are not domain/id.
_DETAILS = {"MS006": f"orders/{_NOBODY}/{_NOBODY}/report", "MS022": "2", "MS023": "1/2", "MS024": _NOBODY} | {
    "MS101": '{"stream": "Order/1", "expected": 1, "actual": 2}',
    "MS102": '{"stream": "Order/1", "event_ids": []}',
    "MS103": '{"stream": "Order/1"}',
    "MS104": '{"stream": "Order/1"}',
    "MS105": '{"position": 1}',
    "MS106": '{"stream": "Order/1"}',
}


def page(title: str, *parts: str) -> str:
    """A page of Markdown from its parts, which are separated by empty lines."""
    return "\n\n".join([f"# {title}", WRITTEN, *(part.strip() for part in parts if part.strip())]) + "\n"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; nothing if it has no rows."""
    if not rows:
        return ""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """A text in the type of code."""
    return f"`{text}`"


def one_line(text: str) -> str:
    """A text without its line breaks, names in the type of code."""
    joined = " ".join(text.split())
    return re.sub(r"``([^`]+)``", r"`\1`", joined)


def described(documented: Any) -> dict[str, str]:
    """What a docstring says of each argument or attribute."""
    found: dict[str, str] = {}
    doc = inspect.getdoc(documented) or ""
    for section in re.finditer(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n(?=[ ]))*)", doc, re.MULTILINE):
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section.group(1), re.MULTILINE):
            found[name] = one_line(text)
    return found


def summary(documented: Any) -> str:
    """The first paragraph of a docstring."""
    return one_line((inspect.getdoc(documented) or "").split("\n\n")[0])


# --- cli.md -----------------------------------------------------------------------------------------------------------


def cli() -> str:
    """The page of the command line."""
    root: Any = typer.main.get_command(build())
    intro = (
        f"{root.help} Each command shows its part with `--help`.\n\n"
        f"{EXIT_CODES_HELP}\n\n"
        "With `--json` a command prints one JSON document on standard output and nothing else there; an error is "
        '`{"error": {"type", "message", "exit_code"}}`. Without `--dsn`, the database is the one that `DATABASE_URL` '
        "names. `embedded`, or `embedded:NAME` for another database than `mainstay`, stands for a PostgreSQL 18 of "
        'your own (`pip install "mainstay[embedded]"`), which runs for as long as somebody uses it.'
    )
    parts = [intro]
    for path, command in leaves(root, "mainstay"):
        parts += [f"## {path}", usage(path, command), one_paragraph_each(command.help or ""), parameters(command)]
    return page("Command line", *parts)


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with how it is called."""
    for name, sub in command.commands.items():
        if getattr(sub, "commands", None):
            yield from leaves(sub, f"{path} {name}")
        else:
            yield f"{path} {name}", sub


def usage(path: str, command: Any) -> str:
    """How a command is called, with its arguments."""
    arguments = [each.metavar or each.name.upper() for each in command.params if each.param_type_name == "argument"]
    return f"```text\n{' '.join([path, *arguments, '[OPTIONS]'])}\n```"


def one_paragraph_each(text: str) -> str:
    """Help text with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def parameters(command: Any) -> str:
    """The options and arguments of a command."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    rows = []
    for each in command.params:
        if each.hidden or each.name == "help":
            continue
        rows.append((spelled(each, hints.get(each.name)), help_of(each, hints.get(each.name))))
    return table(("option", "meaning"), rows)


def spelled(parameter: Any, hint: Any) -> str:
    """How a parameter is written, with a word for its value."""
    if parameter.param_type_name == "argument":
        return code(parameter.metavar or parameter.name.upper())
    names = [*parameter.opts, *parameter.secondary_opts]
    longest_first = sorted(names, key=lambda name: not name.startswith("--"))
    value = "" if parameter.is_flag else " " + (parameter.metavar or word_for(hint))
    return code(", ".join(longest_first) + value)


def word_for(hint: Any) -> str:
    """A word for the values of a type."""
    kinds = [each for each in (typing.get_args(hint) or (hint,)) if each is not type(None)]
    if inspect.isclass(kinds[0]) and issubclass(kinds[0], enum.Enum):
        return "STATUS"
    return {int: "N", float: "NUMBER", Path: "PATH"}.get(kinds[0], "TEXT")


def help_of(parameter: Any, hint: Any) -> str:
    """What a parameter means, what it is by default, which variable may stand for it."""
    parts = [parameter.help or ""]
    kinds = [kind for kind in typing.get_args(hint) if inspect.isclass(kind) and issubclass(kind, enum.Enum)]
    parts += ["One of " + ", ".join(code(member.value) for member in kind) + "." for kind in kinds]
    if isinstance(parameter.show_default, str):
        parts.append(f"Default: {parameter.show_default}.")
    elif parameter.show_default and parameter.default not in (None, False):
        if parameter.secondary_opts:
            parts.append(f"Default: {code(parameter.opts[0])}.")
        else:
            parts.append(f"Default: {code(parameter.default)}.")
    if parameter.envvar:
        named = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
        parts.append(f"Else {' or '.join(code(name) for name in named)}.")
    return " ".join(part for part in parts if part)


# --- sql-functions.md -------------------------------------------------------------------------------------------------


def sql_functions() -> str:
    """The page of the database functions."""
    intro = (
        "Everything that mainstay decides is decided by these functions, so that every client decides alike. They live "
        "in the schemas `commandbus` and `eventsource`, one in each file below "
        "[`schema/functions`](../../src/mainstay/storage/postgres/schema/functions). `send` may be called by any "
        "program that can speak SQL; the others are called by mainstay, and their signatures may change between "
        "releases. Each says what it locks and in which order, and what a crash leaves."
    )
    parts = [intro]
    for path in sorted(FUNCTIONS.rglob("*.sql")):
        head, _, body = path.read_text(encoding="utf-8").partition("create or replace ")
        signature = body.split("\nlanguage", 1)[0].removeprefix("function ")
        comment = [line.removeprefix("--").strip() for line in head.strip().splitlines()]
        parts += [f"## {path.stem}", f"```sql\n{signature}\n```", paragraphs(comment)]
    return page("Database functions", *parts)


def paragraphs(lines: list[str]) -> str:
    """Lines of a comment, joined where a sentence goes on."""
    text = "\n".join(lines)
    joined = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    return re.sub(r"(?<![\w`])(p_\w+|vt|STALE_REFUSED|LEASE_EXPIRED)\b", r"`\1`", joined)


# --- settings.md ------------------------------------------------------------------------------------------------------


def settings() -> str:
    """The page of settings: the environment, and the arguments of the classes that users construct."""
    intro = (
        "Durations are seconds or a `timedelta`. A value that is out of range raises `ConfigurationError`, which names "
        "it. Nothing is read from the environment unless you call `Config.from_env()` or use the command line."
    )
    parts = [intro, "## Environment", environment(), "## RetryPolicy", of_dataclass(RetryPolicy)]
    for function in CALLS:
        parts += [f"## {function.__qualname__}", of_function(function)]
    return page("Settings", *parts)


def environment() -> str:
    """The environment variables, with the field of `Config` that each stands for."""
    told = described(Config)
    rows = []
    for field in fields(Config):
        variable = field.name.upper()
        read = Config.from_env({"DATABASE_URL": "postgresql:///app", variable: "7"})
        if str(getattr(read, field.name)).removesuffix(".0") != "7":
            raise RuntimeError(f"{variable} does not set Config.{field.name}")
        default = "required" if field.default is MISSING else code(field.default)
        rows.append((code(variable), code(f"Config.{field.name}"), default, told[field.name]))
    used = {
        name for path in SRC.rglob("*.py") for name in re.findall(r"\bMAINSTAY_[A-Z]+(?:_[A-Z]+)*\b", path.read_text())
    }
    if unknown := used - set(VARIABLES):
        raise RuntimeError(f"VARIABLES says nothing of {', '.join(sorted(unknown))}")
    rows += [(code(name), "", "", text) for name, text in VARIABLES.items()]
    return table(("variable", "field", "default", "meaning"), rows)


def of_dataclass(kind: Any) -> str:
    """The fields of a dataclass."""
    told = described(kind)
    rows = [(code(each.name), code(each.default), told[each.name]) for each in fields(kind)]
    return f"{summary(kind)}\n\n" + table(("field", "default", "meaning"), rows)


def of_function(function: Callable[..., Any]) -> str:
    """The parameters of a function or a constructor."""
    told = described(function)
    rows = []
    for each in inspect.signature(function).parameters.values():
        if each.name in ("self", "cls") or each.name not in told:
            continue
        default = "required" if each.default is each.empty else code(each.default)
        rows.append((code(each.name), default, told[each.name]))
    return f"{summary(function)}\n\n" + table(("argument", "default", "meaning"), rows)


# --- errors.md --------------------------------------------------------------------------------------------------------


def error_page() -> str:
    """The page of errors."""
    tree = textwrap.dedent((errors.__doc__ or "").split("The tree::", 1)[1].split("\n\nErrors carry", 1)[0]).strip("\n")
    rows = []
    for kind in family(MainstayError):
        made = kind.__init__ if inspect.isfunction(kind.__init__) else None
        own = [name for name in inspect.signature(made).parameters if name != "self"] if made else []
        attributes = ["code", "error_message", "details"] if "code" in own else own
        exit_code = code_of(kind.__new__(kind))
        rows.append(
            (
                f"`{kind.__name__}`",
                summary(kind),
                ", ".join(code(name) for name in attributes),
                "" if exit_code is Exit.FOUND else str(int(exit_code)),
            )
        )
    intro = (
        "Every error that mainstay raises on purpose derives from `MainstayError`. What was wrong is in attributes; no "
        "message has to be parsed. Import them from `mainstay`, or all of them from `mainstay.errors`."
    )
    states = (
        "The database functions raise these codes; `mainstay.errors.error_for_sqlstate` turns them into the tree. "
        "DETAIL holds what the error is about."
    )
    known = sorted(sqlstates.SQLSTATES)
    return page(
        "Errors",
        intro,
        f"```text\n{tree}\n```",
        table(("error", "meaning", "attributes", "exit code of `mainstay`"), rows),
        "## SQLSTATEs",
        states,
        table(("SQLSTATE", "error"), [(code(state), code(type(sample(state)).__name__)) for state in known]),
    )


def sample(state: str) -> MainstayError:
    """The error that stands for an SQLSTATE."""
    found = errors.error_for_sqlstate(state, "", _DETAILS.get(state, f"orders/{_NOBODY}"))
    if found is None:
        raise RuntimeError(f"no error for SQLSTATE {state}")
    return found


def family(kind: type[MainstayError]) -> Iterator[type[MainstayError]]:
    """A class and all that derive from it in `mainstay.errors`, in the order of the tree; without the hidden ones."""
    if not kind.__name__.startswith("_"):
        yield kind
    for sub in kind.__subclasses__():
        if sub.__module__.startswith(f"{errors.__name__}."):
            yield from family(sub)


# --- writing ----------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli,
    "sql-functions.md": sql_functions,
    "settings.md": settings,
    "errors.md": error_page,
}


def main() -> int:
    """Write or check; the exit code."""
    stale = []
    for name, write in PAGES.items():
        path, text = FOLDER / name, write()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in sys.argv[1:]:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        print(f"not current: {', '.join(stale)}; run python scripts/reference.py")
        return 1
    print(f"written: {', '.join(stale)}" if stale else "all current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
