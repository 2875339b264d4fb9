"""What a transaction changes in tables that are not ours, told without a trigger and without the tables' help.

The server counts, for each table, what a transaction has written so far; the counts before and after make the
difference. Which rows they are is seen by the transaction that wrote them: rows that are there for us, and whose writer
is still under way, are ours, also those of our savepoints. To find them a table is read as a whole, so large ones are
only counted. What stood there before is asked when the transaction has been rolled back.
"""

from typing import Any, Self

import orjson

from mainstay.commands.dry_run import TriedRow, TriedTable
from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import Rows, rows_in
from mainstay.storage.postgres.database import Pool, autocommit, fetch_value, sealed

MOST_ROWS = 100
"""Rows of a table that are shown."""
LARGEST = 64 * 1024 * 1024
"""Bytes of a table that is read for them."""


class TransactionWatch:
    """`mainstay.commands.lending.Watch` on PostgreSQL; see above.

    Args:
        pool: To ask what was there before.
        conn: The transaction.
        before: What was counted when the watch began.
        number: Of the transaction.
    """

    def __init__(self, pool: Pool, conn: Any, before: Rows, number: int) -> None:
        self._pool = pool
        self._conn = conn
        self._sql = queries.load("watching")
        self._before = {row[0]: row[2:5] for row in before}
        self._number = number
        self._seen: list[tuple[int, str, tuple[int, int, int], list[dict[str, Any]]]] = []

    @classmethod
    async def begin(cls, pool: Pool, conn: Any) -> Self:
        """Watch from now on."""
        sql = queries.load("watching")
        ((number,),) = await rows_in(conn, sql["number_transaction"], {})
        return cls(pool, conn, await rows_in(conn, sql["count_changes"], {}), number)

    async def look(self) -> None:
        """See what has been changed up to now."""
        try:
            ((number,),) = await rows_in(self._conn, self._sql["number_transaction"], {})
        except InvalidInputError:
            number = None
        if number != self._number:
            raise InvalidOperationError(
                "the handler has ended its transaction by itself: what it did before that is not undone"
            )
        for table_no, name, *counts in await rows_in(self._conn, self._sql["count_changes"], {}):
            was = self._before.get(table_no, (0, 0, 0))
            inserted, updated, deleted = (now - then for now, then in zip(counts, was, strict=True))
            if inserted or updated or deleted:
                asked = {"table_no": table_no, "number": number, "largest": LARGEST, "limit": MOST_ROWS}
                ((rows,),) = await rows_in(self._conn, self._sql["list_written"], asked)
                self._seen.append((table_no, name, (inserted, updated, deleted), list(rows)))

    async def changes(self) -> tuple[TriedTable, ...]:
        """What was seen, beside what is there."""
        found = []
        async with sealed(autocommit(self._pool)) as conn:
            for table_no, name, counts, rows in self._seen:
                asked = {"table_no": table_no, "rows": orjson.dumps(rows).decode()}
                before = await fetch_value(conn, self._sql["list_before"], asked)
                before = before or [None] * len(rows)  # a table that the transaction made itself is gone
                pairs = zip(before, rows, strict=True)
                found.append(TriedTable(name, *counts, tuple(TriedRow(was, now) for was, now in pairs)))
        return tuple(sorted(found, key=lambda each: each.table))
