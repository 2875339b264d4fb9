"""What the parts of the suite share."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    ProjectionStore,
)

NAME = "order totals"
LEASE = 60.0
EPOCH = uuid4()
FAR_FUTURE = 10_000_000


class OnPurposeError(Exception):
    """Ends a batch."""


def at(position: int) -> Checkpoint:
    """A checkpoint on the event at a position."""
    return Checkpoint(position, EPOCH, uuid4(), position)


def letter(position: int, **changes: Any) -> DeadLetter:
    """A dead letter of one key."""
    fields: dict[str, Any] = {
        "subscription": NAME,
        "shard": 0,
        "position": position,
        "event_id": uuid4(),
        "event_type": "OrderPlaced",
        "key": "Order/1",
        "error": "no such customer",
        "error_type": "LookupError",
        "attempts": 3,
    }
    return DeadLetter(**fields | changes)


class ProjectionStoreSuite(ABC):
    """What a subclass gives, and the words that the tests are written in."""

    @abstractmethod
    async def expire_leases(self, store: Any) -> None:
        """Let every lease end, as time does."""

    @asynccontextmanager
    async def claimed(self, store: ProjectionStore, *, owner: str = "a") -> AsyncIterator[Claim]:
        """The one shard of the subscription, taken."""
        await store.register(NAME)
        (claim,) = await store.claim(NAME, owner=owner, seconds=LEASE, most=1)
        yield claim

    async def position(self, store: ProjectionStore) -> int:
        """Where the first shard stands."""
        return (await store.states(NAME))[0].checkpoint.position
