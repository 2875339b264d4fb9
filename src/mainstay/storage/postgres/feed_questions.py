"""What operators ask of PostgreSQL about events and projections, beyond what the rooms ask themselves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mainstay.events.log import FeedFilter
from mainstay.events.stream import StreamId
from mainstay.projections.store import DeadLetter, ShardStatus
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, fetch_one, fetch_value, sealed
from mainstay.storage.postgres.event_rows import feed_parameters, name_of
from mainstay.storage.postgres.shard_rows import letter_of

MOST_COUNTED = 100_000
"""Positions behind a checkpoint up to which the events are counted; from there on it is that number."""
LOOKED_AT = 20_000
"""Positions among which the events of a tenant are looked for, as eventsource.last_positions says."""
_SMALL = 64 * 1024 * 1024
"""Bytes up to which a table is counted."""


@dataclass(frozen=True, slots=True)
class EventNumbers:
    """How many events there are.

    Attributes:
        events: Of all streams.
        streams: That have events.
        exact: They were counted; otherwise it is what PostgreSQL knew when it last analyzed the tables.
        horizon: How far the feed can be read.
        last_seconds: How long ago the last event was recorded; None if there is none.
    """

    events: int
    streams: int
    exact: bool
    horizon: int
    last_seconds: float | None


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far a shard is behind.

    Attributes:
        subscription: Whose.
        shard: Its number.
        horizon: How far the feed can be read.
        events: Events after its checkpoint, whether the projection wants them or not.
        exact: They were counted; otherwise there are so many positions.
        seconds: How long ago the first of them was recorded; 0 without any.
    """

    subscription: str
    shard: int
    horizon: int
    events: int
    exact: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class SubscriptionOverview:
    """A subscription, and how far it is behind.

    Attributes:
        subscription: Its name.
        shards: Into how many it is split.
        status: That of the shard that fares worst.
        position: Where the shard stands that is furthest behind.
        horizon: How far the feed can be read.
        events: Events after that, whether the projection wants them or not.
        exact: They were counted; otherwise there are so many positions.
        seconds: How long ago the first of them was recorded; 0 without any.
        dead_letters: Events that lie apart.
        owned: Shards that somebody holds.
        owners: Who, by name.
        reason: Why it is stopped or paused.
        actor: Who paused it, or changed it last.
        version: Of the projection that made the tables.
        generation: How often they were built.
    """

    subscription: str
    shards: int
    status: ShardStatus
    position: int
    horizon: int
    events: int
    exact: bool
    seconds: float
    dead_letters: int
    owned: int
    owners: tuple[str, ...]
    reason: str | None
    actor: str | None
    version: int
    generation: int


class FeedQuestions:
    """Questions about events and projections.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("feed")

    async def place_in_time(self, since: datetime) -> int:
        """A position before which everything was recorded before a moment."""
        return int(await self._value("place_in_time", {"since": since}))

    async def place_before_last(self, count: int, wanted: FeedFilter) -> int:
        """The position after which the last so many wanted events stand."""
        asked = feed_parameters(0, 1, wanted, archived=True)
        return int(await self._value("place_before_last", asked | {"count": count}))

    async def last_positions(self, count: int, wanted: FeedFilter, up_to: int) -> list[int]:
        """The positions of the last so many wanted events, the highest first; of a tenant, among `LOOKED_AT`.

        Args:
            count: So many.
            wanted: Which events.
            up_to: Not beyond this position; nor is it beyond a horizon that was asked for before.
        """
        asked = feed_parameters(0, 1, wanted, archived=True) | {"count": count, "up_to": up_to}
        return list(await self._value("last_positions", asked))

    async def kinds(self, limit: int) -> list[tuple[str, str]]:
        """Categories and the types of their events, sorted."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["kinds"], {"limit": limit})
        return [(row["category"], row["event_type"]) for row in rows]

    async def find_event(self, event_id: UUID, stream: StreamId | None = None) -> list[int]:
        """Two positions at most where an event of this id stands; without a stream all events are looked at."""
        asked: dict[str, Any] = {"event_id": event_id}
        if stream is not None:
            asked |= name_of(stream)
        query = "find_event" if stream is None else "find_event_in_stream"
        async with sealed(autocommit(self._pool)) as conn:
            return [row["position"] for row in await fetch_all(conn, self._sql[query], asked)]

    async def numbers(self) -> EventNumbers:
        """How many events there are."""
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["numbers"], {"small": _SMALL})
        return EventNumbers(**row or {})

    async def overview(self, subscription: str | None = None) -> list[SubscriptionOverview]:
        """How it is with all subscriptions, or with one, by name; one round trip, however many shards they have."""
        asked = {"subscription": subscription, "most": MOST_COUNTED}
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["overview"], asked)
        return [
            SubscriptionOverview(
                **row
                | {
                    "status": ShardStatus(row["status"]),
                    "owners": tuple(row["owners"]),
                    "seconds": max(0.0, row["seconds"] or 0.0),
                }
            )
            for row in rows
        ]

    async def is_known(self, subscription: str) -> bool:
        """Whether there is a subscription of this name."""
        return bool(await self._value("is_known", {"subscription": subscription}))

    async def lags(self, subscription: str | None = None) -> list[ShardLag]:
        """How far all shards are behind, or one subscription's."""
        asked = {"subscription": subscription, "most": MOST_COUNTED}
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["lags"], asked)
        return [ShardLag(**row | {"seconds": max(0.0, row["seconds"] or 0.0)}) for row in rows]

    async def letter_groups(self, subscription: str | None, limit: int | None) -> list[tuple[DeadLetter, int]]:
        """The first dead letter that waits of each key, and how many do, by subscription and position."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["letter_groups"], {"subscription": subscription, "limit": limit})
        counts = [row.pop("count") for row in rows]
        return [(letter_of(row), count) for row, count in zip(rows, counts, strict=True)]

    async def _value(self, query: str, asked: dict[str, Any]) -> Any:
        async with sealed(autocommit(self._pool)) as conn:
            return await fetch_value(conn, self._sql[query], asked)
