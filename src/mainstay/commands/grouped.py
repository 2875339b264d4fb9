"""What groups of commands are made of, while they are decided on; see `mainstay.commands.grouping`."""

import asyncio
from collections.abc import Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mainstay.commands.deciders import Consequence, Decided, Decider, Fate
from mainstay.commands.handler import Handler
from mainstay.commands.sends import Sends
from mainstay.commands.store import Outcome, Received


class Alone:
    """What a command comes to that is to be handled in a transaction of its own."""


class Overtaken:
    """What a command comes to that is to be given back: others were quicker each time."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a command comes to that is finished already."""

    outcome: Outcome


End: TypeAlias = Written | type[Alone] | type[Overtaken]


class Judge(Protocol):
    """Says what is to be written of a command."""

    def decided(self, received: Received, handler: Handler, found: Consequence, sends: Sends) -> Outcome:
        """That it was decided on."""
        ...

    def refused(self, received: Received, handler: Handler, read: Consequence, error: BaseException) -> Outcome | None:
        """That its decider raised an error; None if nothing can be written."""
        ...


@dataclass(slots=True, eq=False)
class Item:
    """A command that waits to be decided on, or is being so."""

    received: Received
    handler: Handler
    kind: type
    stream: Hashable
    context: Context
    end: "asyncio.Future[End]"
    number: int
    """In the order of arrival."""
    is_parked: bool = False
    """Whether it waits for a stream that others append to."""
    tries: int = 0
    decider: Decider | None = None
    decided: Decided | None = None
    domains: Sequence[str] = ()

    def finish(self, end: End) -> None:
        """Say what it comes to, unless it was called off."""
        if not self.end.done():
            self.end.set_result(end)

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, unless it was called off."""
        if not self.end.done():
            self.end.set_exception(error)


@dataclass(slots=True)
class Group:
    """Commands that are committed together, in the order in which they were decided on."""

    items: list[Item]
    unsure: set[Hashable]
    """Streams that are to be loaded anew, after the commit."""
    failed: set[Decider] = field(default_factory=set)
    """Those of whose decisions something could not be written: what they have in memory does not come true."""
    fates: list[tuple[Item, Fate]] = field(default_factory=list)
    """What is known to have become of some."""
    put_back: list[Item] = field(default_factory=list)
    """What is to be decided on again."""
    known: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is known what became of all."""
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all who waited have been told."""

    def stands(self, item: Item, failed: "set[Decider]") -> bool:
        """Whether all that a decision rests on has been written, or is about to be; else it is put back.

        Args:
            item: One of this group.
            failed: What could not be written of the group before.
        """
        if item.decided is None or item.decider is None:
            return False
        if item.end.done():  # called off: it is given back
            self.failed.add(item.decider)
            return False
        if item.decider in failed or item.decider in self.failed:
            self.failed.add(item.decider)
            self.put_back.append(item)
            return False
        return True

    def found(self, items: Sequence[Item], fates: Sequence[Fate]) -> None:
        """Note what became of some."""
        for item, fate in zip(items, fates, strict=True):
            self.fates.append((item, fate))
            if fate is not Fate.APPLIED and item.decider is not None:
                self.failed.add(item.decider)
