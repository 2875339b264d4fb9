"""What transactional handlers ask of a database: a transaction that their command's completion commits."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from mainstay.commands.ledger import LedgerStore

if TYPE_CHECKING:
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

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A connection in a transaction, for a transactional handler; commits unless the block raises."""
        ...

    async def commit(self, conn: Any, domain: str, outcome: "Outcome") -> None:
        """Complete a command in what `transaction` gave, and commit it. Nothing more may be done in that block.

        The outcome says COMPLETE, and sends nothing: what belongs to it was sent on ``conn``.

        Raises:
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
