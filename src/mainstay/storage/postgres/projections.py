"""`mainstay.projections.store.ProjectionStore` on PostgreSQL: every decision is a call of a function in `eventsource`.

What each call locks, in which order, and what a crash leaves is written in the head of its function
(``schema/functions/projections/``). A batch is one transaction on one connection of the pool: what handlers write
through `PostgresBatch.conn` and the checkpoint are one COMMIT.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay.commands.store import CommandStore
from mainstay.errors import InvalidOperationError, StorageUnavailableError, SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_subscription, checked_version, other_shards
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ProjectionStore,
    ShardState,
)
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    borrowed,
    fetch_all,
    fetch_one,
    fetch_value,
    sealed,
    transaction,
)
from mainstay.storage.postgres.rebuilding import PostgresRebuilding, PostgresTables
from mainstay.storage.postgres.shard_rows import (
    PostgresBatch,
    checkpoint_fields,
    checkpoint_from,
    letter_of,
    plain,
    state_from,
)
from mainstay.storage.postgres.trail import deciding


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

    @cached_property
    def commands(self) -> CommandStore:
        """Commands in the same database."""
        return PostgresCommandStore(self.pool)

    def command_transaction(self, conn: Connection) -> AbstractAsyncContextManager[Connection]:
        """The very transaction."""
        return nullcontext(conn)

    async def register(
        self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None, version: int = 1
    ) -> None:
        """Make a subscription known; one round trip."""
        asked = {
            "subscription": checked_subscription(subscription),
            "shards": checked_shards(shards),
            "version": checked_version(version),
            **checkpoint_fields(start or Checkpoint()),
        }
        (row,) = await self._rows("register", asked)
        if row["version"] == version and row["shards"] != shards:
            raise InvalidOperationError(other_shards(subscription, row["shards"], shards))

    async def wanted(self, subscription: str) -> frozenset[str] | None:
        """The types of events that a subscription was last said to want; one round trip."""
        rows = await self._rows("wanted", {"subscription": subscription})
        return frozenset(rows[0]["wanted"]) if rows else None

    async def want(self, subscription: str, types: frozenset[str] | None) -> None:
        """Note which types of events a subscription wants; one round trip."""
        asked = {"subscription": subscription, "types": None if types is None else sorted(types)}
        await self._rows("want", asked)

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int, version: int = 1) -> list[Claim]:
        """Take shards that are free; one round trip."""
        asked = {
            "subscription": subscription,
            "owner": owner,
            "seconds": seconds,
            "most": most,
            "version": checked_version(version),
        }
        return [
            Claim(
                subscription,
                row["shard"],
                row["shards"],
                row["token"],
                owner,
                checkpoint_from(row),
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

    @asynccontextmanager
    async def rebuilding(self, subscription: str) -> AsyncIterator[PostgresRebuilding]:
        """A transaction that holds a subscription and its rebuild."""
        async with transaction(self.pool, translate_body=False) as conn:
            held = PostgresRebuilding(self.pool, conn, self._sql, subscription)
            await held.hold()
            with _outages(conn):
                yield held

    def tables(self, conn: Connection) -> PostgresTables:
        """What can be done to tables in a transaction."""
        return PostgresTables(self.pool, conn, self._sql)

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """Stop a shard because of an error; one round trip."""
        asked = {
            "subscription": claim.subscription,
            "shard": claim.shard,
            "token": claim.token,
            "reason": plain(reason),
        }
        await self._value("stop", asked)

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause all shards; one round trip, which waits for the batches in hand."""
        asked = {"subscription": subscription, "actor": plain(actor), "reason": plain(reason)}
        async with deciding(self.pool) as conn:
            return _known(subscription, await self._value("pause", asked, conn))

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Let paused and stopped shards go on; one round trip."""
        async with deciding(self.pool) as conn:
            asked = {"subscription": subscription, "actor": plain(actor)}
            return _known(subscription, await self._value("resume", asked, conn))

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """Move all shards to a checkpoint; one round trip."""
        asked = {"subscription": subscription, "actor": plain(actor), **checkpoint_fields(checkpoint)}
        _known(subscription, await self._value("reset", asked, conn))

    async def forget(self, subscription: str, *, conn: Any = None) -> None:
        """Remove a subscription; one round trip."""
        async with deciding(self.pool) if conn is None else nullcontext(conn) as there:
            await self._value("forget", {"subscription": subscription}, there)

    async def states(self, subscription: str | None = None) -> list[ShardState]:
        """What is known of all shards, or of one subscription's; one round trip."""
        return [state_from(row) for row in await self._rows("states", {"subscription": subscription})]

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
            "key": plain(key),
            "status": None if status is None else str(status),
            "after": after,
            "limit": limit,
        }
        return [letter_of(row) for row in await self._rows("dead_letters", asked)]

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
