"""Processes that events begin and move, beside the replies to their steps.

::

    class Fulfilment(EventProcess[FulfilmentState]):
        process_type, domain, state_class = "Fulfilment", "fulfilment", FulfilmentState

        @on_event(OrderPlaced, begins=True)
        def placed(self, state, event):
            return [Step("billing", "Charge", {"order_id": str(event.aggregate_id)}), Deadline("paid", 3600)]

        @on_event(PaymentArrived, by="order_id")
        def paid(self, state, event):
            return [CancelDeadline("paid"), Step("shipping", "Ship", {...})]

    await manager.subscribe(EventProcesses(Fulfilment()))       # events
    register_processes(registry, Fulfilment())                  # replies, deadlines, cancellations

What it promises. All kinds of processes of an `EventProcesses` are told by one subscription, in the order of the feed.
The move of a process (state, steps sent, deadlines, audit, and that it was told of this event) and the checkpoint are
one COMMIT. A process is told of an event once, however often that is delivered: a replay or a reset moves nothing. Its
id is derived from its kind, the tenant and the key that its events share, so it is begun once.

What is told to whom. An event belongs to the process of its tenant whose key it names: `on_event(by=...)`. One that
begins no process and names none that there is, is passed by. A process that has ended, or is being undone, notes the
event and is not moved.

Events and replies. A reply locks the same row. Whoever is second sees what the first has written; neither is lost, and
neither comes twice.

How it fails. A method that fails is tried by the subscription's policy. Then the event is laid apart with the process
it belongs to, and so are later events of that process, until a person replays them; other processes go on. With
``on_error="stop"`` all stop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid5

from pydantic import ValidationError

from mainstay.commands.process import Process, StateT, Steps, TakenEvent
from mainstay.commands.process_moves import Happening, checked_process, take_event
from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError, InvalidInputError, MainstayError, shown
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.handles import handler_for, handlers_of, handles
from mainstay.events.log import FeedFilter, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.message import checked_text
from mainstay.projections.declarative import handled
from mainstay.projections.projection import OnError, Projection
from mainstay.projections.store import ProjectionStore

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__mainstay_on_event__"
_IDS = UUID("5d3a1e0c-7f44-4a53-9a0e-2f1a4f7b9c16")
_LONGEST_KEY = 500


@dataclass(frozen=True, slots=True)
class _Told:
    """How a method is told of an event."""

    by: str | Callable[[Any], Any]
    begins: bool


def on_event(
    *events: type[DomainEvent],
    by: str | Callable[[Any], UUID | str | int | None] = "aggregate_id",
    begins: bool = False,
) -> Callable[[F], F]:
    """Mark a method of an `EventProcess`, ``(self, state, event)``, as the one that is told of events of these classes.

    It says what `Process.on_reply` says: steps, deadlines, nothing; and it may be async.

    Args:
        events: One class or several.
        by: The key of the process that the event belongs to: the name of a field of the event or of its envelope, or
            a function of the event; None: it belongs to none, and is passed by.
        begins: It begins a process, unless there is one. Say so of every event that may be the first.

    Raises:
        ConfigurationError: Not classes of events, or ``by`` is neither of the two.
    """
    if not callable(by) and not (isinstance(by, str) and by.isidentifier()):
        raise ConfigurationError(f"by= is the name of a field, or a function of the event, not {shown(by)}")
    for kind in events:
        if isinstance(by, str) and isinstance(kind, type) and by not in getattr(kind, "model_fields", {by: None}):
            raise ConfigurationError(f"{kind.__name__} has no field {by!r}: pass by=, one that names the process")
    marked = handles(*events)

    def mark(method: F) -> F:
        setattr(method, _MARK, _Told(by, begins))
        return marked(method)

    return mark


class EventProcess(Process[StateT]):
    """A process that events begin and move; see the head of `mainstay.projections.event_process`.

    It may be begun by `ProcessManager.start`, too: with `process_id_of`, its events find it.

    Raises:
        ConfigurationError: Two methods are told of one event, or one cannot be called with a state and an event.
    """

    __handlers__: ClassVar[dict[type[DomainEvent], str]] = {}
    __told__: ClassVar[dict[str, _Told]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the methods, and check them."""
        super().__init_subclass__(**options)
        cls.__handlers__ = handlers_of(cls, takes=2, awaitable=True)
        cls.__told__ = {name: _how_told(cls, name) for name in set(cls.__handlers__.values())}

    def start(self, state: StateT) -> Steps | Awaitable[Steps]:
        """The first steps of one that `ProcessManager.start` begins; none, here."""
        del state
        return None

    def on_reply(self, state: StateT, reply: Any) -> Steps | Awaitable[Steps]:
        """A step has succeeded: the next steps; none, here."""
        del state, reply
        return None

    def is_done(self, state: StateT) -> bool:
        """Whether nothing more is waited for; asked when no step is under way. Never, unless overridden."""
        del state
        return False

    def state_for(self, event: Any) -> StateT:
        """The state of a process that an event begins, which its method is then told of; empty, here.

        Raises:
            ConfigurationError: There is no empty one.
        """
        del event
        try:
            return self.state_class()
        except ValidationError as error:
            kind, state = type(self).__name__, self.state_class.__name__
            message = f"{kind} cannot begin with an empty {state}: override state_for(self, event), or give it defaults"
            raise ConfigurationError(message) from error

    def process_id_of(self, key: UUID | str | int, tenant_id: UUID | str | None = None) -> UUID:
        """The id of the process whose events name this key.

        Args:
            key: As ``by`` of `on_event` gives it.
            tenant_id: Whose events.

        Raises:
            InvalidInputError: No such key.
        """
        domain, _, process_type = checked_process(self)
        if isinstance(key, bool) or not isinstance(key, UUID | str | int):
            raise InvalidInputError(
                f"the key of a {process_type} is a UUID, a text or a whole number, not {shown(key)}"
            )
        text = checked_text(str(key), f"the key of a {process_type}", _LONGEST_KEY)
        return uuid5(_IDS, "\n".join([domain, process_type, "" if tenant_id is None else str(tenant_id), text]))


@dataclass(slots=True)
class _Moves:
    """The moves of one transaction."""

    conn: Any
    wakes: list[str] = field(default_factory=list)


class EventProcesses(Projection):
    """The subscription that tells processes of events; give it all kinds that a service has.

    Args:
        processes: One of each kind.
        name: Of the subscription: its checkpoint is kept under it.
        on_error: ``"dead_letter"``: an event that fails waits with its process; ``"stop"``: all wait.

    Raises:
        ConfigurationError: None, not an `EventProcess`, one without methods for events, or two of one name.
    """

    most_shards = 1
    """Two streams may belong to one process, so their events are told in one order."""

    def __init__(
        self, *processes: EventProcess[Any], name: str = "processes", on_error: OnError = "dead_letter"
    ) -> None:
        if not processes:
            raise ConfigurationError("EventProcesses(...) needs a process: EventProcesses(Fulfilment())")
        names = set()
        for process in processes:
            if not isinstance(process, EventProcess):
                raise ConfigurationError(f"expected an EventProcess, made from its class, not {shown(process)}")
            if not process.__handlers__:
                raise ConfigurationError(f"{type(process).__name__} is told of nothing: mark methods with @on_event")
            key = checked_process(process)
            if key in names:
                raise ConfigurationError(f"two processes of domain {key[0]!r} are called {key[2]!r}")
            names.add(key)
        self.name = name
        self.on_error = on_error
        self._processes = processes
        self._store: ProjectionStore | None = None

    def wanted(self, source: EventReader) -> FeedFilter:
        """The events that the processes are told of."""
        found = [handled(type(each), each.__handlers__, source) for each in self._processes]
        return source.filter(types=list(dict.fromkeys(kind for kinds in found for kind in kinds)))

    async def prepare(self, store: ProjectionStore) -> None:
        """See that there are commands where its checkpoint is kept.

        Raises:
            ConfigurationError: There are none.
        """
        store.commands  # noqa: B018 - it says if there are none
        self._store = store

    def key(self, envelope: EventEnvelope) -> str:
        """The processes that the event belongs to: what waits behind it."""
        found = sorted(str(process_id) for _, process_id, _, _ in self._belonging(envelope))
        return "+".join(found) or str(envelope.stream)

    @asynccontextmanager
    async def batch(self, conn: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[_Moves]:
        """The moves of one transaction."""
        del events
        async with self._used().command_transaction(conn) as joined:
            yield _Moves(joined)

    async def handle(self, envelope: EventEnvelope, conn: Any) -> None:
        """Tell the processes that the event belongs to."""
        event = envelope.event
        for process, process_id, method, begins in self._belonging(envelope):
            told = Happening(
                TakenEvent(event.event_id, event.event_type, envelope.position),
                partial(_asked, method, event),
                partial(process.state_for, event) if begins else None,
                event.correlation_id or event.event_id,
                envelope.stream.tenant_id,
                event.actor_id,
            )
            change = await take_event(self._commands, process, process_id, told, conn.conn)
            if change is not None:
                conn.wakes.extend(command.domain for command in change.commands)

    async def committed(self, conn: Any) -> None:
        """Wake those who wait for the steps."""
        if conn.wakes:
            with suppress(MainstayError):  # whoever sleeps on finds it when he polls
                await self._commands.wake(conn.wakes)

    def _belonging(
        self, envelope: EventEnvelope
    ) -> Iterator[tuple[EventProcess[Any], UUID, Callable[[Any, Any], Any], bool]]:
        """The processes that an event belongs to, their ids, the methods that are told, and whether it begins them."""
        event = envelope.event
        for process in self._processes:
            name = handler_for(process.__handlers__, type(event))
            if name is None:
                continue
            method, said = getattr(process, name), process.__told__[name]
            key = said.by(event) if callable(said.by) else getattr(event, said.by)
            if key is not None:
                yield process, process.process_id_of(key, envelope.stream.tenant_id), method, said.begins

    @property
    def _commands(self) -> CommandStore:
        return self._used().commands

    def _used(self) -> ProjectionStore:
        if self._store is None:
            raise ConfigurationError(f"{type(self).__name__} knows no commands yet: subscribe it")
        return self._store


def _how_told(cls: type, name: str) -> _Told:
    """What `on_event` says of a method, or of the one that it overrides."""
    for base in cls.__mro__:
        said = getattr(vars(base).get(name), _MARK, None)
        if isinstance(said, _Told):
            return said
    raise ConfigurationError(
        f"{cls.__name__}.{name} must say to which process an event belongs: @on_event, not @handles"
    )


def _asked(method: Callable[[Any, Any], Any], event: DomainEvent, state: Any) -> Any:
    return method(state, event)
