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

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any
from uuid import UUID

import aiosqlite

from mainstay.errors import InvalidOperationError, StaleLeaseError, SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_subscription
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ShardState,
    ShardStatus,
)
from mainstay.serialization import storable
from mainstay.storage.query_files import QueryFile
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries, run, run_many
from mainstay.storage.sqlite.event_rows import as_json, micros_of, time_of

_MICROSECONDS = 1_000_000


class SQLiteBatch:
    """See `mainstay.projections.store.Batch`.

    Args:
        database: The file.
        sql: The room's queries.
        mine: The transaction.
        where: Which shard: its subscription's name and its number.
        checkpoint: Where it stands.
    """

    def __init__(
        self, database: Database, sql: QueryFile, mine: SQLiteTransaction, where: dict[str, Any], checkpoint: Checkpoint
    ) -> None:
        self._database = database
        self._sql = sql
        self._mine = mine
        self._where = where
        self._checkpoint = checkpoint

    @property
    def conn(self) -> aiosqlite.Connection:
        """The connection, in the transaction; what handlers write through, and may pass as ``conn``."""
        return self._mine.connection

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the shard stands."""
        return self._checkpoint

    async def advance(self, checkpoint: Checkpoint) -> None:
        """Move the checkpoint."""
        await self._ask("advance", {**_checkpoint_fields(checkpoint), "now": self._now()})
        self._checkpoint = checkpoint

    async def blocked(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys have dead letters that wait."""
        found = {row[0] for row in await self._ask("blocked", {"keys": as_json(map(storable, keys))})}
        return {key for key in keys if storable(key) in found}

    async def lay_down(self, letters: Sequence[DeadLetter]) -> None:
        """Lay events apart."""
        now = self._now()
        rows = [
            (
                self._where["subscription"],
                self._where["shard"],
                each.position,
                each.event_id.bytes,
                each.event_type,
                storable(each.key),
                _plain(each.error),
                _plain(each.error_type),
                each.attempts,
                now,
            )
            for each in letters
        ]
        self._mine.require()
        with self._database.translated():
            await run_many(self.conn, self._sql["lay_down"], rows)

    async def settle(
        self, positions: Sequence[int], status: DeadLetterStatus, *, actor: str, reason: str | None
    ) -> int:
        """Say what became of dead letters."""
        said = {"status": str(status), "actor": _plain(actor), "reason": _plain(reason)}
        return len(await self._ask("settle", {"positions": as_json(positions), "now": self._now(), **said}))

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed."""
        said = {"error": _plain(error), "error_type": _plain(error_type)}
        await self._ask("tried", {"position": position, **said})

    async def _ask(self, query: str, asked: dict[str, Any]) -> list[Any]:
        self._mine.require()
        with self._database.translated():
            return await fetch(self.conn, self._sql[query], self._where | asked)

    def _now(self) -> int:
        return micros_of(self._database.now())


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

    async def register(self, subscription: str, *, shards: int = 1, start: Checkpoint | None = None) -> None:
        """Make a subscription known."""
        name, count = checked_subscription(subscription), checked_shards(shards)
        asked = {
            "subscription": name,
            "shards": count,
            "now": micros_of(self.database.now()),
            "numbers": as_json(range(count)),
            **_checkpoint_fields(start or Checkpoint()),
        }
        known = await self._read("shards_of", (name,))
        if not known:
            async with self._write(None) as mine:
                await fetch(mine.connection, self._sql["add_subscription"], asked)
                known = await fetch(mine.connection, self._sql["shards_of"], (name,))
                if known[0][0] == count:
                    await fetch(mine.connection, self._sql["add_shards"], asked)
        if known[0][0] != count:
            message = f"subscription {name!r} has {known[0][0]} shards, not {count}: forget it, or keep them"
            raise InvalidOperationError(message)

    async def claim(self, subscription: str, *, owner: str, seconds: float, most: int) -> list[Claim]:
        """Take shards that are free; writes only if there are some, and waits for the batch in hand."""
        now = micros_of(self.database.now())
        asked = {"subscription": subscription, "owner": owner, "now": now}
        ((free, held),) = await self._read("free", asked)
        if not free or held >= most or self.database.writes_here():
            return []
        async with self._write(None) as mine:
            now = micros_of(self.database.now())
            asked |= {"now": now, "until": now + _micros(seconds), "most": most}
            rows = await fetch(mine.connection, self._sql["claim"], asked)
        return [
            Claim(subscription, shard, shards, token, owner, _checkpoint_from(checkpoint), letters)
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
        return SQLiteBatch(self.database, self._sql, mine, where, _checkpoint_from(rows[0]))

    async def stop(self, claim: Claim, *, reason: str) -> None:
        """Stop a shard because of an error."""
        asked = {"subscription": claim.subscription, "shard": claim.shard, "reason": _plain(reason)}
        async with self.batch(claim) as batch:
            with self.database.translated():
                await fetch(batch.conn, self._sql["stop"], asked)

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause all shards, after the batch in hand."""
        asked = {"subscription": subscription, "actor": _plain(actor), "reason": _plain(reason)}
        async with self._write(None) as mine:
            await self._known(mine, subscription)
            return len(await fetch(mine.connection, self._sql["pause"], asked))

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Let paused and stopped shards go on."""
        asked = {"subscription": subscription, "actor": _plain(actor)}
        async with self._write(None) as mine:
            await self._known(mine, subscription)
            return len(await fetch(mine.connection, self._sql["resume"], asked))

    async def reset(self, subscription: str, checkpoint: Checkpoint, *, actor: str, conn: Any = None) -> None:
        """Move all shards to a checkpoint."""
        asked = {
            "subscription": subscription,
            "actor": _plain(actor),
            "now": micros_of(self.database.now()),
            **_checkpoint_fields(checkpoint),
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
        found = []
        for row in await self._read("states", {"subscription": subscription}):
            name, shard, shards, status, *checkpoint, owner, leased_until, moved_at, reason, actor, letters = row
            found.append(
                ShardState(
                    name,
                    shard,
                    shards,
                    ShardStatus(status),
                    _checkpoint_from(checkpoint),
                    owner,
                    None if leased_until is None else time_of(leased_until),
                    None if moved_at is None else time_of(moved_at),
                    reason,
                    actor,
                    letters,
                )
            )
        return found

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
            "key": _plain(key),
            "status": None if status is None else str(status),
            "after": after,
            "limit": limit,
        }
        return [_letter_from(row) for row in await self._read("dead_letters", asked)]

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


def _checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "position": checkpoint.position,
        "epoch": checkpoint.epoch and checkpoint.epoch.bytes,
        "event_id": checkpoint.event_id and checkpoint.event_id.bytes,
        "event_position": checkpoint.event_position,
    }


def _checkpoint_from(row: Sequence[Any]) -> Checkpoint:
    position, epoch, event_id, event_position = row
    return Checkpoint(position, epoch and UUID(bytes=epoch), event_id and UUID(bytes=event_id), event_position)


def _letter_from(row: Sequence[Any]) -> DeadLetter:
    subscription, shard, position, event_id, *what, created_at, status, actor, reason = row
    event_type, key, error, error_type, attempts = what
    return DeadLetter(
        subscription,
        shard,
        position,
        UUID(bytes=event_id),
        event_type,
        key,
        error,
        error_type,
        attempts,
        time_of(created_at),
        DeadLetterStatus(status),
        actor,
        reason,
    )


def _claims_fields(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "subscription": claims[0].subscription,
        "claims": as_json((claim.shard, claim.token) for claim in claims),
    }


def _micros(seconds: float) -> int:
    return round(seconds * _MICROSECONDS)


def _plain(value: str | None) -> str | None:
    return None if value is None else storable(value)
