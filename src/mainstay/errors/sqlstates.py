"""SQLSTATEs of our own, class ``MS``, and the errors they mean."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from mainstay.errors.base import InvalidDomainError, InvalidInputError, MainstayError
from mainstay.errors.commands import (
    ActionNotFoundError,
    ApprovalRequiredError,
    BatchNotFoundError,
    DuplicateBatchError,
    DuplicateCommandError,
    InvalidOperationError,
    KeyConflict,
    NotUniqueError,
    ReasonRequiredError,
    SelectionChangedError,
    StaleLeaseError,
)
from mainstay.errors.events import (
    AppendConditionError,
    DuplicateEventError,
    OptimisticLockError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
)
from mainstay.errors.storage import QueueNotFoundError


def _by_detail(build: Callable[[str, UUID], MainstayError]) -> Callable[[str, str], MainstayError]:
    """For errors whose DETAIL is ``domain/uuid``."""

    def make(_message: str, detail: str) -> MainstayError:
        domain, _, key = detail.rpartition("/")
        return build(domain, UUID(key))

    return make


def _not_unique(_message: str, detail: str) -> MainstayError:
    """DETAIL is ``domain/command/holder/key``; only the key may hold a slash."""
    domain, command_id, holder_id, unique_key = detail.split("/", 3)
    return NotUniqueError(domain, KeyConflict(UUID(command_id), unique_key, UUID(holder_id)))


def _of_event(build: Callable[..., MainstayError]) -> Callable[[str, str], MainstayError]:
    """For errors whose DETAIL is a JSON object of what their class takes, the stream in its text form."""

    def make(_message: str, detail: str) -> MainstayError:
        parts: dict[str, Any] = json.loads(detail)
        if "event_ids" in parts:
            parts["event_ids"] = [UUID(each) for each in parts["event_ids"]]
        return build(**parts)

    return make


#: SQLSTATE of ours -> how to build the error from MESSAGE and DETAIL. Kept equal to the SQL by a test.
SQLSTATES: dict[str, Callable[[str, str], MainstayError]] = {
    "MS001": lambda _message, detail: QueueNotFoundError(detail),
    "MS002": _by_detail(BatchNotFoundError),
    "MS003": _by_detail(DuplicateCommandError),
    "MS005": _by_detail(DuplicateBatchError),
    "MS006": _not_unique,
    "MS020": lambda message, _detail: InvalidOperationError(message),
    "MS021": lambda message, _detail: ReasonRequiredError(message),
    "MS022": lambda _message, detail: ApprovalRequiredError(int(detail)),
    "MS023": lambda _message, detail: SelectionChangedError(*map(int, detail.split("/"))),
    "MS024": lambda _message, detail: ActionNotFoundError(UUID(detail)),
    "MS004": lambda _message, detail: InvalidDomainError(detail),
    "MS030": lambda message, _detail: StaleLeaseError(message),
    "MS101": _of_event(OptimisticLockError),
    "MS102": _of_event(DuplicateEventError),
    "MS103": _of_event(StreamTombstonedError),
    "MS104": _of_event(StreamArchivedError),
    "MS105": _of_event(AppendConditionError),
    "MS106": _of_event(StreamNotFoundError),
    "MS107": lambda message, _detail: InvalidInputError(message),
}


def error_for_sqlstate(sqlstate: str, message: str, detail: str | None = None) -> MainstayError | None:
    """The error of this tree for one of our SQLSTATEs, or None if it is not ours.

    Args:
        sqlstate: Five characters, ours begin with ``MS``.
        message: MESSAGE of the SQL error.
        detail: DETAIL of the SQL error, which holds the data.
    """
    make = SQLSTATES.get(sqlstate)
    return make(message, detail or "") if make else None
