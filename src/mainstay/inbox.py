"""Inboxes by the databases of consumers; `mainstay.delivery.inbox` says what one promises.

`SQLiteInbox` needs the extra ``sqlite``, and is looked for when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from mainstay.delivery.inbox import Inbox
from mainstay.storage.postgres.inbox import PostgresInbox

if TYPE_CHECKING:
    from mainstay.storage.sqlite.inbox import SQLiteInbox

__all__ = ["Inbox", "PostgresInbox", "SQLiteInbox"]


def __getattr__(name: str) -> Any:
    """The one that is an extra."""
    if name != "SQLiteInbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mainstay.storage.sqlite.inbox import SQLiteInbox  # noqa: PLC0415 - an extra, which others do without

    return SQLiteInbox
