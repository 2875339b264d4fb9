"""What a handler is given besides its command."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Unpack, overload
from uuid import UUID

from mainstay.commands.command import Command, SendOptions, SendResult
from mainstay.commands.model import CommandModel
from mainstay.commands.progress import progress_document
from mainstay.commands.sends import Sends
from mainstay.errors import InvalidOperationError
from mainstay.retry import as_seconds


@dataclass(slots=True)
class HandlerContext:
    """What a handler may know and do besides its command.

    Args:
        command: The command being handled.
        attempt: Which attempt this is, counted from 1.
        max_attempts: How many there may be.
        msg_id: Its message in the queue.
        conn: For a transactional handler: the connection whose COMMIT completes the command. Any other that asks for it
            gets an `InvalidOperationError`, which says how to get one.
        extend: How to renew this command's lease; given by the worker.
        sends: Where `send` puts commands; a test without a worker finds them in ``ctx.sends.kept``.
        tell: Where `progress` goes; given by the worker.
        open_session: What `session` opens; given by the worker.
    """

    command: Command[Any]
    attempt: int
    max_attempts: int
    msg_id: int
    conn: Any = field(default=None, repr=False, compare=False)
    extend: Callable[[float], Awaitable[None]] | None = field(default=None, repr=False)
    sends: Sends = field(default=None, repr=False)  # type: ignore[assignment]  # never None once made
    tell: Callable[[bytes], None] | None = field(default=None, repr=False)
    open_session: Callable[[Any], AbstractAsyncContextManager[Any]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.sends is None:
            self.sends = Sends(self.command)
        if self.conn is None:
            del self.conn  # whoever asks for it is told what is missing

    if not TYPE_CHECKING:  # it would let every name pass

        def __getattr__(self, name: str) -> NoReturn:
            if name == "conn":
                raise no_transaction("ctx.conn")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def is_transactional(self) -> bool:
        """Whether there is a ``conn``."""
        try:
            return self.conn is not None
        except InvalidOperationError:
            return False

    @property
    def correlation_id(self) -> UUID | None:
        """The conversation that this command belongs to."""
        return self.command.correlation_id

    async def extend_visibility(self, seconds: timedelta | float) -> None:
        """Hold the lease for this long from now. Seldom needed: leases renew themselves while the handler runs.

        Args:
            seconds: A timedelta, or seconds.

        Raises:
            StaleLeaseError: The lease was lost to another worker; what this handler returns will be refused.
        """
        length = as_seconds(seconds)
        if self.extend is not None:
            await self.extend(length)

    @overload
    async def send(
        self,
        domain: str,
        command_type: str,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SendResult: ...
    @overload
    async def send(
        self,
        command: CommandModel,
        /,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        idempotent: bool = False,
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
        """Send a command with this one's completion: both are committed together, or neither.

        A transactional handler sends on its connection at once. For any other, the command is kept until the handler
        has returned, so the result's ``msg_id`` is None, and a refusal sends this command to troubleshooting.

        Args:
            domain: Who handles it; or a typed command, which holds its type and its data, too.
            command_type: Name of the handler.
            data: JSON object.
            command_id: Derived if None, see `mainstay.commands.sends`; a derived id that is known is passed over.
            name: Derives the id from this name instead of from the place among the handler's sends. Give one where a
                handler that runs again may send in another order, or something else.
            options: The other fields of `SendRequest`, by name, and ``idempotent``: a known id is passed over. The
                correlation is this command's unless given. With the ``unique_key`` of this command, the one sent is its
                successor: the key passes to it.

        Raises:
            DuplicateCommandError: This run has sent this id before; or, in a transactional handler, somebody has.
            NotUniqueError: Another command holds the unique key (transactional handlers).
            BatchNotFoundError: No such batch (transactional handlers).
            QueueNotFoundError: No such reply queue (transactional handlers).
            InvalidInputError: Something cannot be accepted; the message names it.
            InvalidOperationError: The handler has ended.
            StorageUnavailableError: No connection, or it broke.
        """
        return await self.sends.send(domain, command_type, data, command_id=command_id, name=name, options=options)

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Tell those who watch how far this command is; `CommandMetadata.progress` shows it.

        Costs nothing: the newest report is written within a second or so, with those of other commands, and not at all
        if the handler ends before. May be called as often as you like, also from a plain handler's thread.

        Args:
            done: How much is done, in any unit.
            total: How much there is, in the same unit, if known.
            note: For people.

        Raises:
            InvalidInputError: Not such numbers, or not such a text.
        """
        document = progress_document(done, total, note)
        if self.tell is not None:
            self.tell(document)

    def session(self) -> AbstractAsyncContextManager[Any]:
        """A SQLAlchemy ``AsyncSession`` in the transaction of ``ctx.conn``: it commits with the completion.

        ``async with ctx.session() as session:`` flushes at the end of the block. ``session.commit()`` flushes, too, and
        commits nothing; to roll back, raise.

        Raises:
            InvalidOperationError: The handler is not transactional; or, at the end of the block, it rolled back.
        """
        if not self.is_transactional or self.open_session is None:
            raise no_transaction("ctx.session()")
        return self.open_session(self.conn)


def no_transaction(asked: str) -> InvalidOperationError:
    """What is wrong with asking for a connection or a session in a handler that is not transactional."""
    message = f"{asked} needs the transaction of a transactional handler: register it transactional=True"
    return InvalidOperationError(message)
