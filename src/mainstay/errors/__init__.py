"""Every error a user of mainstay can meet.

The tree::

    MainstayError
    ├── ConfigurationError              a setting or argument of ours is wrong (also a ValueError)
    ├── MissingDependencyError          an optional part is not installed; says what to install
    ├── InvalidInputError               what the caller handed over cannot be accepted (also a ValueError)
    │   ├── InvalidDomainError          a domain name outside [a-z0-9][a-z0-9_-]{0,36}
    │   ├── InvalidQueueError           a queue name that PGMQ would refuse, fold or cut
    │   ├── InvalidCursorError          of another query, or damaged: begin with the first page
    │   └── InvalidPayloadError         a payload that JSON or PostgreSQL cannot hold, or that is too large
    ├── CommandError
    │   ├── DuplicateCommandError       this command id was sent before
    │   ├── NotUniqueError              the unique key is held by another command
    │   ├── DuplicateBatchError         this batch id was used before
    │   ├── CommandNotFoundError
    │   ├── BatchNotFoundError
    │   ├── ActionNotFoundError         no such decision of an operator
    │   ├── CommandFailedError          a reply says so (`Reply.unwrap`)
    │   ├── RequestTimeoutError         no reply in time; the command goes on (also a TimeoutError)
    │   ├── InvalidReplyError           a successful reply does not fit the model asked for
    │   ├── ScheduleNotFoundError
    │   ├── DuplicateProcessError       this process id was used before
    │   ├── ProcessNotFoundError
    │   ├── ConversationNotFoundError   nothing has this id
    │   ├── InvalidOperationError       the command's status does not allow it
    │   │   ├── ReasonRequiredError     the operators' rules ask for a reason
    │   │   ├── ApprovalRequiredError   the operators' rules ask for a second operator
    │   │   └── SelectionChangedError   other commands than the operator looked at
    │   └── StaleLeaseError             the lease was lost; nothing was changed
    ├── HandlerError
    │   ├── HandlerNotFoundError
    │   ├── HandlerAlreadyRegisteredError   (also a ValueError)
    │   ├── TransientCommandError       raised by handlers: try again later
    │   ├── PermanentCommandError       raised by handlers: an operator must look
    │   └── BusinessRuleException       raised by handlers: a refusal, final, no operator needed
    ├── EventError
    │   ├── OptimisticLockError         the stream is not as expected: load again and retry
    │   │   └── ReadModelConflictError  nor is the row
    │   ├── DuplicateEventError         some of these event ids are in the stream, and some are not
    │   ├── AppendConditionError        an event that must not have happened has (`append_if`)
    │   ├── TenantScopeError            the scope is one tenant's, what was asked for another's
    │   ├── TenantMissingError          this needs a tenant's scope
    │   ├── StreamNotFoundError
    │   ├── StreamArchivedError         it takes no more events
    │   ├── StreamTombstonedError       it is gone for good
    │   ├── UnknownEventTypeError       no class is registered for it
    │   ├── DuplicateEventTypeError     two classes for one event type (also a ValueError)
    │   ├── CorruptEventError           an event is stored that cannot be read
    │   ├── EventVersionError           of a payload or an upcaster (also a ValueError)
    │   ├── AggregateNotFoundError
    │   ├── AggregateNotCreatedError    it has no state before its first event
    │   ├── UnhandledEventError         nobody applies it
    │   ├── ProjectionError             a projection failed on an event
    │   ├── ReadModelCorruptError       a row does not fit its model
    │   ├── ReadModelTableNotFoundError
    │   ├── TenantMismatchError         a row belongs to another tenant
    │   ├── RebuildError                a rebuild stopped; the old one serves as before
    │   ├── CheckpointMismatchError     the events are not those that the checkpoint has seen
    │   ├── SubscriptionHeldError
    │   ├── SubscriptionLateError       it has not come so far in time (also a TimeoutError)
    │   └── SubscriptionNotFoundError
    ├── DeliveryError
    │   ├── BusUnavailableError         the broker is away, or the way to it broke (also a StorageUnavailableError)
    │   │   └── BusForgotError          it lost messages that it had confirmed
    │   ├── MessageRefusedError         the broker will not take this message
    │   └── PartitionLostError          it is another consumer's by now
    └── StorageError
        ├── QueueNotFoundError
        ├── SchemaError
        │   ├── SchemaMissingError      run `mainstay schema upgrade`
        │   ├── SchemaOutdatedError     the database is older than this code
        │   ├── SchemaTooNewError       the database is newer, and says this code would harm it
        │   └── SchemaDriftError        the database is not what its own ledger says
        ├── PgmqMissingError
        ├── PermissionDeniedError
        ├── StorageUnavailableError     no connection, or it broke; the outcome may be unknown
        │   ├── DatabaseNotFoundError   the server has no database of this name
        │   ├── LoginRefusedError       the server does not let this role in: a wrong password, or no such role
        │   ├── PoolExhaustedError
        │   ├── PoolClosedError         the pool is closed, or was never opened
        │   └── DatabaseLockedError     another transaction holds the SQLite file
        ├── DatabaseFullError           the disk is full
        ├── DatabaseCorruptError        the file is no database, or is damaged
        └── EmbeddedServerError

Errors carry data as attributes; nobody has to parse a message. SQL raises SQLSTATEs of our own, class ``MS``, and
`error_for_sqlstate` turns them into this tree.
"""

from mainstay.errors.base import (
    ConfigurationError,
    InvalidCursorError,
    InvalidDomainError,
    InvalidInputError,
    InvalidPayloadError,
    InvalidQueueError,
    MainstayError,
    MissingDependencyError,
    shown,
    tellable,
    told,
)
from mainstay.errors.commands import (
    ActionNotFoundError,
    ApprovalRequiredError,
    BatchNotFoundError,
    CommandError,
    CommandFailedError,
    CommandNotFoundError,
    ConversationNotFoundError,
    DuplicateBatchError,
    DuplicateCommandError,
    DuplicateProcessError,
    InvalidOperationError,
    InvalidReplyError,
    KeyConflict,
    NotUniqueError,
    ProcessNotFoundError,
    ReasonRequiredError,
    RequestTimeoutError,
    ScheduleNotFoundError,
    SelectionChangedError,
    StaleLeaseError,
)
from mainstay.errors.delivery import (
    BusForgotError,
    BusUnavailableError,
    DeliveryError,
    MessageRefusedError,
    PartitionLostError,
)
from mainstay.errors.events import (
    AggregateNotCreatedError,
    AggregateNotFoundError,
    AppendConditionError,
    CheckpointMismatchError,
    CorruptEventError,
    DuplicateEventError,
    DuplicateEventTypeError,
    EventError,
    EventVersionError,
    OptimisticLockError,
    ProjectionError,
    ReadModelConflictError,
    ReadModelCorruptError,
    ReadModelTableNotFoundError,
    RebuildError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
    SubscriptionHeldError,
    SubscriptionLateError,
    SubscriptionNotFoundError,
    TenantMismatchError,
    TenantMissingError,
    TenantScopeError,
    UnhandledEventError,
    UnknownEventTypeError,
)
from mainstay.errors.handlers import (
    BusinessRuleException,
    HandlerAlreadyRegisteredError,
    HandlerError,
    HandlerNotFoundError,
    PermanentCommandError,
    TransientCommandError,
)
from mainstay.errors.sqlstates import (
    error_for_sqlstate,
)
from mainstay.errors.storage import (
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseLockedError,
    DatabaseNotFoundError,
    EmbeddedServerError,
    LoginRefusedError,
    PermissionDeniedError,
    PgmqMissingError,
    PoolClosedError,
    PoolExhaustedError,
    QueueNotFoundError,
    SchemaDriftError,
    SchemaError,
    SchemaMissingError,
    SchemaOutdatedError,
    SchemaTooNewError,
    StorageError,
    StorageUnavailableError,
)

__all__ = [
    "ActionNotFoundError",
    "AggregateNotCreatedError",
    "AggregateNotFoundError",
    "AppendConditionError",
    "ApprovalRequiredError",
    "BatchNotFoundError",
    "BusForgotError",
    "BusUnavailableError",
    "BusinessRuleException",
    "CheckpointMismatchError",
    "CommandError",
    "CommandFailedError",
    "CommandNotFoundError",
    "ConfigurationError",
    "ConversationNotFoundError",
    "CorruptEventError",
    "DatabaseCorruptError",
    "DatabaseFullError",
    "DatabaseLockedError",
    "DatabaseNotFoundError",
    "DeliveryError",
    "DuplicateBatchError",
    "DuplicateCommandError",
    "DuplicateEventError",
    "DuplicateEventTypeError",
    "DuplicateProcessError",
    "EmbeddedServerError",
    "EventError",
    "EventVersionError",
    "HandlerAlreadyRegisteredError",
    "HandlerError",
    "HandlerNotFoundError",
    "InvalidCursorError",
    "InvalidDomainError",
    "InvalidInputError",
    "InvalidOperationError",
    "InvalidPayloadError",
    "InvalidQueueError",
    "InvalidReplyError",
    "KeyConflict",
    "LoginRefusedError",
    "MainstayError",
    "MessageRefusedError",
    "MissingDependencyError",
    "NotUniqueError",
    "OptimisticLockError",
    "PartitionLostError",
    "PermanentCommandError",
    "PermissionDeniedError",
    "PgmqMissingError",
    "PoolClosedError",
    "PoolExhaustedError",
    "ProcessNotFoundError",
    "ProjectionError",
    "QueueNotFoundError",
    "ReadModelConflictError",
    "ReadModelCorruptError",
    "ReadModelTableNotFoundError",
    "ReasonRequiredError",
    "RebuildError",
    "RequestTimeoutError",
    "ScheduleNotFoundError",
    "SchemaDriftError",
    "SchemaError",
    "SchemaMissingError",
    "SchemaOutdatedError",
    "SchemaTooNewError",
    "SelectionChangedError",
    "StaleLeaseError",
    "StorageError",
    "StorageUnavailableError",
    "StreamArchivedError",
    "StreamNotFoundError",
    "StreamTombstonedError",
    "SubscriptionHeldError",
    "SubscriptionLateError",
    "SubscriptionNotFoundError",
    "TenantMismatchError",
    "TenantMissingError",
    "TenantScopeError",
    "TransientCommandError",
    "UnhandledEventError",
    "UnknownEventTypeError",
    "error_for_sqlstate",
    "shown",
    "tellable",
    "told",
]
