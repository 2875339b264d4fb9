"""How a command ends: its exit code, and the one sentence that says what went wrong."""

import os
import re
import sys
from enum import IntEnum
from typing import Any, Final

import typer

from mainstay import errors
from mainstay.errors import (
    CommandError,
    ConfigurationError,
    EmbeddedServerError,
    EventError,
    HandlerError,
    InvalidInputError,
    MainstayError,
    PermissionDeniedError,
    PgmqMissingError,
    QueueNotFoundError,
    SchemaError,
    StorageUnavailableError,
)

DEBUG_VARIABLE = "MAINSTAY_DEBUG"


_NO_ID: Final = re.compile(r"Input should be a valid UUID[^\n]*")
"""How typer says it."""


class Exit(IntEnum):
    """Exit codes; README and ``mainstay --help`` list them."""

    OK = 0
    FOUND = 1
    USAGE = 2
    UNREACHABLE = 3
    SCHEMA = 4
    REFUSED = 5
    INTERRUPTED = 130


EXIT_CODES_HELP: Final = (
    "Exit codes: 0 done; 1 something was found or failed; 2 wrong arguments or input; "
    "3 the database cannot be reached; 4 its schema is not ready (run `mainstay schema upgrade`); "
    "5 not found or not allowed; 130 interrupted."
)

_CODES: Final[tuple[tuple[type[MainstayError], Exit], ...]] = (
    (StorageUnavailableError, Exit.UNREACHABLE),
    (EmbeddedServerError, Exit.UNREACHABLE),
    (SchemaError, Exit.SCHEMA),
    (PgmqMissingError, Exit.SCHEMA),
    (PermissionDeniedError, Exit.REFUSED),
    (QueueNotFoundError, Exit.REFUSED),
    (CommandError, Exit.REFUSED),
    (EventError, Exit.REFUSED),
    (ConfigurationError, Exit.USAGE),
    (InvalidInputError, Exit.USAGE),
    (HandlerError, Exit.USAGE),
)


def code_of(error: BaseException) -> Exit:
    """The exit code for an error."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Exit.INTERRUPTED
    if _is_usage_error(error):
        return Exit.USAGE
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FOUND)


def sentence_of(error: BaseException) -> str:
    """What went wrong, for people: one line, no traceback."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted"
    if _is_usage_error(error):
        return _usage(error)
    text = " ".join(str(error).split())
    if isinstance(error, MainstayError):
        return text
    return f"unexpected {type(error).__name__}: {text or 'no message'} (set {DEBUG_VARIABLE}=1 for the traceback)"


def report(error: BaseException, *, as_json: bool) -> Exit:
    """Print an error and return the exit code.

    Args:
        error: What ended the command.
        as_json: Print it as a JSON document on standard output instead of a sentence on standard error.
    """
    code, sentence = code_of(error), sentence_of(error)
    if _is_help(error) and not as_json:
        sys.stderr.write(f"{_text_of(error)}\n")
        return code
    if os.environ.get(DEBUG_VARIABLE) and not isinstance(error, KeyboardInterrupt):
        sys.excepthook(type(error), error, error.__traceback__)
    if as_json:
        from mainstay.operations.cli.output import Output

        kind = "UsageError" if _is_usage_error(error) else _known_name(_meant(error))
        Output(as_json=True).document({"error": {"type": kind, "message": sentence, "exit_code": int(code)}})
    elif code is Exit.INTERRUPTED:
        sys.stderr.write("\nInterrupted.\n")
    else:
        from rich.console import Console

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("[bold red]Error:[/]", end=" ")
        console.print(sentence, markup=False)
    return code


def _is_usage_error(error: BaseException) -> bool:
    """Whether the command line itself was wrong; typer has its own copy of click, or uses click's, by version."""
    return isinstance(error, typer.BadParameter.__mro__[1])


def _is_help(error: BaseException) -> bool:
    """Whether it is no mistake but a group without a command, whose message is the group's help."""
    return _is_usage_error(error) and type(error).__name__ == "NoArgsIsHelpError"


def _meant(error: BaseException) -> type[BaseException]:
    """What an error of this program's own is about: a line that was refused, for what it was refused."""
    own = not _is_known(type(error))
    return type(error.__cause__) if own and isinstance(error.__cause__, MainstayError) else type(error)


def _is_known(kind: type[BaseException]) -> bool:
    """Whether users can import it from `mainstay.errors`."""
    return kind.__module__.startswith(f"{errors.__name__}.")


def _known_name(kind: type[BaseException]) -> str:
    """The nearest name that users can import."""
    return next((each.__name__ for each in kind.__mro__ if _is_known(each)), kind.__name__)


def _text_of(usage_error: Any) -> str:
    return str(usage_error.format_message())


def _usage(error: Any) -> str:
    text = _NO_ID.sub("it must be a UUID", _text_of(error)).rstrip(".")
    text = text if text.endswith("?") else f"{text}."
    context = getattr(error, "ctx", None)
    return f"{text} See `{context.command_path} --help`." if context else text
