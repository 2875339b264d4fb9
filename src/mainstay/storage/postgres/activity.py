"""What is going on, on PostgreSQL: what happened in a time, and which workers are alive."""

from datetime import datetime
from itertools import groupby
from typing import Any, Final

from mainstay.commands.activity import Handled, Interval, LiveWorker, Percentiles
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, fetch_one, fetch_value, sealed

_SAMPLES: Final = 250
"""Commands of an interval whose times are measured."""
_DEPTH: Final = 10_000
"""Messages at the front of a queue among which those that are handled are looked for."""


class PostgresActivity:
    """Asks what is going on.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("activity")

    async def interval(self, since: datetime, until: datetime) -> Interval:
        """What happened between two times."""
        asked = {"since": since, "until": until, "samples": _SAMPLES}
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["traffic"], asked)
        assert row is not None  # noqa: S101 - it answers one row, whatever there is
        return Interval(
            since, row["sent"], row["completed"], row["failed"], row["retried"],
            _percentiles(row["waits"]), _percentiles(row["handlings"]),
        )  # fmt: skip

    async def settled_before(self) -> datetime:
        """The time before which all is written that ever will be: the transactions of then have ended."""
        async with sealed(autocommit(self._pool)) as conn:
            found: datetime = await fetch_value(conn, self._sql["settled_before"])
        return found

    async def workers(self) -> list[LiveWorker]:
        """The workers that are alive, by name."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_workers"], {"depth": _DEPTH})
        return [
            _worker(worker or "", domain, list(each))
            for (worker, domain), each in groupby(rows, lambda row: (row["worker"], row["domain"]))
        ]


def _percentiles(found: list[float] | None) -> Percentiles | None:
    return None if found is None else Percentiles(*found)


def _worker(name: str, domain: str, rows: list[dict[str, Any]]) -> LiveWorker:
    handles = [
        Handled(row["command_id"], row["command_type"], row["attempt"], row["since"], row["leased_until"])
        for row in rows
        if row["command_id"] is not None
    ]
    return LiveWorker(name, domain, next((row["asleep_until"] for row in rows if row["asleep_until"]), None), handles)
