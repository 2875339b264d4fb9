"""`mainstay.projections.store.ProjectionStore` on PostgreSQL: every decision is a call of a function in `eventsource`.

What each call locks, in which order, and what a crash leaves is written in the head of its function
(``schema/functions/projections/``). A batch is one transaction on one connection of the pool: what handlers write
through `PostgresBatch.conn` and the checkpoint are one COMMIT.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any

import orjson
from psycopg_pool import AsyncConnectionPool

from mainstay.errors import InvalidOperationError, StorageUnavailableError, SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_subscription
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ProjectionStore,
    ShardState,
    ShardStatus,
)
from mainstay.serialization import storable
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    borrowed,
    execute,
    fetch_all,
    fetch_one,
    fetch_value,
    sealed,
    transaction,
)
from mainstay.storage.query_files import QueryFile


class PostgresBatch:
    """See `mainstay.projections.store.Batch`.

    Args:
        conn: In a transaction that holds the shard's row.
        sql: The room's queries.
        subscription: Its name.
        row: The shard's.
    """

    def __init__(self, conn: Connection, sql: QueryFile, subscription: str, row: dict[str, Any]) -> None:
        self._conn = conn
        self._sql = sql
        self._where = {"subscription": subscription, "shard": row["shard"]}
        self._checkpoint = _checkpoint_from(row)

    @property
    def conn(self) -> Connection:
        """The transaction; what handlers write through."""
        return self._conn

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the shard stands."""
        return self._checkpoint

    async def advance(self, checkpoint: Checkpoint) -> None:
        """Move the checkpoint; one round trip."""
        await execute(self._conn, self._sql["advance"], self._where | _checkpoint_fields(checkpoint))
        self._checkpoint = checkpoint

    async def blocked(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys have dead letters that wait; one round trip."""
        asked = self._where | {"keys": [storable(key) for key in keys]}
        found = {row["key"] for row in await fetch_all(self._conn, self._sql["blocked"], asked)}
        return {key for key in keys if storable(key) in found}

    async def lay_down(self, letters: Sequence[DeadLetter]) -> None:
        """Lay events apart; one round trip."""
        documents = [
            {
                "position": each.position,
                "event_id": each.event_id,
                "event_type": each.event_type,
                "key": storable(each.key),
                "error": _plain(each.error),
                "error_type": _plain(each.error_type),
                "attempts": each.attempts,
            }
            for each in letters
        ]
        asked = self._where | {"letters": orjson.dumps(documents).decode()}
        await execute(self._conn, self._sql["lay_down"], asked)

    async def settle(
        self, positions: Sequence[int], status: DeadLetterStatus, *, actor: str, reason: str | None
    ) -> int:
        """Say what became of dead letters; one round trip."""
        asked = self._where | {
            "positions": list(positions),
            "status": str(status),
            "actor": _plain(actor),
            "reason": _plain(reason),
        }
        return await execute(self._conn, self._sql["settle"], asked)

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed; one round trip."""
        asked = self._where | {"position": position, "error": _plain(error), "error_type": _plain(error_type)}
        await execute(self._conn, self._sql["tried"], asked)


class PostgresProjectionStore:
    """Subscriptions, kept where the read models are.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._sql = queries.load("projections")

    @cached_property
    def read_models(self) -> ReadModelStore:
        """Read models in the same database."""
        from mainstay.storage.postgres.read_models import (  # noqa: PLC0415 - SQLAlchemy, which others do without
            PostgresReadModelStore,
        )

        return PostgresReadModelStore(self.pool)

    async def register(self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None) -> None:
        """Make a subscription known; one round trip."""
        asked = {
            "subscription": checked_subscription(subscription),
            "shards": checked_shards(shards),
            **_checkpoint_fields(start or Checkpoint()),
        }
        known = await self._value("register", asked)
        if known != shards:
            message = f"subscription {subscription!r} has {known} shards, not {shards}: forget it, or keep them"
            raise InvalidOperationError(message)

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int) -> list[Claim]:
        """Take shards that are free; one round trip."""
        asked = {"subscription": subscription, "owner": owner, "seconds": seconds, "most": most}
        return [
            Claim(
                subscription,
                row["shard"],
                row["shards"],
                row["token"],
                owner,
                _checkpoint_from(row),
                row["dead_letters"],
            )
            for row in await self._rows("claim", asked)
        ]

    async def renew(self, claims: Sequence[Claim], *, seconds: float) -> set[int]:
        """Prolong leases of one subscription; one round trip."""
        if not claims:
            return set()
        return {row["shard"] for row in await self._rows("renew", _claims_fields(claims) | {"seconds": seconds})}

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give shards of one subscription back; one round trip."""
        if claims:
            await self._value("release", _claims_fields(claims))

    @asynccontextmanager
    async def batch(self, claim: Claim) -> AsyncIterator[PostgresBatch]:
        """A transaction that holds the shard; its first round trip takes the lock."""
        asked = {"subscription": claim.subscription, "shard": claim.shard, "token": claim.token}
        async with transaction(self.pool, translate_body=False) as conn:
            async with sealed(borrowed(self.pool, conn)):
                (row,) = await fetch_all(conn, self._sql["begin_batch"], asked)
            with _outages(conn):
                yield PostgresBatch(conn, self._sql, claim.subscription, row)

    @asynccontextmanager
    async def borrowed(self, subscription: str, shard: int) -> AsyncIterator[PostgresBatch]:
        """A transaction that holds the shard, whoever owns it."""
        asked = {"subscription": subscription, "shard": shard}
        async with transaction(self.pool, translate_body=False) as conn:
            async with sealed(borrowed(self.pool, conn)):
                row = await fetch_one(conn, self._sql["borrow"], asked)
            if row is None:
                raise SubscriptionNotFoundError(subscription)
            with _outages(conn):
                yield PostgresBatch(conn, self._sql, subscription, row)

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """Stop a shard because of an error; one round trip."""
        asked = {
            "subscription": claim.subscription,
            "shard": claim.shard,
            "token": claim.token,
            "reason": _plain(reason),
        }
        await self._value("stop", asked)

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause all shards; one round trip, which waits for the batches in hand."""
        asked = {"subscription": subscription, "actor": _plain(actor), "reason": _plain(reason)}
        return _known(subscription, await self._value("pause", asked))

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Let paused and stopped shards go on; one round trip."""
        return _known(subscription, await self._value("resume", {"subscription": subscription, "actor": _plain(actor)}))

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """Move all shards to a checkpoint; one round trip."""
        asked = {"subscription": subscription, "actor": _plain(actor), **_checkpoint_fields(checkpoint)}
        _known(subscription, await self._value("reset", asked, conn))

    async def forget(self, subscription: str, *, conn: Any = None) -> None:
        """Remove a subscription; one round trip."""
        await self._value("forget", {"subscription": subscription}, conn)

    async def states(self, subscription: str | None = None) -> list[ShardState]:
        """What is known of all shards, or of one subscription's; one round trip."""
        return [
            ShardState(
                row["subscription"],
                row["shard"],
                row["shards"],
                ShardStatus(row["status"]),
                _checkpoint_from(row),
                row["owner"],
                row["leased_until"],
                row["moved_at"],
                row["reason"],
                row["actor"],
                row["dead_letters"],
            )
            for row in await self._rows("states", {"subscription": subscription})
        ]

    async def dead_letters(
        self,
        subscription: str,
        *,
        key: str | None = None,
        status: DeadLetterStatus | None = DeadLetterStatus.WAITING,
        after: int = 0,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Dead letters by position; one round trip."""
        asked = {
            "subscription": subscription,
            "key": _plain(key),
            "status": None if status is None else str(status),
            "after": after,
            "limit": limit,
        }
        return [
            DeadLetter(**row | {"status": DeadLetterStatus(row["status"])})
            for row in await self._rows("dead_letters", asked)
        ]

    async def _rows(self, query: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        async with sealed(autocommit(self.pool)) as conn:
            return await fetch_all(conn, self._sql[query], asked)

    async def _value(self, query: str, asked: dict[str, Any], conn: Any = None) -> Any:
        async with sealed(borrowed(self.pool, conn)) as there:
            return await fetch_value(there, self._sql[query], asked)


def projection_store(kept: Any) -> ProjectionStore:
    """The store on PostgreSQL for a pool; a store as it is."""
    if isinstance(kept, AsyncConnectionPool):
        return PostgresProjectionStore(kept)
    store: ProjectionStore = kept
    return store


@contextmanager
def _outages(conn: Connection) -> Iterator[None]:
    """Whatever a block raises after its connection broke, it is the connection's fault, not that of the event."""
    try:
        yield
    except Exception as error:
        if conn.closed:
            raise StorageUnavailableError(f"the connection broke in the midst of a batch: {error}") from error
        raise


def _checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "position": checkpoint.position,
        "epoch": checkpoint.epoch,
        "event_id": checkpoint.event_id,
        "event_position": checkpoint.event_position,
    }


def _checkpoint_from(row: dict[str, Any]) -> Checkpoint:
    return Checkpoint(row["position"], row["epoch"], row["event_id"], row["event_position"])


def _claims_fields(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "subscription": claims[0].subscription,
        "shards": [claim.shard for claim in claims],
        "tokens": [claim.token for claim in claims],
    }


def _known(subscription: str, count: int | None) -> int:
    if count is None:
        raise SubscriptionNotFoundError(subscription)
    return count


def _plain(value: str | None) -> str | None:
    return None if value is None else storable(value)
