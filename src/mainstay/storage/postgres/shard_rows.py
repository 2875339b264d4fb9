"""A shard as PostgreSQL has it: its batch, and its rows."""

from collections.abc import Sequence
from typing import Any

import orjson

from mainstay.projections.store import Checkpoint, DeadLetter, DeadLetterStatus, ShardState, ShardStatus
from mainstay.serialization import storable
from mainstay.storage.postgres.database import Connection, execute, fetch_all
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
        self._checkpoint = checkpoint_from(row)

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
        await execute(self._conn, self._sql["advance"], self._where | checkpoint_fields(checkpoint))
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
                "error": plain(each.error),
                "error_type": plain(each.error_type),
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
            "actor": plain(actor),
            "reason": plain(reason),
        }
        return await execute(self._conn, self._sql["settle"], asked)

    async def tried(self, position: int, *, error: str, error_type: str) -> None:
        """A dead letter was tried once more and failed; one round trip."""
        asked = self._where | {"position": position, "error": plain(error), "error_type": plain(error_type)}
        await execute(self._conn, self._sql["tried"], asked)


def checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """What our statements take."""
    return {
        "position": checkpoint.position,
        "epoch": checkpoint.epoch,
        "event_id": checkpoint.event_id,
        "event_position": checkpoint.event_position,
    }


def checkpoint_from(row: dict[str, Any]) -> Checkpoint:
    """Where a shard stands."""
    return Checkpoint(row["position"], row["epoch"], row["event_id"], row["event_position"])


def letter_of(row: dict[str, Any]) -> DeadLetter:
    """A dead letter out of its row."""
    return DeadLetter(**row | {"status": DeadLetterStatus(row["status"])})


def state_from(row: dict[str, Any]) -> ShardState:
    """What is known of a shard."""
    return ShardState(
        row["subscription"],
        row["shard"],
        row["shards"],
        ShardStatus(row["status"]),
        checkpoint_from(row),
        row["owner"],
        row["leased_until"],
        row["moved_at"],
        row["reason"],
        row["actor"],
        row["dead_letters"],
        row["version"],
        row["generation"],
    )


def plain(value: str | None) -> str | None:
    """A text as the database can hold it."""
    return None if value is None else storable(value)
