"""Appends in transactions of their own: one alone is one statement, and those that come meanwhile are one, too.

Who appends while nobody else does is served at once, by a statement made for that. Appends that come while one is under
way go together, in one statement and one COMMIT, as many as gathered while the group before them was written: one event
of many costs the server less than half of what it costs alone.

Promises. To whoever appends nothing is different: each append is written or refused by itself. One that cannot be
written with others (its stream has another version, is locked, closed, or is appended to by another of the group) goes
alone after them, and is answered as if it had never been with them. No group waits for a stranger's lock longer than
``append_current`` says; who waits alone holds up nobody.

How it fails. A connection that breaks leaves unknown what was written of a group, as it does of one append; each can be
repeated. A group that is refused is halved until the culprit stands alone. Whoever is canceled while his append is in a
group does not take it back: it is under way.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import psycopg
from psycopg.pq.abc import PGresult

from mainstay.events.log import StreamAppend
from mainstay.events.stream import StreamId
from mainstay.joining import Joiner
from mainstay.storage.postgres.database import Pool, judged
from mainstay.storage.postgres.event_rows import (
    Row,
    append_question,
    appended_from,
    current_from,
    current_parameters,
)
from mainstay.storage.postgres.passing import PassedConnection
from mainstay.storage.postgres.prepared import PreparedScript, encoded

MOST_EVENTS = 20
"""Of an append that goes with others: what is large gains nothing, and they would wait for it."""
MOST_APPENDS = 100

Answer: TypeAlias = Row | None
"""Version, position of the last event and whether it was there already; None if it must go alone."""


class Appending:
    """Appends to one stream each, without a condition.

    Args:
        pool: Open.
        alone: Appends to one stream, by the names of the queries.
        together: Appends to those of several streams that are as expected.
    """

    def __init__(self, pool: Pool, alone: Mapping[str, PreparedScript], together: PreparedScript) -> None:
        self._passed = PassedConnection(pool)
        self._alone = alone
        self._together = together
        self._being_served = 0
        self._joiner: Joiner[StreamAppend, Answer] = Joiner(self._serve, limit=MOST_APPENDS)

    async def append(self, append: StreamAppend) -> Row:
        """Write an append.

        Raises:
            MainstayError: As `mainstay.events.log.EventLog.append`.
        """
        if (
            (self._being_served or self._joiner.is_busy)
            and append.expected.version is not None
            and len(append.events) <= MOST_EVENTS
        ):
            answer = await self._joiner.serve(append)
            if answer is not None:
                return answer
        self._being_served += 1
        try:
            return await self._append_alone(append)
        finally:
            self._being_served -= 1

    async def _serve(self, appends: Sequence[StreamAppend]) -> list[Answer]:
        """Write what can be written together."""
        streams: dict[StreamId, StreamAppend] = {}
        for append in appends:
            streams.setdefault(append.stream, append)
        together = list(streams.values())
        try:
            result = await self._run(self._together, current_parameters(together))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
            return [None] * len(appends)
        except psycopg.Error as error:
            raise judged(error) from error
        written = {id(append): row for append, row in zip(together, current_from(result, together), strict=True)}
        return [written.get(id(append)) for append in appends]

    async def _append_alone(self, append: StreamAppend) -> Row:
        query, asked = append_question(append)
        try:
            return appended_from(await self._run(self._alone[query], asked))
        except psycopg.Error as error:
            raise judged(error) from error

    async def _run(self, script: PreparedScript, asked: Mapping[str, str | int | None]) -> PGresult:
        """Run a statement in a transaction of its own, past the driver's cursors, at half of what they cost."""
        values = encoded(asked)
        *_, result = await self._passed.run(lambda conn: script.run(conn, values))
        return result
