"""The door `eventsource` has the modules that the guide lists and the names that its users import, and nothing else."""

import importlib
import importlib.resources
import pkgutil
import subprocess
import sys

import pytest

import eventsource
import mainstay

#: Module -> names of the guide's project structure, and of the package that the guide is about.
PROMISED = {
    "eventsource": (
        "AggregateId AggregateNotCreatedError AggregateNotFoundError AggregateRepository AggregateRoot "
        "AppendResult AsyncEventHandler CausationId CheckpointError CheckpointRepository "
        "CheckpointTrackingProjection CorrelationId CorruptEventError DLQRepository DatabaseProjection "
        "DeciderAggregate DeclarativeAggregate DeclarativeProjection DomainEvent DuplicateEventTypeError "
        "EventBus EventHandler EventId EventNotFoundError EventPublisher EventRegistry EventSourceError "
        "EventSourceJSONEncoder EventStore EventStoreError EventStream EventSubscriber EventTypeNotFoundError "
        "EventVersionError ExpectedVersion FlexibleEventHandler FlexibleEventSubscriber "
        "InMemoryCheckpointRepository InMemoryDLQRepository InMemoryEventBus InMemoryEventStore InMemorySnapshotStore "
        "KAFKA_AVAILABLE OTEL_AVAILABLE OptimisticLockError POSTGRESQL_AVAILABLE "
        "PostgreSQLCheckpointRepository PostgreSQLDLQRepository PostgreSQLEventStore PostgreSQLSnapshotStore "
        "Projection ProjectionError RABBITMQ_AVAILABLE REDIS_AVAILABLE ReadDirection ReadModel "
        "KafkaEventBus KafkaEventBusConfig RabbitMQEventBus RabbitMQEventBusConfig RedisEventBus RedisEventBusConfig "
        "ReadModelProjection ReadModelRepository ReadModels ReadOptions SQLITE_AVAILABLE "
        "SQLiteCheckpointRepository SQLiteDLQRepository SQLiteEventStore SQLiteSnapshotStore "
        "SerializationError Snapshot SnapshotPolicy SnapshotStore StoredEvent StreamId SubscriptionConfig "
        "SubscriptionManager SyncEventHandler SyncEventStoreAdapter SyncProjection TState TenantId "
        "UnhandledEventError default_registry get_event_class get_event_class_or_none handles "
        "is_event_registered json_dumps json_loads list_registered_events register_event setup_database"
    ),
    "eventsource.aggregates": (
        "AggregateRepository AggregateRoot DeciderAggregate DeclarativeAggregate EventPublisher TAggregate TState"
    ),
    "eventsource.aggregates.base": "AggregateRoot DeclarativeAggregate TState",
    "eventsource.aggregates.repository": "AggregateRepository EventPublisher TAggregate",
    "eventsource.bus": (
        "EventBus EventHandlerFunc InMemoryEventBus KAFKA_AVAILABLE KafkaEventBus KafkaEventBusConfig "
        "RABBITMQ_AVAILABLE REDIS_AVAILABLE RabbitMQEventBus RabbitMQEventBusConfig RedisEventBus RedisEventBusConfig"
    ),
    "eventsource.bus.kafka": "KAFKA_AVAILABLE KafkaEventBus KafkaEventBusConfig",
    "eventsource.bus.interface": "EventBus EventHandlerFunc",
    "eventsource.bus.memory": "InMemoryEventBus",
    "eventsource.bus.rabbitmq": "RABBITMQ_AVAILABLE RabbitMQEventBus RabbitMQEventBusConfig",
    "eventsource.bus.redis": "REDIS_AVAILABLE RedisEventBus RedisEventBusConfig",
    "eventsource.config": "Config RetryPolicy SnapshotPolicy SubscriptionConfig",
    "eventsource.events": (
        "DomainEvent DuplicateEventTypeError EventRegistry EventTypeNotFoundError default_registry "
        "get_event_class get_event_class_or_none is_event_registered list_registered_events register_event"
    ),
    "eventsource.events.base": "DomainEvent",
    "eventsource.events.registry": (
        "DuplicateEventTypeError EventRegistry EventTypeNotFoundError default_registry get_event_class "
        "get_event_class_or_none is_event_registered list_registered_events register_event"
    ),
    "eventsource.exceptions": (
        "AggregateNotCreatedError AggregateNotFoundError CheckpointError CorruptEventError "
        "DuplicateEventTypeError EventNotFoundError EventSourceError EventStoreError EventTypeNotFoundError "
        "EventVersionError HandlerSignatureError OptimisticLockError ProjectionError SerializationError "
        "UnhandledEventError"
    ),
    "eventsource.handlers": "HandlerSignatureError handles",
    "eventsource.handlers.decorators": "handles",
    "eventsource.migrations": "check_schema_exists get_all_schemas setup_database",
    "eventsource.multitenancy": (
        "TenantContextNotSetError TenantDomainEvent TenantMismatchError clear_tenant_context get_current_tenant "
        "get_required_tenant set_current_tenant tenant_scope tenant_scope_sync"
    ),
    "eventsource.observability": "ContextFilter OTEL_AVAILABLE get_tracer should_trace",
    "eventsource.projections": (
        "CheckpointTrackingProjection DatabaseProjection DeclarativeProjection EventHandler EventHandlerBase "
        "EventSubscriber Projection SyncEventHandler SyncProjection handles"
    ),
    "eventsource.projections.base": (
        "CheckpointTrackingProjection DatabaseProjection DeclarativeProjection EventHandler EventHandlerBase "
        "EventSubscriber Projection SyncEventHandler SyncProjection handles"
    ),
    "eventsource.projections.retry": "DEFAULT_RETRY_POLICY RetryPolicy",
    "eventsource.protocols": (
        "AsyncEventHandler CheckpointRepository EventHandler EventPublisher EventStore EventSubscriber "
        "FlexibleEventHandler FlexibleEventSubscriber SnapshotStore SyncEventHandler"
    ),
    "eventsource.readmodels": (
        "AnyOf Filter MemoryReadModelStore Query ReadModel ReadModelConflictError ReadModelPage "
        "ReadModelProjection ReadModelRepository ReadModelTableNotFoundError ReadModels"
    ),
    "eventsource.repositories": (
        "Checkpoint CheckpointRepository DLQRepository DeadLetter DeadLetterStatus "
        "InMemoryCheckpointRepository InMemoryDLQRepository PostgreSQLCheckpointRepository "
        "PostgreSQLDLQRepository SQLiteCheckpointRepository SQLiteDLQRepository"
    ),
    "eventsource.repositories.checkpoint": (
        "Checkpoint CheckpointRepository InMemoryCheckpointRepository PostgreSQLCheckpointRepository "
        "SQLiteCheckpointRepository"
    ),
    "eventsource.repositories.dlq": (
        "DLQRepository DeadLetter DeadLetterStatus InMemoryDLQRepository PostgreSQLDLQRepository SQLiteDLQRepository"
    ),
    "eventsource.serialization": "EventSourceJSONEncoder json_dumps json_loads",
    "eventsource.serialization.json": "EventSourceJSONEncoder json_dumps json_loads",
    "eventsource.snapshots": (
        "InMemorySnapshotStore PostgreSQLSnapshotStore SQLiteSnapshotStore Snapshot SnapshotPolicy SnapshotStore"
    ),
    "eventsource.snapshots.in_memory": "InMemorySnapshotStore",
    "eventsource.snapshots.interface": "Snapshot SnapshotPolicy SnapshotStore",
    "eventsource.snapshots.postgresql": "PostgreSQLSnapshotStore",
    "eventsource.snapshots.sqlite": "SQLITE_AVAILABLE SQLiteSnapshotStore",
    "eventsource.stores": (
        "AppendResult EventStore EventStream ExpectedVersion InMemoryEventStore OptimisticLockError "
        "PostgreSQLEventStore ReadDirection ReadOptions SQLiteEventStore StoredEvent StreamId"
    ),
    "eventsource.stores.in_memory": "InMemoryEventStore",
    "eventsource.stores.interface": (
        "AppendResult EventStore EventStream ExpectedVersion ReadDirection ReadOptions StoredEvent StreamId"
    ),
    "eventsource.stores.postgresql": "PostgreSQLEventStore",
    "eventsource.stores.sqlite": "SQLITE_AVAILABLE SQLiteEventStore",
    "eventsource.subscriptions": "Lag Subscription SubscriptionConfig SubscriptionManager",
    "eventsource.subscriptions.config": "SubscriptionConfig",
    "eventsource.subscriptions.manager": "Lag Subscription SubscriptionManager",
    "eventsource.sync": "SyncEventStoreAdapter",
    "eventsource.testing": (
        "EventAssertions EventBuilder InMemoryTestHarness given_events then_event_count then_event_published "
        "then_event_sequence then_no_events_published when_command"
    ),
    "eventsource.testing.assertions": "EventAssertions",
    "eventsource.testing.bdd": (
        "given_events then_event_count then_event_published then_event_sequence then_no_events_published when_command"
    ),
    "eventsource.testing.builder": "EventBuilder",
    "eventsource.testing.harness": "InMemoryTestHarness",
    "eventsource.types": "AggregateId CausationId CorrelationId EventId TState TenantId",
}

#: Modules of the guide whose rooms are not built.
MISSING = ["gdpr", "locks", "migration"]


@pytest.mark.parametrize("module", PROMISED)
def test_a_promised_name_is_there(module):
    opened = importlib.import_module(module)

    assert [name for name in PROMISED[module].split() if name not in opened.__all__] == []
    assert [name for name in opened.__all__ if not hasattr(opened, name)] == []


def test_no_module_is_promised_that_is_not_there_nor_the_other_way_round():
    found = {module.name for module in pkgutil.walk_packages(eventsource.__path__, "eventsource.")}

    assert found | {"eventsource"} == set(PROMISED)


@pytest.mark.parametrize("module", MISSING)
def test_a_room_that_is_not_built_cannot_be_imported(module):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"eventsource.{module}")


#: Names whose arguments are those of `eventsource`, and which derive from the class of the same name.
DOORWAYS = {
    "AggregateRepository",
    "DatabaseProjection",
    "DeclarativeProjection",
    "SubscriptionConfig",
    "SubscriptionManager",
}


def test_every_name_is_the_same_object_as_in_mainstay_or_takes_other_arguments():
    shared = [name for name in eventsource.__all__ if hasattr(mainstay, name)]

    same = {name for name in shared if getattr(eventsource, name) is getattr(mainstay, name)}
    assert set(shared) - same == DOORWAYS | {"Projection"}
    assert all(issubclass(getattr(eventsource, name), getattr(mainstay, name)) for name in DOORWAYS)
    assert len(same) > 30


def test_what_only_the_door_offers_is_not_made_for_those_who_do_not_come_in():
    program = (
        "import sys, mainstay; "
        "assert not {'mainstay.events.defaults', 'mainstay.extras', 'mainstay.doorways'} & set(sys.modules); "
        "import eventsource; assert len(eventsource.default_registry) == 0"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""


def test_flags_tell_what_is_installed():
    assert (eventsource.SQLITE_AVAILABLE, eventsource.POSTGRESQL_AVAILABLE, eventsource.OTEL_AVAILABLE) == (True,) * 3
    assert (eventsource.REDIS_AVAILABLE, eventsource.RABBITMQ_AVAILABLE, eventsource.KAFKA_AVAILABLE) == (True,) * 3


def test_the_door_is_typed():
    assert importlib.resources.files("eventsource").joinpath("py.typed").is_file()
