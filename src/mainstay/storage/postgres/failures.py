"""Failure groups on PostgreSQL: counted from the troubleshooting table alone."""

from typing import Any

from mainstay.commands.failures import FailureGroup, Kind, Selection
from mainstay.commands.model import VERSION_HEADER
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, sealed


class PostgresFailures:
    """`FailureStore` on PostgreSQL."""

    pool: Pool

    async def list_kinds(self, which: Selection) -> list[Kind]:
        """The forms of payload that a selection has, by domain, type and version."""
        asked = {**selection_fields(which), "header": VERSION_HEADER}
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(conn, queries.load("troubleshooting")["list_kinds"], asked)
        return [Kind(**row) for row in rows]

    async def list_groups(self, which: Selection) -> list[FailureGroup]:
        """What waits for an operator, by what went wrong, the largest group first."""
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(conn, queries.load("troubleshooting")["list_groups"], selection_fields(which))
        return [FailureGroup(**row) for row in rows]


def selection_fields(which: Selection) -> dict[str, Any]:
    """A selection as parameters."""
    return {
        "domain": which.domain,
        "command_type": which.command_type,
        "error_code": which.error_code,
        "group_id": which.group_id,
        "batch_id": which.batch_id,
        "command_ids": None if which.command_ids is None else list(which.command_ids),
    }
