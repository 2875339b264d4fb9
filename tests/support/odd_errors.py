"""Errors that a user's code may raise, however odd, and an application's logging that is broken."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager


class ShyError(Exception):
    """Cannot even say what it is."""

    def __init__(self, instead: BaseException) -> None:
        super().__init__()
        self.instead = instead

    def __str__(self) -> str:
        raise self.instead

    __repr__ = __str__


class MaskedError(Exception):
    """Cannot even be asked what it is."""

    @property
    def __class__(self):  # what isinstance asks
        raise RuntimeError("who asks?")


ODD: dict[str, BaseException] = {
    "no words": ShyError(ValueError("no words")),
    "exits when asked": ShyError(SystemExit(1)),
    "cancels when asked": ShyError(asyncio.CancelledError()),
    "masked": MaskedError(),
    "interrupt": KeyboardInterrupt(),
    "exit": SystemExit(3),
    "end of a generator": GeneratorExit(),
}
"""By name: pytest asks what a parameter is."""


class _Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the application is broken")


@contextmanager
def broken_logging() -> Iterator[None]:
    """A block in which a filter of the application's raises for each record of ours."""
    handler = logging.NullHandler()
    handler.handle = handler.filter  # type: ignore[method-assign,assignment]  # as handlers that are not null
    handler.addFilter(_Broken())
    logger = logging.getLogger("mainstay")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
