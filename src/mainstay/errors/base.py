"""What every error has, and the errors about what a caller hands over."""

from collections.abc import Callable, Iterable
from typing import Any, cast

_SHOWN = 100
"""Characters that a message quotes of a value."""


def shown(value: object) -> str:
    """A value as an error message quotes it: short, and whatever it says of itself.

    Args:
        value: Anything; its ``repr`` may raise (a number of 5,000 digits does) or be long.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - what is quoted here was refused, and is none of ours
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def told(error: object) -> str:
    """What an error says, even if it cannot say anything.

    Args:
        error: A user's: its ``str`` may raise whatever there is.
    """
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - SystemExit is raised, too
        return f"<{type(error).__name__} that cannot be shown>"


def tellable(error: BaseException) -> Exception:
    """An error that can be told, counted and laid apart: itself, or one that speaks for it.

    Args:
        error: A user's: no ``Exception`` perhaps, as SystemExit is, or one that cannot even say what it is, or of which
            class.
    """
    try:
        str(error)
        if issubclass(error.__class__, Exception):
            return cast("Exception", error)
    except BaseException:  # noqa: BLE001, S110 - as above
        pass
    return RuntimeError(f"{type(error).__name__}: {told(error)}")


class MainstayError(Exception):
    """Base of every error that mainstay raises on purpose. All survive pickling, to cross from process to process."""

    def __reduce__(self) -> tuple[Callable[..., "MainstayError"], tuple[Any, ...]]:
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[MainstayError], args: tuple[Any, ...], attributes: dict[str, Any]) -> MainstayError:
    """An error as it was, without its ``__init__``, which would word the message a second time."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(MainstayError, ValueError):
    """A setting or an argument of ours is out of range; the message names it and what is allowed."""


class MissingDependencyError(MainstayError):
    """An optional part is not installed; the message holds the ``pip install`` line."""


class InvalidInputError(MainstayError, ValueError):
    """What the caller handed over cannot be accepted. Nothing was written."""


class InvalidDomainError(InvalidInputError):
    """A domain name that cannot become a queue."""

    def __init__(self, domain: object) -> None:
        """Keep the offending name as ``domain``."""
        self.domain = domain
        super().__init__(
            f"invalid domain {shown(domain)}: use 1 to 37 characters of a-z, 0-9, '_' and '-', "
            "starting with a letter or digit"
        )


class InvalidQueueError(InvalidInputError):
    """A queue name that PGMQ would refuse, fold to lower case or cut."""

    def __init__(self, queue: object) -> None:
        """Keep the offending name as ``queue``."""
        self.queue = queue
        super().__init__(
            f"invalid queue name {shown(queue)}: use 1 to 47 characters of a-z, 0-9, '_' and '-', "
            "starting with a letter, digit or '_'"
        )


class InvalidPayloadError(InvalidInputError):
    """A payload that JSON or PostgreSQL cannot hold, that exceeds the limit, or that its handler's model refuses.

    Attributes:
        problems: What a model refuses, field by field: each has ``path``, ``message`` and ``kind``.
    """

    def __init__(self, message: str, problems: Iterable[Any] = ()) -> None:
        """Keep the problems."""
        self.problems = tuple(problems)
        super().__init__(message)


class InvalidCursorError(InvalidInputError):
    """A cursor that was damaged, or came from another query; begin with the first page."""

    def __init__(self, cursor: object) -> None:
        """Keep it as ``cursor``."""
        self.cursor = cursor
        super().__init__(
            f"{shown(cursor)} is no cursor of this query: give what its page before gave, with the same filters and "
            "the same order, or begin with the first page"
        )
