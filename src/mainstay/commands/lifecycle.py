"""What a command can be, and how it gets from one to another: data, not code.

::

                 ┌──────────── retry, give back, lease expired ───────────┐
                 v                                                        │
    send ──> PENDING ──receive──> IN_PROGRESS ──complete──> COMPLETED     │
              │  ^                 │   │   │                    ^         │
              │  │                 │   │   └────────────────────┼─────────┘
              │  │                 │   └──business rule──> FAILED
              │  │                 └──troubleshoot──> IN_TROUBLESHOOTING_QUEUE
              │  └────────────────────operator retry───┘  │   │
              │                          operator complete┘   │
              └──cancel, expire──> CANCELED <──operator cancel┘

The database enforces the same table; a test compares the two.
"""

from enum import StrEnum
from typing import Final


class CommandStatus(StrEnum):
    """Where a command stands."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    IN_TROUBLESHOOTING_QUEUE = "IN_TROUBLESHOOTING_QUEUE"


class AuditEventType(StrEnum):
    """What the audit trail tells of a command, or of a batch."""

    SENT = "SENT"
    RECEIVED = "RECEIVED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    RETRY_EXHAUSTED = "RETRY_EXHAUSTED"
    MOVED_TO_TSQ = "MOVED_TO_TSQ"
    BUSINESS_RULE_FAILED = "BUSINESS_RULE_FAILED"
    CANCELED = "CANCELED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    EXPIRED = "EXPIRED"
    KEY_RELEASED = "KEY_RELEASED"
    GIVEN_BACK = "GIVEN_BACK"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    PARKED = "PARKED"
    RELEASED = "RELEASED"
    STALE_REFUSED = "STALE_REFUSED"
    REPAIRED = "REPAIRED"
    OPERATOR_RETRY = "OPERATOR_RETRY"
    OPERATOR_CANCEL = "OPERATOR_CANCEL"
    OPERATOR_COMPLETE = "OPERATOR_COMPLETE"
    OPERATOR_UNDO = "OPERATOR_UNDO"
    BATCH_STARTED = "BATCH_STARTED"
    BATCH_COMPLETED = "BATCH_COMPLETED"


class BatchStatus(StrEnum):
    """Where a batch stands."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_FAILURES = "COMPLETED_WITH_FAILURES"


class ReplyOutcome(StrEnum):
    """What a reply says happened."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


_S = CommandStatus

#: Status before -> statuses that may follow.
TRANSITIONS: Final[dict[CommandStatus, frozenset[CommandStatus]]] = {
    _S.PENDING: frozenset({_S.IN_PROGRESS, _S.CANCELED, _S.IN_TROUBLESHOOTING_QUEUE}),
    _S.IN_PROGRESS: frozenset({_S.IN_PROGRESS, _S.PENDING, _S.COMPLETED, _S.FAILED, _S.IN_TROUBLESHOOTING_QUEUE}),
    _S.IN_TROUBLESHOOTING_QUEUE: frozenset({_S.PENDING, _S.COMPLETED, _S.CANCELED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELED: frozenset(),
}

TERMINAL: Final = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELED})
"""Nothing follows these."""

_A = AuditEventType

#: Status before, audit event -> status after. The audit trail of every command is a path through this table; events
# that
#: only tell something (RETRY_EXHAUSTED, STALE_REFUSED, REPAIRED, ...) leave the status as it is.
AUDIT_PATH: Final[dict[tuple[CommandStatus | None, AuditEventType], CommandStatus]] = {
    (None, _A.SENT): _S.PENDING,
    (_S.PENDING, _A.RECEIVED): _S.IN_PROGRESS,
    (_S.PENDING, _A.CANCELED): _S.CANCELED,
    (_S.IN_TROUBLESHOOTING_QUEUE, _A.CANCELED): _S.CANCELED,
    (_S.PENDING, _A.EXPIRED): _S.CANCELED,
    (_S.IN_PROGRESS, _A.CANCEL_REQUESTED): _S.IN_PROGRESS,
    (_S.PENDING, _A.KEY_RELEASED): _S.PENDING,
    (_S.IN_TROUBLESHOOTING_QUEUE, _A.KEY_RELEASED): _S.IN_TROUBLESHOOTING_QUEUE,
    (_S.PENDING, _A.MOVED_TO_TSQ): _S.IN_TROUBLESHOOTING_QUEUE,
    (_S.PENDING, _A.PARKED): _S.PENDING,
    (_S.IN_PROGRESS, _A.PARKED): _S.PENDING,
    (_S.PENDING, _A.RELEASED): _S.PENDING,
    (_S.IN_PROGRESS, _A.LEASE_EXPIRED): _S.PENDING,
    (_S.IN_PROGRESS, _A.GIVEN_BACK): _S.PENDING,
    (_S.IN_PROGRESS, _A.COMPLETED): _S.COMPLETED,
    (_S.IN_PROGRESS, _A.FAILED): _S.IN_PROGRESS,
    (_S.IN_PROGRESS, _A.RETRY_SCHEDULED): _S.PENDING,
    (_S.IN_PROGRESS, _A.RETRY_EXHAUSTED): _S.IN_PROGRESS,
    (_S.PENDING, _A.RETRY_EXHAUSTED): _S.PENDING,
    (_S.IN_PROGRESS, _A.BUSINESS_RULE_FAILED): _S.FAILED,
    (_S.IN_PROGRESS, _A.MOVED_TO_TSQ): _S.IN_TROUBLESHOOTING_QUEUE,
    (_S.IN_TROUBLESHOOTING_QUEUE, _A.OPERATOR_RETRY): _S.PENDING,
    (_S.IN_TROUBLESHOOTING_QUEUE, _A.OPERATOR_CANCEL): _S.CANCELED,
    (_S.IN_TROUBLESHOOTING_QUEUE, _A.OPERATOR_COMPLETE): _S.COMPLETED,
    (_S.PENDING, _A.OPERATOR_UNDO): _S.IN_TROUBLESHOOTING_QUEUE,
} | {(status, event): status for status in _S for event in (_A.STALE_REFUSED, _A.REPAIRED)}
