"""Statements that go along in the round trip of others.

A handler on an aggregate reads a stream when its transaction begins and appends to it before its command completes.
Alone, each of these is a round trip; what a transaction says to begin and to complete are others. Here one room hands
its statement to another, which sends it with its own (`mainstay.storage.postgres.transactions`) and leaves the answer
in it. Neither needs to know what the other's statement means.
"""

from collections.abc import Callable
from typing import Any

from psycopg.pq.abc import PGresult

from mainstay.storage.postgres.database import Connection
from mainstay.storage.postgres.prepared import PreparedScript, Values, rows_from


class Along:
    """One statement, and once it has been sent, its rows.

    Args:
        script: The statement, alone.
        values: Of its parameters.
        named: What to make of its error.
    """

    __slots__ = ("named", "rows", "script", "values")

    def __init__(
        self, script: PreparedScript, values: Values, named: Callable[[Exception], Exception] = lambda error: error
    ) -> None:
        self.script = script
        self.values = values
        self.named = named
        self.rows: list[tuple[Any, ...]] | None = None
        """None as long as it was not sent, or not answered."""

    def answer(self, conn: Connection, result: PGresult) -> None:
        """Keep what the server answered.

        Args:
            conn: On which it was sent.
            result: Rows.
        """
        self.rows = rows_from(conn, result)
