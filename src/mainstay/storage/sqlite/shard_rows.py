"""A shard as a SQLite file has it: its batch, and its rows."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import aiosqlite

from mainstay.projections.store import Checkpoint, DeadLetter, DeadLetterStatus, ShardState, ShardStatus
from mainstay.serialization import storable
from mainstay.storage.query_files import QueryFile
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, run_many
from mainstay.storage.sqlite.event_rows import as_json, micros_of, time_of


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
        await self._ask("advance", {**checkpoint_fields(checkpoint), "now": self._now()})
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
                plain(each.error),
                plain(each.error_type),
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
        said = {"status": str(status), "actor": plain(actor), "reason": plain(reason)}
        return len(await self._ask("settle", {"positions": as_json(positions), "now": self._now(), **said}))

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed."""
        said = {"error": plain(error), "error_type": plain(error_type)}
        await self._ask("tried", {"position": position, **said})

    async def _ask(self, query: str, asked: dict[str, Any]) -> list[Any]:
        self._mine.require()
        with self._database.translated():
            return await fetch(self.conn, self._sql[query], self._where | asked)

    def _now(self) -> int:
        return micros_of(self._database.now())


def checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """What our statements take."""
    return {
        "position": checkpoint.position,
        "epoch": checkpoint.epoch and checkpoint.epoch.bytes,
        "event_id": checkpoint.event_id and checkpoint.event_id.bytes,
        "event_position": checkpoint.event_position,
    }


def checkpoint_from(row: Sequence[Any]) -> Checkpoint:
    """Where a shard stands."""
    position, epoch, event_id, event_position = row
    return Checkpoint(position, epoch and UUID(bytes=epoch), event_id and UUID(bytes=event_id), event_position)


def state_from(row: Sequence[Any]) -> ShardState:
    """What is known of a shard."""
    name, shard, shards, status, *checkpoint, owner, leased_until, moved_at, reason, actor, letters = row[:-2]
    return ShardState(
        name,
        shard,
        shards,
        ShardStatus(status),
        checkpoint_from(checkpoint),
        owner,
        None if leased_until is None else time_of(leased_until),
        None if moved_at is None else time_of(moved_at),
        reason,
        actor,
        letters,
        *row[-2:],
    )


def letter_from(row: Sequence[Any]) -> DeadLetter:
    """An event that lies apart."""
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


def plain(value: str | None) -> str | None:
    """A text as the database can hold it."""
    return None if value is None else storable(value)
