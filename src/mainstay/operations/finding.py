"""Finding anything by its id, or by the beginning of it: whatever kind of thing that is."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from mainstay.deciding.store import stream_name
from mainstay.errors import InvalidInputError
from mainstay.events.log import RecordedEvent, StreamState
from mainstay.storage.postgres.commands import command_store
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.searching import PostgresSearch

SHOWN: Final = 20
"""Hits of one kind at most."""
_LONGEST: Final = 500
_HEX: Final = re.compile(r"[0-9a-f]{6,32}")
_LARGEST: Final = 2**63 - 1


class HitKind(StrEnum):
    """What was found."""

    COMMAND = "COMMAND"
    BATCH = "BATCH"
    PROCESS = "PROCESS"
    ACTION = "ACTION"
    EVENT = "EVENT"
    CONVERSATION = "CONVERSATION"
    STREAM = "STREAM"
    KEY = "KEY"


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found.

    Args:
        kind: What it is.
        id: Its id; the position of an event.
        name: Its type, or the name that people gave it.
        place: The domain of a command, a batch, a process or a key; the category of a stream.
        status: Where it stands, if it has a status.
        at: When it was sent, created or recorded.
        tenant: Whose stream it is.
    """

    kind: HitKind
    id: str
    name: str
    place: str | None = None
    status: str | None = None
    at: datetime | None = None
    tenant: str | None = None


class Finder:
    """Finds anything by its id.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._store = PostgresSearch(pool)
        self._log = PostgresEventLog(pool)
        self._keys = command_store(pool).keys

    async def find(self, text: str) -> list[Hit]:
        """What has this id, or an id that begins so.

        Args:
            text: The id of a command, batch, process, operators' action, event or conversation, or six digits of its
                beginning (not of events and conversations, which are found by whole ids); a position in the feed; a
                stream's id or its beginning, with its category and a slash before it, or without; a key that
                commands wait for.

        Raises:
            InvalidInputError: There is nothing to look for, or it is too long to be an id.
        """
        wanted = text.strip().strip("\"'{}<>,;")
        if not wanted or len(wanted) > _LONGEST or not wanted.isprintable():
            raise InvalidInputError(f"what is looked for has 1 to {_LONGEST} printable characters")
        hits = await self._with_id(wanted)
        hits += [_stream(each) for each in await self._streams(wanted)]
        hits += [
            Hit(HitKind.KEY, each.key, each.key, each.domain, None, each.since)
            for each in await self._keys.list(None, wanted, blocked=False, limit=SHOWN, offset=0)
        ]
        hits += await self._at(wanted)
        return hits or await self._by_whole_id(wanted)

    async def _with_id(self, wanted: str) -> list[Hit]:
        digits = wanted.lower().replace("-", "")
        if not _HEX.fullmatch(digits):
            return []
        rows = await self._store.known_as(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")), limit=SHOWN)
        return [
            Hit(HitKind(row["kind"]), str(row["id"]), row["name"], row["place"], row["status"], row["at"])
            for row in rows
        ]

    async def _streams(self, wanted: str) -> list[StreamState]:
        category, slash, rest = wanted.partition("/")
        try:
            if slash and rest:
                return await self._log.streams(category=category, prefix=rest, limit=SHOWN)
            return await self._log.streams(prefix=wanted, limit=SHOWN)
        except InvalidInputError:  # it cannot be a stream's name
            return []

    async def _at(self, wanted: str) -> list[Hit]:
        digits = wanted.replace(",", "").replace("_", "")
        if not (digits.isascii() and digits.isdecimal()) or not 0 < int(digits) <= _LARGEST:
            return []
        found = await self._log.event_at(int(digits))
        return [] if found is None else [_event(found)]

    async def _by_whole_id(self, wanted: str) -> list[Hit]:
        """What an index leads to that is dearer than the others: an event, a conversation."""
        try:
            key = UUID(wanted)
        except ValueError:
            return []
        found = await self._log.event_known_as(key)
        if found is not None:
            return [_event(found)]
        talk = await self._store.is_conversation(key) or bool(await self._log.conversation([key], limit=1))
        return [Hit(HitKind.CONVERSATION, str(key), "conversation")] if talk else []


def _event(event: RecordedEvent) -> Hit:
    return Hit(
        HitKind.EVENT, str(event.position), event.event.event_type, event.stream.category, None, event.recorded_at
    )


def _stream(state: StreamState) -> Hit:
    category, stream_id, tenant = stream_name(state.stream)
    return Hit(HitKind.STREAM, stream_id, category, category, None, state.created_at, tenant)
