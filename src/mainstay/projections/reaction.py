"""Reactions: what a subscription sends because something happened, in the transaction of its checkpoint.

::

    class Shipping(Reaction):
        @handles(OrderPaid)
        async def paid(self, event: OrderPaid, ctx: ReactionContext) -> None:
            await ctx.send(ShipOrder(order_id=event.aggregate_id))

Promises. The commands that its methods send, what they write through ``ctx.conn``, and the checkpoint that moves past
the events are one COMMIT. A method that fails has sent nothing. Workers are woken after the COMMIT.

Ids are derived from the subscription's name, the event and from which send of that event it is, or from a name. So
whatever lets an event be handled again derives the same ids, and a known id is passed over: a redelivery after a
crash, a second process, a dead letter that is replayed, a subscription that is reset to the beginning. None of these
sends twice; a reset sends what the code of today sends and that of then did not. A rebuild sends nothing for events
that were handled before.

What is sent has the event as its cause, and its correlation, tenant and actor. A method runs in the scope of its
event's tenant, as the handler of a command does in its command's.

What it locks. A batch holds its shard's row; what its methods send is put in at its end, with one call for all of it,
so it holds new commands, and unique keys in sorted order, no longer than the COMMIT takes.

How it fails. A send that is refused (a unique key that is held, a reply queue that is missing) fails the event that
wanted it, and is retried, and stops the shard or lays the event apart, as any error of a handler. A process that dies
between the COMMIT and the wake-up leaves commands that workers find when they poll.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar, Self, Unpack, overload
from uuid import UUID, uuid5

from mainstay.commands.bus import in_chunks
from mainstay.commands.carried import TENANT
from mainstay.commands.checks import checked_request, checked_text, named
from mainstay.commands.command import SendOptions, SendRequest, SendResult
from mainstay.commands.model import CommandModel
from mainstay.commands.sends import sent
from mainstay.commands.store import CommandStore, NewCommand
from mainstay.commands.tracing import count_sent, created
from mainstay.errors import ConfigurationError, DuplicateCommandError, InvalidInputError, MainstayError, shown
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.log import RecordedEvent
from mainstay.message import correlated
from mainstay.projections.declarative import DatabaseProjection, in_hand
from mainstay.projections.projection import following
from mainstay.projections.store import ProjectionStore
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, checked_object
from mainstay.tenancy import current_tenant, scope_of

_CHUNK = 1000
_NAME_LIMIT = 200


def reaction_id(consumer: str, event_id: UUID, name: str) -> UUID:
    """The id of what a subscription sends because of an event; the same whenever it is asked for.

    Args:
        consumer: The subscription's name.
        event_id: What happened.
        name: Which of its sends.
    """
    return uuid5(event_id, f"{consumer}/{name}")


class Reactions:
    """What the methods of a reaction send in one transaction.

    Args:
        consumer: The subscription's name.
        conn: The transaction, as the projection store knows it.
        is_silent: Nothing is to be sent: a rebuild handles again what was handled before.
    """

    def __init__(self, consumer: str, conn: Any = None, *, is_silent: bool = False) -> None:
        self.consumer = consumer
        self.conn = conn
        self.is_silent = is_silent
        self.kept: dict[tuple[str, UUID], NewCommand] = {}
        self._counts: dict[UUID, int] = {}

    def place(self, event_id: UUID) -> str:
        """Which send of an event the next one is."""
        self._counts[event_id] = self._counts.get(event_id, 0) + 1
        return f"#{self._counts[event_id]}"

    async def send(self, store: CommandStore, conn: Any) -> None:
        """Put everything in.

        Args:
            store: Where commands live.
            conn: The transaction, as it knows it.

        Raises:
            MainstayError: One is refused; the transaction is to be undone.
        """
        for domain in sorted({command.domain for command in self.kept.values()}):
            await store.ensure_queue(domain)
        for chunk in in_chunks(list(self.kept.values()), _CHUNK):
            for command, answer in zip(chunk, await store.send(chunk, conn=conn), strict=True):
                sent(command, answer)

    async def committed(self, store: CommandStore) -> None:
        """The transaction is: count what was sent, and wake who waits for it."""
        if self.kept:
            count_sent(list(self.kept.values()))
            with suppress(MainstayError):  # whoever sleeps on finds it when he polls
                await store.wake([command.domain for command in self.kept.values()])


class ReactionContext:
    """What a method of a `Reaction` is given besides its event.

    A test without a subscription makes one of an event, and finds in `kept` what was sent.

    Args:
        envelope: The event, and where it stands; or an event in hand.
        reactions: What is sent in this transaction; made unless given.
    """

    def __init__(self, envelope: EventEnvelope | DomainEvent, reactions: Reactions | None = None) -> None:
        self.envelope = in_hand(envelope) if isinstance(envelope, DomainEvent) else envelope
        self._reactions = reactions or Reactions("")
        self._mine: dict[tuple[str, UUID], NewCommand] = {}

    @property
    def conn(self) -> Any:
        """The transaction in which the checkpoint moves, as `DatabaseProjection` knows it; None in such a test."""
        return self._reactions.conn

    @property
    def correlation_id(self) -> UUID:
        """The conversation that the event belongs to; one that belongs to none begins its own."""
        event = self.envelope.event
        return event.correlation_id or event.event_id

    @property
    def kept(self) -> list[NewCommand]:
        """What was sent because of this event."""
        return list(self._mine.values())

    @overload
    async def send(
        self,
        domain: str,
        command_type: str,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult: ...
    @overload
    async def send(
        self,
        command: CommandModel,
        /,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult: ...
    async def send(
        self,
        domain: str | CommandModel,
        command_type: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SendResult:
        """Send a command with the checkpoint: both are committed together, or neither.

        Args:
            domain: Who handles it; or a typed command, which holds its type and its data, too.
            command_type: Name of the handler.
            data: JSON object.
            command_id: Derived if None, see `mainstay.projections.reaction`. A known id is passed over in any case.
            name: Derives the id from this name instead of from the place among the sends of this event. Give one where
                other code may send in another order, or something else.
            options: The other fields of `SendRequest`, by name. Correlation, cause, tenant and actor are the event's
                unless given.

        Returns:
            The id; there is no place in a queue yet.

        Raises:
            DuplicateCommandError: This id was sent for this event before, by the same run of the method.
            InvalidInputError: Something cannot be accepted; the message names it.
            TenantScopeError: It is another tenant's than the event. Write ``with all_tenants():`` around it.
        """
        domain, command_type, _, data = named(domain, command_type, command_id, data)
        event = self.envelope.event
        if command_id is not None and name is not None:
            raise InvalidInputError("give command_id or name, not both: a name is what an id is derived from")
        if command_id is None:
            which = self._reactions.place(event.event_id) if name is None else checked_text(name, "name", _NAME_LIMIT)
            command_id = reaction_id(self._reactions.consumer, event.event_id, f"{which}")
        try:
            request = SendRequest(domain, command_type, command_id, data or {}, **options)
        except TypeError as error:
            raise InvalidInputError(f"ctx.send: {error}") from error
        new = replace(self._checked(request), skip_known=True)
        key = new.domain, new.command_id
        if key in self._mine:
            raise DuplicateCommandError(*key)
        self._mine[key] = new = created(new)
        if not self._reactions.is_silent:
            self._reactions.kept.setdefault(key, new)
        return SendResult(new.command_id, None)

    def _checked(self, request: SendRequest) -> NewCommand:
        """The request with what it takes over from the event."""
        event = self.envelope.event
        is_unsaid = request.tenant_id is None and current_tenant() is None
        if is_unsaid and TENANT not in checked_object(request.headers, what="headers"):
            request = replace(request, tenant_id=self.envelope.stream.tenant_id)
        with correlated(self.correlation_id, event.event_id, event.actor_id):
            return checked_request(
                request, default_max_attempts=DEFAULT_MAX_ATTEMPTS, payload_limit=DEFAULT_PAYLOAD_LIMIT
            )


class Reaction(DatabaseProjection):
    """A projection whose methods send commands; see the head of `mainstay.projections.reaction`.

    A method takes the event and a `ReactionContext`; it may be a coroutine function or a plain one, which must not
    block. It may write rows, too, through ``ctx.conn``. One that names ``tables`` can be rebuilt.

    Commands are in the database of the checkpoints: in PostgreSQL, or in memory with
    ``MemoryProjectionStore(commands=store)``.
    """

    __takes__: ClassVar[int] = 2
    _consumer: str = ""
    _store: ProjectionStore | None = None

    async def prepare(self, store: ProjectionStore) -> None:
        """See that there are commands where its checkpoint is kept.

        Raises:
            ConfigurationError: There are none.
        """
        await super().prepare(store)
        self._use(store)

    def beside(self, store: ProjectionStore) -> Self:
        """A copy that writes to tables of its own; its ids are derived from the same name."""
        made = super().beside(store)
        made._consumer = self._consumer or self.name  # noqa: SLF001 - a copy of its own
        made._use(store)  # noqa: SLF001 - as above
        return made

    @asynccontextmanager
    async def batch(self, conn: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[Reactions]:
        """What the methods send in one transaction, put in at its end."""
        del events
        store = self._used()
        async with store.command_transaction(conn) as joined:
            reactions = Reactions(self._consumer or self.name, conn, is_silent=self.rebuilding)
            yield reactions
            await reactions.send(store.commands, joined)

    async def committed(self, conn: Any) -> None:
        """Wake those who wait for what was sent."""
        await conn.committed(self._used().commands)

    async def handle(self, envelope: EventEnvelope | DomainEvent, conn: Any = None) -> None:
        """Call the method for this event, in the scope of its tenant and in the name of its actor."""
        if isinstance(envelope, DomainEvent):
            envelope = in_hand(envelope)
        tenant = envelope.stream.tenant_id
        with following(envelope.event), scope_of(tenant):
            await super().handle(envelope, conn)

    def _arguments(self, envelope: EventEnvelope, conn: Any) -> tuple[Any, ...]:
        if not isinstance(conn, Reactions):
            raise ConfigurationError(f"{type(self).__name__} handles events in a batch(), not with {shown(conn)}")
        return envelope.event, ReactionContext(envelope, conn)

    def _use(self, store: ProjectionStore) -> None:
        store.commands  # noqa: B018 - it says if there are none
        self._store = store

    def _used(self) -> ProjectionStore:
        if self._store is None:
            raise ConfigurationError(f"{type(self).__name__} knows no commands yet: subscribe it")
        return self._store
