"""Reliable commands for Python, on nothing but PostgreSQL.

This is the public API; what is not listed here may change at any time.
"""

# -- the application ---------------------------------------------------------------------------------------------------
from mainstay.app import (
    CommandBus,
    Mainstay,
    PostgreSQLEventStore,
    ProcessManager,
    ReadModels,
    SQLiteEventStore,
    SubscriptionManager,
    TroubleshootingQueue,
    Worker,
)
from mainstay.collecting import collect_rarely

# -- commands ----------------------------------------------------------------------------------------------------------
from mainstay.commands.actions import ActionState, OperatorAction, OperatorRules, Preview
from mainstay.commands.aggregates import RaisedEvent
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
from mainstay.commands.dry_run import DryRun, TriedRow, TriedSend, TriedTable
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.gates import Limit, LimitState, Pause
from mainstay.commands.handler import HandlerRegistry, handler
from mainstay.commands.ledger import Decision, StreamName
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus, ReplyOutcome
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.model import CommandModel
from mainstay.commands.payload import PayloadProblem
from mainstay.commands.process import (
    CancelDeadline,
    Deadline,
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
    TakenEvent,
)
from mainstay.commands.process_moves import register_processes
from mainstay.commands.processes import ProcessBatch
from mainstay.commands.schedule import CatchUp, Schedule
from mainstay.commands.shadow import Difference, Shadowed, ShadowReport, ShadowVerdict
from mainstay.commands.store import Action, FsckReport
from mainstay.commands.threads import SyncHandlerContext
from mainstay.commands.upcasting import upcast

# -- commands and events together -----------------------------------------------------------------------------------
from mainstay.conversations import Conversation, Conversations

# -- delivery ----------------------------------------------------------------------------------------------------------
from mainstay.delivery.bus import Bus
from mainstay.delivery.consumer import Consumer, ConsumerConfig
from mainstay.delivery.memory import MemoryBus
from mainstay.delivery.message import Message

# -- errors ------------------------------------------------------------------------------------------------------------
from mainstay.errors import (
    ActionNotFoundError,
    AggregateNotCreatedError,
    AggregateNotFoundError,
    AppendConditionError,
    ApprovalRequiredError,
    BatchNotFoundError,
    BusForgotError,
    BusinessRuleException,
    BusUnavailableError,
    CheckpointMismatchError,
    CommandFailedError,
    CommandNotFoundError,
    ConfigurationError,
    ConversationNotFoundError,
    CorruptEventError,
    DeliveryError,
    DuplicateBatchError,
    DuplicateCommandError,
    DuplicateEventError,
    DuplicateEventTypeError,
    DuplicateProcessError,
    EventError,
    EventVersionError,
    HandlerAlreadyRegisteredError,
    HandlerNotFoundError,
    InvalidCursorError,
    InvalidDomainError,
    InvalidInputError,
    InvalidOperationError,
    InvalidPayloadError,
    InvalidReplyError,
    KeyConflict,
    MainstayError,
    MessageRefusedError,
    NotUniqueError,
    OptimisticLockError,
    PartitionLostError,
    PermanentCommandError,
    ProcessNotFoundError,
    ProjectionError,
    QueueNotFoundError,
    ReadModelConflictError,
    ReadModelTableNotFoundError,
    ReasonRequiredError,
    RebuildError,
    RequestTimeoutError,
    ScheduleNotFoundError,
    SchemaError,
    SelectionChangedError,
    StorageUnavailableError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
    SubscriptionHeldError,
    SubscriptionLateError,
    SubscriptionNotFoundError,
    TenantMismatchError,
    TenantMissingError,
    TenantScopeError,
    TransientCommandError,
    UnhandledEventError,
    UnknownEventTypeError,
)

# -- events ------------------------------------------------------------------------------------------------------------
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.by_aggregate import AppendResult, EventStream
from mainstay.events.decider import DeciderAggregate
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent, EventEnvelope, EventTombstone
from mainstay.events.handles import handles
from mainstay.events.log import Appended, FeedFilter, Horizon, Query, QueryItem, StreamState
from mainstay.events.options import ReadDirection, ReadOptions
from mainstay.events.reading import EventPage
from mainstay.events.registry import EventRegistry
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import MemorySnapshotStore, Snapshot, SnapshotPolicy, SnapshotStore
from mainstay.events.store import Append, EventStore, InMemoryEventStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.events.upcasting import RawEvent

# -- relaying ----------------------------------------------------------------------------------------------------------
from mainstay.inbox import Inbox, PostgresInbox

# -- projections -------------------------------------------------------------------------------------------------------
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DatabaseProjection, DeclarativeProjection
from mainstay.projections.event_process import EventProcess, EventProcesses, on_event
from mainstay.projections.live import Folded, LiveProjection
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.projection import Projection
from mainstay.projections.questions import Lag, SubscriptionHealth
from mainstay.projections.reaction import Reaction, ReactionContext
from mainstay.projections.read_model import ReadModel
from mainstay.projections.read_model_memory import MemoryReadModelStore
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.projections.read_model_query import AnyOf, Filter, ReadModelPage, ReadModelQuery
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.rebuildable import Rebuildable, Rebuilt
from mainstay.projections.replay import Replayed
from mainstay.projections.store import Checkpoint, DeadLetter, DeadLetterStatus, ShardState, ShardStatus
from mainstay.projections.subscriber import EventSubscriber
from mainstay.projections.tables import TableComparison, Tables
from mainstay.rehearsing import Rehearsal
from mainstay.relay import Relay

# -- policies and settings ---------------------------------------------------------------------------------------------
from mainstay.retry import DEFAULT_RETRY_POLICY, RetryPolicy
from mainstay.settings import Config

# -- storage -----------------------------------------------------------------------------------------------------------
from mainstay.storage.postgres.horizon import HorizonPublisher
from mainstay.storage.postgres.migrate import check_schema_exists, get_schema_sql, setup_database
from mainstay.storage.postgres.pgmq import PgmqClient, PgmqMessage
from mainstay.storage.postgres.pruner import Pruner
from mainstay.storage.postgres.retention import Retention

# -- for code that blocks ----------------------------------------------------------------------------------------------
from mainstay.sync import (
    SyncAggregateRepository,
    SyncCommandBus,
    SyncEventStoreAdapter,
    SyncMainstay,
    SyncReadModelRepository,
    SyncReadModels,
    SyncRehearsal,
    SyncSchedules,
    SyncSubscriptionManager,
    SyncTroubleshootingQueue,
    SyncWorker,
)
from mainstay.telemetry import ContextFilter

# -- tenants -----------------------------------------------------------------------------------------------------------
from mainstay.tenancy import (
    actor_scope,
    all_tenants,
    current_actor,
    current_tenant,
    operator_scope,
    require_tenant,
    tenant_scope,
)

# -- the web -----------------------------------------------------------------------------------------------------------
from mainstay.web import ReadYourWrites, ReadYourWritesWSGI

__version__ = "0.1.0.dev0"

__all__ = [
    "DEFAULT_RETRY_POLICY",
    "Action",
    "ActionNotFoundError",
    "ActionState",
    "AggregateNotCreatedError",
    "AggregateNotFoundError",
    "AggregateRepository",
    "AggregateRoot",
    "Append",
    "AppendConditionError",
    "AppendResult",
    "Appended",
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
    "ConversationNotFoundError",
    "ContextFilter",
    "CorruptEventError",
    "CreateBatchResult",
    "DeciderAggregate",
    "Decision",
    "DeclarativeAggregate",
    "Difference",
    "DomainEvent",
    "DryRun",
    "DuplicateBatchError",
    "DuplicateCommandError",
    "DuplicateEventError",
    "DuplicateEventTypeError",
    "DuplicateProcessError",
    "EventEnvelope",
    "EventError",
    "EventPage",
    "EventRegistry",
    "EventStore",
    "EventStream",
    "EventSubscriber",
    "EventTombstone",
    "EventVersionError",
    "ExpectedVersion",
    "Failure",
    "FailureGroup",
    "FeedFilter",
    "FsckReport",
    "HandlerAlreadyRegisteredError",
    "HandlerContext",
    "HandlerNotFoundError",
    "HandlerRegistry",
    "Horizon",
    "HorizonPublisher",
    "InMemoryEventStore",
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
    "MemorySnapshotStore",
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
    "PostgreSQLEventStore",
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
    "Query",
    "QueryItem",
    "QueueNotFoundError",
    "RaisedEvent",
    "RawEvent",
    "Reaction",
    "ReactionContext",
    "ReadDirection",
    "ReadOptions",
    "ReasonRequiredError",
    "Rehearsal",
    "Reply",
    "ReplyOutcome",
    "RequestTimeoutError",
    "Result",
    "Retention",
    "RetryPolicy",
    "Shadowed",
    "ShadowReport",
    "ShadowVerdict",
    "SQLiteEventStore",
    "Schedule",
    "ScheduleNotFoundError",
    "SchemaError",
    "Selection",
    "SelectionChangedError",
    "SendRequest",
    "SendResult",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotStore",
    "Step",
    "StepMetadata",
    "StepReply",
    "StepSending",
    "StepStatus",
    "StorageUnavailableError",
    "StreamArchivedError",
    "StreamId",
    "StreamName",
    "StreamNotFoundError",
    "StreamState",
    "StreamTombstonedError",
    "Success",
    "SyncAggregateRepository",
    "SyncCommandBus",
    "SyncEventStoreAdapter",
    "SyncHandlerContext",
    "SyncMainstay",
    "SyncReadModelRepository",
    "SyncReadModels",
    "SyncRehearsal",
    "SyncSchedules",
    "SyncSubscriptionManager",
    "SyncTroubleshootingQueue",
    "SyncWorker",
    "TenantMissingError",
    "TenantScopeError",
    "TransientCommandError",
    "TriedRow",
    "TriedSend",
    "TriedTable",
    "TroubleshootingItem",
    "TroubleshootingQueue",
    "UnhandledEventError",
    "UnknownEventTypeError",
    "Worker",
    "__version__",
    "actor_scope",
    "all_tenants",
    "check_schema_exists",
    "current_actor",
    "current_tenant",
    "get_schema_sql",
    "handler",
    "handles",
    "Checkpoint",
    "DatabaseProjection",
    "DeadLetter",
    "DeadLetterStatus",
    "DeclarativeProjection",
    "AnyOf",
    "Filter",
    "InvalidCursorError",
    "Lag",
    "SubscriptionHealth",
    "Folded",
    "LiveProjection",
    "MemoryProjectionStore",
    "MemoryReadModelStore",
    "Projection",
    "ReadModel",
    "ReadModelConflictError",
    "ReadModelPage",
    "ReadModelProjection",
    "ReadModelQuery",
    "ReadModelRepository",
    "ReadModelTableNotFoundError",
    "ReadModels",
    "RebuildError",
    "Rebuildable",
    "Rebuilt",
    "Replayed",
    "ShardState",
    "ShardStatus",
    "SubscriptionConfig",
    "SubscriptionHeldError",
    "SubscriptionLateError",
    "SubscriptionNotFoundError",
    "SubscriptionManager",
    "TableComparison",
    "Tables",
    "TenantMismatchError",
    "Bus",
    "BusForgotError",
    "BusUnavailableError",
    "Consumer",
    "ConsumerConfig",
    "DeliveryError",
    "Inbox",
    "MemoryBus",
    "Message",
    "MessageRefusedError",
    "PartitionLostError",
    "PostgresInbox",
    "Relay",
    "Conversation",
    "Conversations",
    "ReadYourWrites",
    "ReadYourWritesWSGI",
    "operator_scope",
    "register_processes",
    "require_tenant",
    "collect_rarely",
    "setup_database",
    "tenant_scope",
    "upcast",
    "CancelDeadline",
    "Deadline",
    "TakenEvent",
    "EventProcess",
    "EventProcesses",
    "on_event",
]
