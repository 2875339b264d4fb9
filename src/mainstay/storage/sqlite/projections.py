"""`mainstay.projections.store.ProjectionStore` in a SQLite file, beside the events and what projections write.

What it promises. A batch is one transaction, begun with BEGIN IMMEDIATE: what handlers write through
`SQLiteBatch.conn` and the checkpoint are one COMMIT, on the disk when it returns.

How shards are locked. SQLite has one lock for the whole file, and a batch holds it from its beginning to its end. So no
two batches run at the same time, whosesoever they are, and while one runs nothing can be claimed: an owner that stalled
beyond its lease is not joined. What a claim, a renewal or a batch decides it decides under that lock, in one statement.

What that costs. While a batch's handlers run, nobody appends to the file: a handler that waits for something else keeps
all writers waiting, and after ``patience`` seconds they get a `DatabaseLockedError`. Readers wait for nobody.

How it fails. A process that is killed leaves its last batch whole or not at all; its lease ends by itself, by the clock
of the machine, which all processes on one file share. A clock that is set makes a lease end early or late: early is
harmless, because a batch looks at the token and not at the time.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import Any

import aiosqlite

from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError, InvalidOperationError, StaleLeaseError, SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_subscription, checked_version, other_shards
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ShardState,
)
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries, run
from mainstay.storage.sqlite.event_rows import as_json, micros_of
from mainstay.storage.sqlite.rebuilding import SQLiteRebuilding, SQLiteTables
from mainstay.storage.sqlite.shard_rows import (
    SQLiteBatch,
    checkpoint_fields,
    checkpoint_from,
    letter_from,
    plain,
    state_from,
)

_MICROSECONDS = 1_000_000


class SQLiteProjectionStore:
    """Subscriptions, kept where the events and the read models are.

    Args:
        database: The file; `SQLiteEventLog.projections` gives that of a log.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._sql = queries("projections")

    @cached_property
    def read_models(self) -> ReadModelStore:
        """Read models in the same file."""
        from mainstay.storage.sqlite.read_models import (  # noqa: PLC0415 - SQLAlchemy, which others do without
            SQLiteReadModelStore,
        )

        return SQLiteReadModelStore(self.database)

    @property
    def commands(self) -> CommandStore:
        """There are none in a file.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "a SQLite file holds no commands that a reaction could send: keep its checkpoints in PostgreSQL, where "
            "commands are, SubscriptionManager(store, pool)"
        )

    def command_transaction(self, conn: aiosqlite.Connection) -> AbstractAsyncContextManager[Any]:
        """There are no commands.

        Raises:
            ConfigurationError: Always.
        """
        del conn
        return self.commands.transaction()

    async def register(
        self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None, version: int = 1
    ) -> None:
        """Make a subscription known."""
        name, count = checked_subscription(subscription), checked_shards(shards)
        asked = {
            "subscription": name,
            "shards": count,
            "version": checked_version(version),
            "now": micros_of(self.database.now()),
            "numbers": as_json(range(count)),
            **checkpoint_fields(start or Checkpoint()),
        }
        known = await self._read("shards_of", (name,))
        if not known:
            async with self._write(None) as mine:
                await fetch(mine.connection, self._sql["add_subscription"], asked)
                known = await fetch(mine.connection, self._sql["shards_of"], (name,))
                if known == [(count, version)]:
                    await fetch(mine.connection, self._sql["add_shards"], asked)
        if known[0][1] == version and known[0][0] != count:
            raise InvalidOperationError(other_shards(name, known[0][0], count))

    async def wanted(self, subscription: str) -> frozenset[str] | None:
        """The types of events that a subscription was last said to want."""
        rows = await self._read("wanted", (subscription,))
        return frozenset(json.loads(rows[0][0])) if rows else None

    async def want(self, subscription: str, types: frozenset[str] | None) -> None:
        """Note which types of events a subscription wants."""
        asked = {"subscription": subscription, "types": None if types is None else as_json(sorted(types))}
        async with self._write(None) as mine:
            await fetch(mine.connection, self._sql["want"], asked)

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int, version: int = 1) -> list[Claim]:
        """Take shards that are free; writes only if there are some, and waits for the batch in hand."""
        now = micros_of(self.database.now())
        asked = {"subscription": subscription, "owner": owner, "now": now, "version": checked_version(version)}
        ((free, held),) = await self._read("free", asked)
        if not free or held >= most or self.database.writes_here():
            return []
        async with self._write(None) as mine:
            now = micros_of(self.database.now())
            asked |= {"now": now, "until": now + _micros(seconds), "most": most}
            rows = await fetch(mine.connection, self._sql["claim"], asked)
        return [
            Claim(subscription, shard, shards, token, owner, checkpoint_from(checkpoint), letters)
            for shard, token, *checkpoint, shards, letters in sorted(rows)
        ]

    async def renew(self, claims: Sequence[Claim], *, seconds: float) -> set[int]:
        """Prolong leases of one subscription, after the batch in hand, if there is one.

        Inside a batch nothing is prolonged: nobody can claim anything until it ends.
        """
        if not claims:
            return set()
        asked = _claims_fields(claims)
        if not self.database.writes_here():
            async with self._write(None) as mine:
                until = micros_of(self.database.now()) + _micros(seconds)
                await fetch(mine.connection, self._sql["renew"], asked | {"until": until})
                return {row[0] for row in await fetch(mine.connection, self._sql["kept"], asked)}
        return {row[0] for row in await self._read("kept", asked)}

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give shards of one subscription back."""
        if claims:
            async with self._write(None) as mine:
                await fetch(mine.connection, self._sql["release"], _claims_fields(claims))

    @asynccontextmanager
    async def batch(self, claim: Claim) -> AsyncIterator[SQLiteBatch]:
        """A transaction that holds the file."""
        asked = {"subscription": claim.subscription, "shard": claim.shard, "token": claim.token}
        async with self.database.write() as mine:
            yield await self._begun(mine, asked, claim)

    @asynccontextmanager
    async def borrowed(self, subscription: str, shard: int) -> AsyncIterator[SQLiteBatch]:
        """A transaction that holds the file, whoever owns the shard."""
        asked = {"subscription": subscription, "shard": shard}
        async with self.database.write() as mine:
            yield await self._begun(mine, asked, None)

    async def _begun(self, mine: SQLiteTransaction, asked: dict[str, Any], claim: Claim | None) -> SQLiteBatch:
        mine.connection.row_factory = None  # what a handler of the batch before has set
        with self.database.translated():
            rows = await fetch(mine.connection, self._sql["borrow" if claim is None else "begin_batch"], asked)
        if not rows and claim is None:
            raise SubscriptionNotFoundError(asked["subscription"])
        if not rows:
            message = (
                f"shard {asked['shard']} of subscription {asked['subscription']!r} is somebody else's by now, or was "
                "paused, stopped or reset"
            )
            raise StaleLeaseError(message)
        where = {"subscription": asked["subscription"], "shard": asked["shard"]}
        return SQLiteBatch(self.database, self._sql, mine, where, checkpoint_from(rows[0]))

    @asynccontextmanager
    async def rebuilding(self, subscription: str) -> AsyncIterator[SQLiteRebuilding]:
        """A transaction that holds the file."""
        async with self.database.write() as mine:
            mine.connection.row_factory = None
            held = SQLiteRebuilding(self.database, mine, self._sql, subscription)
            await held.hold()
            yield held

    def tables(self, conn: aiosqlite.Connection) -> SQLiteTables:
        """What can be done to tables in a transaction."""
        return SQLiteTables(self.database, conn, self._sql)

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """Stop a shard because of an error."""
        asked = {"subscription": claim.subscription, "shard": claim.shard, "reason": plain(reason)}
        async with self.batch(claim) as batch:
            with self.database.translated():
                await fetch(batch.conn, self._sql["stop"], asked)

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause all shards, after the batch in hand."""
        asked = {"subscription": subscription, "actor": plain(actor), "reason": plain(reason)}
        async with self._write(None) as mine:
            await self._known(mine, subscription)
            return len(await fetch(mine.connection, self._sql["pause"], asked))

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Let paused and stopped shards go on."""
        asked = {"subscription": subscription, "actor": plain(actor)}
        async with self._write(None) as mine:
            await self._known(mine, subscription)
            return len(await fetch(mine.connection, self._sql["resume"], asked))

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """Move all shards to a checkpoint."""
        asked = {
            "subscription": subscription,
            "actor": plain(actor),
            "now": micros_of(self.database.now()),
            **checkpoint_fields(checkpoint),
        }
        async with self._write(conn) as mine:
            await self._known(mine, subscription)
            await fetch(mine.connection, self._sql["reset"], asked)
            await fetch(mine.connection, self._sql["discard"], asked)

    async def forget(self, subscription: str, *, conn: Any = None) -> None:
        """Remove a subscription."""
        async with self._write(conn) as mine:
            for query in ("forget_letters", "forget_shards", "forget"):
                await run(mine.connection, self._sql[query], (subscription,))

    async def states(self, subscription: str | None = None) -> list[ShardState]:
        """What is known of all shards, or of one subscription's."""
        return [state_from(row) for row in await self._read("states", {"subscription": subscription})]

    async def dead_letters(
        self,
        subscription: str,
        *,
        key: str | None = None,
        status: DeadLetterStatus | None = DeadLetterStatus.WAITING,
        after: int = 0,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Dead letters by position."""
        asked = {
            "subscription": subscription,
            "key": plain(key),
            "status": None if status is None else str(status),
            "after": after,
            "limit": limit,
        }
        return [letter_from(row) for row in await self._read("dead_letters", asked)]

    async def _read(self, query: str, asked: Any) -> list[Any]:
        async with self.database.read() as connection:
            return await fetch(connection, self._sql[query], asked)

    @asynccontextmanager
    async def _write(self, conn: Any) -> AsyncIterator[SQLiteTransaction]:
        async with self.database.within(conn) as mine:
            with self.database.translated():
                yield mine

    async def _known(self, mine: SQLiteTransaction, subscription: str) -> None:
        if not await fetch(mine.connection, self._sql["shards_of"], (subscription,)):
            raise SubscriptionNotFoundError(subscription)


def _claims_fields(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "subscription": claims[0].subscription,
        "claims": as_json((claim.shard, claim.token) for claim in claims),
    }


def _micros(seconds: float) -> int:
    return round(seconds * _MICROSECONDS)
