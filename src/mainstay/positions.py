"""How far the feed must have come for somebody who wants to see what he has just written: read your own writes.

Whoever appends events, or is told a position by a reply, notes it here. Whoever wants to hand it on (the worker to the
command's row, a web server to its client) opens `noting` around the code that may do so, and finds the highest there.
Tasks and threads that the code begins note into the same place. A block inside another keeps what it hears to itself.
"""

from contextvars import ContextVar
from typing import Protocol, runtime_checkable


@runtime_checkable
class Positioned(Protocol):
    """What says after which position its events are there: a `Reply`, an `Appended`, a `CommandMetadata`."""

    @property
    def position(self) -> int | None:
        """Of the last event; None if there is none."""
        ...


class Noted:
    """The highest position that was noted; None before there is one."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position: int | None = None


_noted: ContextVar[Noted | None] = ContextVar("mainstay_noted", default=None)


class noting:  # noqa: N801 - a context manager, written without a generator: every command passes here
    """Hear which positions the block is told."""

    __slots__ = ("_token",)

    def __enter__(self) -> Noted:
        mine = Noted()
        self._token = _noted.set(mine)
        return mine

    def __exit__(self, *_: object) -> None:
        _noted.reset(self._token)


def note_position(position: int | None) -> None:
    """Events up to this position were appended, or somebody who appended them says so; None says nothing."""
    noted = _noted.get()
    if noted is not None and position is not None and (noted.position is None or position > noted.position):
        noted.position = position
