"""What the projections room asks of a database: the protocol `ProjectionStore`.

A *subscription* has a stable name and reads the feed. It has one *shard* or several; each takes the events of its share
of the streams, in order, and has a checkpoint of its own. One suite, `mainstay.testing.contracts.projections`, holds
every store to what is written here.

What a store promises
---------------------

*Together.* What a handler writes through the transaction of a `Batch`, and the checkpoint, are committed together or
not at all. So a read model in the same database has seen each event exactly once, wherever the process was killed.

*One at a time.* A shard belongs to one owner, by a lease that ends by itself if the owner dies. A batch locks the shard
until its transaction ends, and a claim passes by what is locked: even an owner that slept through the end of its lease
in the midst of a batch is never joined by another, and one that wakes up after a batch was lost cannot begin or end one
(`StaleLeaseError`), because every claim has a higher number than those before it (a fencing token:
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).

*Verified.* A checkpoint names the epoch of the log and the event that it stands on. A position alone would be believed
by a log that was restored from a dump, or by a standby that missed the tail, and that has given the same positions to
other events since.

*Never skipping.* Nothing moves a checkpoint past an event that was neither handled nor laid down as a dead letter in
the same transaction.

*Rebuilt in one step.* A rebuild has shards of its own, under a name that follows from the subscription's. `Rebuilding`
holds the shards of both for one transaction, so nobody has a batch of either under way; a swap makes the rebuild's
shards those of the subscription, with tokens above all that were given before, so that every claim from before is
stale. Until its COMMIT nothing has changed, and after it everything has.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from mainstay.commands.store import CommandStore
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.tables import Tables

MOST_SHARDS = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a shard has come.

    Attributes:
        position: Everything wanted up to here is done; 0 before the first event.
        epoch: Of the log that gave the position; None before the first event.
        event_id: Of the last event at or before the position that was handled; None before the first.
        event_position: Where that event stands; 0 before the first.
    """

    position: int = 0
    epoch: UUID | None = None
    event_id: UUID | None = None
    event_position: int = 0


class ShardStatus(StrEnum):
    """What a shard may do."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    """By a person, until resumed."""
    STOPPED = "STOPPED"
    """By an error, until resumed: the event after the checkpoint could not be handled."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A shard that is ours.

    Attributes:
        subscription: Its name.
        shard: Its number, from 0.
        shards: Of how many.
        token: Higher than that of every claim before.
        owner: Who we are.
        checkpoint: Where to begin.
        dead_letters: Events of the shard that lie apart now.
    """

    subscription: str
    shard: int
    shards: int
    token: int
    owner: str
    checkpoint: Checkpoint
    dead_letters: int


@dataclass(frozen=True, slots=True)
class ShardState:
    """What is known of a shard.

    Attributes:
        subscription: Its name.
        shard: Its number, from 0.
        shards: Of how many.
        status: What it may do.
        checkpoint: How far it has come.
        owner: Who holds it; None if nobody does.
        leased_until: When that ends by itself.
        moved_at: When the checkpoint last moved.
        reason: Why it is paused or stopped.
        actor: Who paused it.
        dead_letters: Events that lie apart.
        version: Of the projection that built the tables.
        generation: How often they were built.
    """

    subscription: str
    shard: int
    shards: int
    status: ShardStatus
    checkpoint: Checkpoint
    owner: str | None
    leased_until: datetime | None
    moved_at: datetime | None
    reason: str | None
    actor: str | None
    dead_letters: int
    version: int = 1
    generation: int = 1


class DeadLetterStatus(StrEnum):
    """What became of a dead letter."""

    WAITING = "WAITING"
    HANDLED = "HANDLED"
    DISCARDED = "DISCARDED"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that lies apart because it, or an earlier one of its key, could not be handled.

    Attributes:
        subscription: Whose.
        shard: Its shard.
        position: Of the event.
        event_id: Of the event.
        event_type: Of the event.
        key: What it was laid apart with: later events of this key wait behind it.
        error: Why; None for one that only waits behind another.
        error_type: The error's class.
        attempts: How often it was tried.
        created_at: When it was laid down.
        status: What became of it.
        actor: Who decided that.
        reason: Why.
    """

    subscription: str
    shard: int
    position: int
    event_id: UUID
    event_type: str
    key: str
    error: str | None
    error_type: str | None
    attempts: int
    created_at: datetime | None = None
    status: DeadLetterStatus = DeadLetterStatus.WAITING
    actor: str | None = None
    reason: str | None = None


class Batch(Protocol):
    """One transaction of a shard."""

    @property
    def conn(self) -> Any:
        """The transaction, of the kind that the engine knows; what handlers write through."""
        ...

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the shard stands; not where its owner believes it, if the answer to a COMMIT was lost."""
        ...

    async def advance(self, checkpoint: Checkpoint) -> None:
        """Move the checkpoint."""
        ...

    async def blocked(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys have dead letters that wait."""
        ...

    async def lay_down(self, letters: Sequence[DeadLetter]) -> None:
        """Lay events apart."""
        ...

    async def settle(
        self, positions: Sequence[int], status: DeadLetterStatus, *, actor: str, reason: str | None
    ) -> int:
        """Say what became of dead letters; gives how many of them waited, which alone are changed."""
        ...

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed."""
        ...


class Rebuilding(Protocol):
    """One transaction that holds a subscription and its rebuild, if there is one: all shards of both."""

    @property
    def conn(self) -> Any:
        """The transaction, of the kind that the engine knows."""
        ...

    @property
    def tables(self) -> Tables:
        """What can be done to tables in the transaction."""
        ...

    @property
    def serving(self) -> Sequence[ShardState]:
        """The subscription's shards, as they were when they were held."""
        ...

    @property
    def rebuilt(self) -> Sequence[ShardState]:
        """The rebuild's shards, likewise; empty if there is none."""
        ...

    async def begin(self, *, shards: int, version: int, start: Checkpoint, actor: str) -> None:
        """Make a rebuild known; there must be none.

        Args:
            shards: Into how many parts its streams are dealt out; as many has the subscription after the swap.
            version: Of the projection that builds.
            start: Where it begins.
            actor: Who wants it, for the operators' trail, where there is one.
        """
        ...

    def batch(self, shard: int) -> Batch:
        """One of the rebuild's shards, in this transaction."""
        ...

    async def swap(self, *, actor: str) -> int:
        """Let the rebuild's shards be the subscription's, and forget the rebuild.

        They are nobody's. A subscription that was paused stays paused; one that an error had stopped is active. Dead
        letters of the rebuild stand instead of those of the old shards; what waited there otherwise was handled by the
        rebuild, and is settled so.

        Args:
            actor: Who wants it.

        Returns:
            How many dead letters were settled.
        """
        ...

    async def cancel(self) -> None:
        """Forget the rebuild."""
        ...


class ProjectionStore(Protocol):
    """The store itself. Every method may raise `StorageError`; none leaves anything half-written."""

    @property
    def read_models(self) -> ReadModelStore:
        """Read models in the same database, which take `Batch.conn`."""
        ...

    @property
    def commands(self) -> CommandStore:
        """Commands in the same database, which take what `command_transaction` gives.

        Raises:
            ConfigurationError: There are none.
        """
        ...

    def command_transaction(self, conn: Any) -> AbstractAsyncContextManager[Any]:
        """The transaction of a batch as commands take it: committed with the batch, or not at all.

        Args:
            conn: What `Batch.conn` gave.
        """
        ...

    async def register(
        self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None, version: int = 1
    ) -> None:
        """Make a subscription known; does nothing if it is, in this form or in another version.

        Args:
            subscription: Its name: 1 to 200 printable characters.
            shards: Into how many parts its streams are dealt out.
            start: Where a new one begins; None for the beginning.
            version: Of the projection.

        Raises:
            InvalidOperationError: It is known in this version with another number of shards.
        """
        ...

    async def wanted(self, subscription: str) -> frozenset[str] | None:
        """The types of events that a subscription was last said to want; None for all, or if nothing was said."""
        ...

    async def want(self, subscription: str, types: frozenset[str] | None) -> None:
        """Note which types of events a subscription wants; None for all. Does nothing if it is not known."""
        ...

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int, version: int = 1) -> list[Claim]:
        """Take shards that are active and nobody's, or whose owner's lease has ended; passes by those that are locked.

        Args:
            subscription: Its name.
            owner: Who we are; a shard that is ours already is renewed and not given again.
            seconds: How long the lease lasts.
            most: How many shards to hold in all, with those that are ours already.
            version: Of the projection; there is nothing to take if another version built the tables.
        """
        ...

    async def renew(self, claims: Sequence[Claim], *, seconds: float) -> set[int]:
        """Prolong leases; gives the shards that are still ours, and active."""
        ...

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give shards back, so that another takes them at once; what is not ours any more is left alone."""
        ...

    def batch(self, claim: Claim) -> AbstractAsyncContextManager[Batch]:
        """A transaction that holds the shard: committed at the end of the block, rolled back if it raises.

        Raises:
            StaleLeaseError: The shard is somebody else's by now, or was paused, stopped or reset.
        """
        ...

    def borrowed(self, subscription: str, shard: int) -> AbstractAsyncContextManager[Batch]:
        """A transaction that holds a shard for a moment, whoever owns it: between two batches of the owner's.

        What it must not do is to move the checkpoint, which the owner believes to know.

        Raises:
            SubscriptionNotFoundError: There is no such shard.
        """
        ...

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """Stop a shard because of an error, and give it back.

        Raises:
            StaleLeaseError: It is not ours any more.
        """
        ...

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause all shards; who holds them finishes the batch in hand. Gives how many were active."""
        ...

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Make paused and stopped shards active again. Gives how many were not."""
        ...

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """Move all shards to a checkpoint, forwards or back, taking them from whoever holds them.

        Dead letters that wait and lie behind the checkpoint's position are discarded.
        """
        ...

    async def forget(self, subscription: str, *, conn: Any = None) -> None:
        """Remove a subscription, its checkpoints and its dead letters."""
        ...

    def rebuilding(self, subscription: str) -> AbstractAsyncContextManager[Rebuilding]:
        """A transaction that holds a subscription and its rebuild, whoever owns their shards; as `batch`.

        It waits for the batches that are under way, and another that wants the same waits for it.

        Raises:
            SubscriptionNotFoundError: There is no such subscription.
        """
        ...

    def tables(self, conn: Any) -> Tables:
        """What can be done to tables in a transaction.

        Args:
            conn: What `Batch.conn` gave.
        """
        ...

    async def states(self, subscription: str | None = None) -> list[ShardState]:
        """What is known of all shards, or of one subscription's."""
        ...

    async def dead_letters(
        self,
        subscription: str,
        *,
        key: str | None = None,
        status: DeadLetterStatus | None = DeadLetterStatus.WAITING,
        after: int = 0,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Dead letters by position, a page at a time."""
        ...
