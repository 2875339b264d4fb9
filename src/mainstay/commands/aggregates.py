"""Handlers on aggregates: which aggregate a command is for, and what this room asks of those who know events.

A handler registered with ``aggregate=Order`` is called with the aggregate that its command is for. What the aggregate
has raised when the handler returns is appended in the transaction that completes the command: load, decide, append, the
next commands, reply, audit and completion are one COMMIT.

States of one command. *Loaded*: the transaction has read the stream and locks nothing, so others may append to it.
*Decided*: the handler has returned. *Appended*: the stream's row is locked until the COMMIT, and the feed ends before
these events; so this comes last. *Completed*: all of it is visible, at once.

How it fails. If somebody else has appended meanwhile, nothing of this transaction remains, and the command is handled
again from a fresh load, by the same worker and in the same attempt, after a short pause. If it is a decider's, the
commands of this stream queue up for `WARY` seconds (`mainstay.commands.turns`), and whose turn it is locks the stream's
row before it is read. One that is overtaken, or waits for another's lock for a second, `TRIES` times in a row is given
back, which counts no attempt either. A refusal (`BusinessRuleException`, `Failure`) appends nothing. A crash before the
COMMIT leaves nothing, one after it a command that is completed.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from mainstay.commands.command import Command
from mainstay.commands.ledger import StreamName
from mainstay.commands.model import CommandModel, name_of
from mainstay.errors import ConfigurationError, InvalidInputError, MainstayError, PermanentCommandError, shown
from mainstay.message import checked_domain

TRIES = 10
"""How often a command is handled in one attempt, if others are quicker each time."""
FIRST_PAUSE = 0.002
"""Seconds; up to this, drawn, before the second try, doubled each time, so that workers get apart."""
WARY = 5.0
"""Seconds for which others are taken to append to a stream, too, after one was quicker."""

StreamChoice: TypeAlias = Callable[[Command[Any]], UUID | str] | str
"""What tells which aggregate a command is for: a function of it, or the name of a field of its payload."""


class StreamHeldError(MainstayError):
    """Another transaction has held a stream for too long; nothing of the one that waited remains."""


class Opened(Protocol):
    """An aggregate in a transaction."""

    aggregate: Any
    version_read: int
    """Of its stream, when it was loaded."""
    events: int
    """How many were appended; 0 before the end of the block."""

    @property
    def stream(self) -> StreamName:
        """Where its events are."""
        ...

    left: Any
    """What is still to be appended, with the completion, for `CommandStore.commit`; None if all is, or before the end
    of the block. Then `answer` is not known here."""

    @property
    def answer(self) -> dict[str, int]:
        """The reply, if the handler gives none: ``version`` of the stream, ``position`` of the last event."""
        ...

    async def committed(self) -> None:
        """The transaction is; a snapshot may be left."""
        ...


@dataclass(frozen=True, slots=True)
class RaisedEvent:
    """An event that an aggregate has raised, as a store of events would write it.

    Args:
        event_type: What happened.
        event_version: Of the payload's form.
        payload: The event's own fields.
    """

    event_type: str
    event_version: int
    payload: dict[str, Any]


class Tried(Opened, Protocol):
    """An aggregate to try a decision on."""

    def raised(self) -> tuple[RaisedEvent, ...]:
        """What it has raised, and was not appended.

        Raises:
            InvalidPayloadError: An event cannot be written as JSON.
            UnknownEventTypeError: The class of one is not registered.
        """
        ...

    async def append_tried(self) -> None:
        """Append that.

        Raises:
            OptimisticLockError: Somebody else has appended since it was loaded.
        """
        ...


class Aggregates(Protocol):
    """Loads aggregates and appends what they raise."""

    def check(self, kind: type) -> None:
        """Refuse what is no aggregate.

        Raises:
            ConfigurationError: It is none.
        """
        ...

    def ahead(self, kind: type, aggregate_id: UUID | str) -> Any:
        """What `opened` will ask, for `CommandStore.transaction`, and then for `opened`; None if it cannot be told."""
        ...

    def opened(
        self, kind: type, aggregate_id: UUID | str, conn: Any, ahead: Any = None, *, hold: bool = False
    ) -> AbstractAsyncContextManager[Opened]:
        """An aggregate, new if it has no events; what it has raised is appended at the end of the block, or left.

        Args:
            kind: Its class.
            aggregate_id: Which one.
            conn: The transaction in which the command is completed.
            ahead: What was asked when it began.
            hold: Let nobody else append to it from the beginning, as far as the store of events knows how to.

        Raises:
            OptimisticLockError: At the end: somebody else has appended since it was loaded.
            StreamHeldError: It is to be held, and somebody else has held it for too long.
        """
        ...

    def tried(
        self, kind: type, aggregate_id: UUID | str, conn: Any, *, version: int | None = None
    ) -> AbstractAsyncContextManager[Tried]:
        """An aggregate to try a decision on. Nothing stays of what is appended, if nothing stays of ``conn``.

        Args:
            kind: Its class.
            aggregate_id: Which one.
            conn: A transaction that will be rolled back; None, if nothing will be appended.
            version: As it was at this version.

        Raises:
            InvalidOperationError: Its stream does not have that version, or events that a snapshot stands for.
            EventError: It cannot be loaded.
        """
        ...

    async def recorded(self, stream: StreamName, after: int, up_to: int) -> tuple[RaisedEvent, ...]:
        """Events of a stream, as this code would write them: upcast, if they are of an older form.

        Raises:
            EventError: They cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Which aggregate the commands of a handler are for.

    Args:
        kind: Its class.
        stream: What tells which one.
    """

    kind: type
    stream: StreamChoice

    @classmethod
    def of(cls, kind: type | None, stream: StreamChoice | None) -> "Target | None":
        """What `handler` was told; None if it is no handler on an aggregate.

        Raises:
            ConfigurationError: Not a class of aggregates, or nothing that tells which one.
        """
        if kind is None:
            if stream is None:
                return None
            raise ConfigurationError("stream= says which aggregate a command is for: say aggregate=, too")
        if not isinstance(kind, type) or not callable(getattr(kind, "load_from_history", None)):
            raise ConfigurationError(f"aggregate must be a class derived from AggregateRoot, not {shown(kind)}")
        if stream is None:
            stream = _field_for(kind)
        if not callable(stream) and not (isinstance(stream, str) and stream):
            raise ConfigurationError(
                f"stream must be a function of the command, or the name of a field of its payload, not {shown(stream)}"
            )
        return cls(kind, stream)

    def fits(self, model: type[BaseModel] | None) -> None:
        """Refuse a model without the field that tells which aggregate a command is for.

        Raises:
            ConfigurationError: It has none of this name.
        """
        if model is None or not isinstance(self.stream, str) or self.stream in model.model_fields:
            return
        raise ConfigurationError(
            f"{model.__name__} has no field {self.stream!r} that says which {self.kind.__name__} it is for: pass "
            "stream=, the name of the field or a function of the command"
        )

    def id_of(self, command: Command[Any]) -> UUID | str:
        """Which aggregate a command is for.

        Raises:
            PermanentCommandError: It does not say.
        """
        if callable(self.stream):
            return self.stream(command)
        data = command.data
        found = data.get(self.stream) if isinstance(data, dict) else getattr(data, self.stream, None)
        if not isinstance(found, UUID | str):
            kind = self.kind.__name__
            message = f"{self.stream!r} in its payload must say which {kind} it is for, not {shown(found)}"
            raise PermanentCommandError("NO_AGGREGATE_ID", message)
        return found


def check_all(targets: Iterable[Target], aggregates: Aggregates | None) -> None:
    """Refuse aggregates that nobody can load.

    Raises:
        ConfigurationError: There is no store of events, or one of them is no aggregate.
    """
    for target in targets:
        if aggregates is None:
            raise ConfigurationError(
                f"a handler is to be called with a {target.kind.__name__}: give the worker the store of its events, "
                "Worker(..., event_store=...)"
            )
        aggregates.check(target.kind)


def commands_of(decider: Any, domain: str) -> list[type[CommandModel]]:
    """The commands that a decider decides on: those between the brackets of its base.

    Raises:
        ConfigurationError: Not a decider, or one of them is no typed command of this domain.
    """
    if not isinstance(decider, type) or not callable(getattr(decider, "decide", None)):
        raise ConfigurationError(f"decider must be a class derived from DeciderAggregate, not {shown(decider)}")
    found = getattr(decider, "__command_types__", ())
    if not found:
        raise ConfigurationError(
            f"{decider.__name__} does not say what it decides on: derive it from DeciderAggregate[State, Open | Close]"
        )
    for each in found:
        try:
            its_domain = name_of(each).domain
        except ConfigurationError as error:
            raise ConfigurationError(f"{decider.__name__} cannot be sent commands: {error}") from None
        if its_domain != checked_domain(domain):
            raise ConfigurationError(
                f"{each.__name__} is a command of {its_domain!r}: {decider.__name__} cannot decide on it in {domain!r}"
            )
    return list(found)


async def decide(aggregate: Any, command: Any, context: Any) -> None:
    """The handler of a decider's commands: it decides, and the reply says the stream's version and position."""
    for each in aggregate.decide_on(command.data).others:  # no annotation names the payload: its model is registered
        if not isinstance(each, CommandModel):
            raise no_command(each)
        await context.send(each)


def no_command(decided: object) -> InvalidInputError:
    """What is wrong with something that a decider gave, and that is neither an event nor a command."""
    return InvalidInputError(
        f"a decider decides on events, instances of DomainEvent, and on typed commands, not {shown(decided)}"
    )


def _field_for(kind: type) -> str:
    """``OrderLine`` is told by ``order_line_id``."""
    name = str(getattr(kind, "aggregate_type", "") or kind.__name__)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if not words.isidentifier():
        raise InvalidInputError(f"pass stream=: no field is called after {name!r}")
    return f"{words}_id"
