"""What transactional handlers ask of a database: a transaction that their command's completion commits."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from mainstay.commands.ledger import LedgerStore

if TYPE_CHECKING:
    from mainstay.commands.dry_run import TriedTable
    from mainstay.commands.store import Outcome


class Lent(Protocol):
    """A transaction in the hands of a thread."""

    @property
    def conn(self) -> Any:
        """What blocking code uses."""
        ...

    def session(self) -> AbstractContextManager[Any]:
        """A SQLAlchemy ``Session`` in it."""
        ...

    async def take_back(self) -> None:
        """Let nothing more be done with it, end what is being done, and return when that has ended."""
        ...


class Watch(Protocol):
    """Sees what a transaction changes in tables that are not mainstay's."""

    async def look(self) -> None:
        """See what has been changed up to now; before the transaction ends."""
        ...

    async def changes(self) -> "tuple[TriedTable, ...]":
        """What was seen; after the transaction has been rolled back, so that what was there before can be told."""
        ...


class HandlingStore(Protocol):
    """The part of `mainstay.commands.store.CommandStore` that is about transactional handlers."""

    @property
    def ledger(self) -> LedgerStore:
        """What handlers on aggregates decided."""
        ...

    @property
    def waiting_handlers(self) -> int:
        """How many callers of `transaction` wait for a connection."""
        ...

    @property
    def handlers_at_once(self) -> int | None:
        """How many may have a `transaction` at the same time, as it is now; None: any number."""
        ...

    def transaction(self, first: Any = None) -> AbstractAsyncContextManager[Any]:
        """A connection in a transaction, for a transactional handler; commits unless the block raises.

        Args:
            first: What is asked first in it, see `mainstay.commands.aggregates.Aggregates.ahead`: asked in the round
                trip that begins it, if that is ours; else it is left unanswered.

        Raises:
            NotBegunError: No connection became free in time.
        """
        ...

    async def make_read_only(self, conn: Any) -> None:
        """Let nothing be written from now on in a transaction, which `transaction` gave."""
        ...

    async def watch(self, conn: Any) -> Watch:
        """Watch a transaction, which `transaction` gave, from now on."""
        ...

    async def commit(self, conn: Any, domain: str, outcome: "Outcome", also: Any = None) -> None:
        """Complete a command in what `transaction` gave, and commit it. Nothing more may be done in that block.

        The outcome says COMPLETE, and sends nothing: what belongs to it was sent on ``conn``.

        Args:
            conn: What `transaction` gave.
            domain: The command's.
            outcome: What became of it.
            also: What is still to be appended, see `mainstay.commands.aggregates.Opened.left`, in the same round trip.
                If the outcome says no result, it says the stream's version, and the position of the last event.

        Raises:
            OptimisticLockError: Somebody else has appended meanwhile: nothing is committed.
            StaleLeaseError: Another lease holds the command, or this one has finished it: nothing is committed.
            InvalidOperationError: The transaction was ended in between.
        """
        ...

    def lend(self, conn: Any) -> Lent:
        """The transaction of ``conn``, which `transaction` gave, for the thread of a plain handler."""
        ...

    def session(self, conn: Any) -> AbstractAsyncContextManager[Any]:
        """A SQLAlchemy ``AsyncSession`` in the transaction of ``conn``, which `transaction` gave."""
        ...
