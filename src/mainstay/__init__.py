"""Reliable commands for Python, on nothing but PostgreSQL.

This is the public API; what is not listed here may change at any time.
"""

# -- the application ---------------------------------------------------------------------------------------------------
from mainstay.app import CommandBus, Mainstay, ProcessManager, TroubleshootingQueue, Worker

# -- commands ----------------------------------------------------------------------------------------------------------
from mainstay.commands.actions import ActionState, OperatorAction, OperatorRules, Preview
from mainstay.commands.breakers import Breaker, BreakerEvent, BreakerEventType, BreakerRule, BreakerState
from mainstay.commands.command import (
    AuditEvent,
    BatchCommand,
    BatchMetadata,
    BatchSendResult,
    Command,
    CommandMetadata,
    CreateBatchResult,
    Failure,
    OnConflict,
    Reply,
    Result,
    SendRequest,
    SendResult,
    Success,
    TroubleshootingItem,
)
from mainstay.commands.context import HandlerContext
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.gates import Limit, LimitState, Pause
from mainstay.commands.handler import HandlerRegistry, handler
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus, ReplyOutcome
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.model import CommandModel
from mainstay.commands.payload import PayloadProblem
from mainstay.commands.process import (
    Process,
    ProcessEvent,
    ProcessEventType,
    ProcessMetadata,
    ProcessStatus,
    Step,
    StepMetadata,
    StepReply,
    StepSending,
    StepStatus,
)
from mainstay.commands.processes import ProcessBatch, register_processes
from mainstay.commands.schedule import CatchUp, Schedule
from mainstay.commands.store import Action, FsckReport
from mainstay.commands.threads import SyncHandlerContext
from mainstay.commands.upcasting import upcast

# -- errors ------------------------------------------------------------------------------------------------------------
from mainstay.errors import (
    ActionNotFoundError,
    AggregateNotFoundError,
    AppendConditionError,
    ApprovalRequiredError,
    BatchNotFoundError,
    BusinessRuleException,
    CheckpointMismatchError,
    CommandFailedError,
    CommandNotFoundError,
    ConfigurationError,
    CorruptEventError,
    DuplicateBatchError,
    DuplicateCommandError,
    DuplicateEventError,
    DuplicateEventTypeError,
    DuplicateProcessError,
    EventError,
    EventVersionError,
    HandlerAlreadyRegisteredError,
    HandlerNotFoundError,
    InvalidDomainError,
    InvalidInputError,
    InvalidOperationError,
    InvalidPayloadError,
    InvalidReplyError,
    KeyConflict,
    MainstayError,
    NotUniqueError,
    OptimisticLockError,
    PermanentCommandError,
    ProcessNotFoundError,
    ProjectionError,
    QueueNotFoundError,
    ReasonRequiredError,
    RequestTimeoutError,
    ScheduleNotFoundError,
    SchemaError,
    SelectionChangedError,
    StorageUnavailableError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
    TransientCommandError,
    UnhandledEventError,
    UnknownEventTypeError,
)

# -- policies and settings ---------------------------------------------------------------------------------------------
from mainstay.retry import DEFAULT_RETRY_POLICY, RetryPolicy
from mainstay.settings import Config

# -- storage -----------------------------------------------------------------------------------------------------------
from mainstay.storage.postgres.migrate import check_schema_exists, get_schema_sql, setup_database
from mainstay.storage.postgres.pgmq import PgmqClient, PgmqMessage
from mainstay.storage.postgres.pruner import Pruner
from mainstay.storage.postgres.retention import Retention

# -- for code that blocks ----------------------------------------------------------------------------------------------
from mainstay.sync import SyncCommandBus, SyncMainstay, SyncSchedules, SyncTroubleshootingQueue, SyncWorker
from mainstay.telemetry import ContextFilter

__version__ = "0.1.0.dev0"

__all__ = [
    "DEFAULT_RETRY_POLICY",
    "Action",
    "ActionNotFoundError",
    "ActionState",
    "AggregateNotFoundError",
    "AppendConditionError",
    "ApprovalRequiredError",
    "AuditEvent",
    "AuditEventType",
    "BatchCommand",
    "BatchMetadata",
    "BatchNotFoundError",
    "BatchSendResult",
    "BatchStatus",
    "Breaker",
    "BreakerEvent",
    "BreakerEventType",
    "BreakerRule",
    "BreakerState",
    "BusinessRuleException",
    "CatchUp",
    "CheckpointMismatchError",
    "Command",
    "CommandBus",
    "CommandFailedError",
    "CommandMetadata",
    "CommandModel",
    "CommandNotFoundError",
    "CommandStatus",
    "Config",
    "ConfigurationError",
    "ContextFilter",
    "CorruptEventError",
    "CreateBatchResult",
    "DuplicateBatchError",
    "DuplicateCommandError",
    "DuplicateEventError",
    "DuplicateEventTypeError",
    "DuplicateProcessError",
    "EventError",
    "EventVersionError",
    "Failure",
    "FailureGroup",
    "FsckReport",
    "HandlerAlreadyRegisteredError",
    "HandlerContext",
    "HandlerNotFoundError",
    "HandlerRegistry",
    "InvalidDomainError",
    "InvalidInputError",
    "InvalidOperationError",
    "InvalidPayloadError",
    "InvalidReplyError",
    "KeyConflict",
    "Limit",
    "LimitState",
    "Mainstay",
    "MainstayError",
    "MemoryCommandStore",
    "NotUniqueError",
    "OnConflict",
    "OperatorAction",
    "OperatorRules",
    "OptimisticLockError",
    "Pause",
    "PayloadProblem",
    "PermanentCommandError",
    "PgmqClient",
    "PgmqMessage",
    "Preview",
    "Process",
    "ProcessBatch",
    "ProcessEvent",
    "ProcessEventType",
    "ProcessManager",
    "ProcessMetadata",
    "ProcessNotFoundError",
    "ProcessStatus",
    "ProjectionError",
    "Pruner",
    "QueueNotFoundError",
    "ReasonRequiredError",
    "Reply",
    "ReplyOutcome",
    "RequestTimeoutError",
    "Result",
    "Retention",
    "RetryPolicy",
    "Schedule",
    "ScheduleNotFoundError",
    "SchemaError",
    "Selection",
    "SelectionChangedError",
    "SendRequest",
    "SendResult",
    "Step",
    "StepMetadata",
    "StepReply",
    "StepSending",
    "StepStatus",
    "StorageUnavailableError",
    "StreamArchivedError",
    "StreamNotFoundError",
    "StreamTombstonedError",
    "Success",
    "SyncCommandBus",
    "SyncHandlerContext",
    "SyncMainstay",
    "SyncSchedules",
    "SyncTroubleshootingQueue",
    "SyncWorker",
    "TransientCommandError",
    "TroubleshootingItem",
    "TroubleshootingQueue",
    "UnhandledEventError",
    "UnknownEventTypeError",
    "Worker",
    "__version__",
    "check_schema_exists",
    "get_schema_sql",
    "handler",
    "register_processes",
    "setup_database",
    "upcast",
]
