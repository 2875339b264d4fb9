"""What operators ask about operators: who changed what, when and why."""

from datetime import datetime
from typing import Any

from mainstay.commands.checks import checked_choice, checked_page, checked_time
from mainstay.errors import InvalidInputError, shown
from mainstay.storage.postgres.trail import Deed, DeedKind, PostgresTrail

LARGEST = 2**63 - 1


class Trail:
    """The operators' trail.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._store = PostgresTrail(pool)

    async def list(
        self,
        *,
        operator: str | None = None,
        kind: DeedKind | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> list[Deed]:
        """What was done, newest first; all conditions must hold.

        Args:
            operator: By this one.
            kind: To something of this kind.
            subject: To what has this name, or one that begins so.
            since: Then or later; aware.
            until: Then or earlier; aware.
            after: Only before the deed of this id, which was the last of the page before.
            limit: Rows at most.

        Raises:
            InvalidInputError: A condition cannot be understood.
        """
        checked_page(limit, 0)
        if after is not None and not 0 <= after <= LARGEST:
            raise InvalidInputError(f"after must be the id of a deed, not {shown(after)}")
        for name, text in (("operator", operator), ("subject", subject)):
            if "\0" in (text or ""):
                raise InvalidInputError(f"{name} must not contain a zero character")
        return await self._store.list(
            operator=operator,
            kind=None if kind is None else checked_choice(kind, DeedKind, "kind"),
            subject=subject,
            since=checked_time(since, "since"),
            until=checked_time(until, "until"),
            after=after,
            limit=limit,
        )
