"""The signatures that users of `eventsource` write, for classes that have others here.

Each is the class of its room, made from the arguments that those users give. What it does, the class of the room says;
what an argument means here is said below. The door `eventsource` re-exports them under the names that they have.
"""

import logging
from abc import abstractmethod
from typing import Any, Literal, Protocol, Self, runtime_checkable
from uuid import UUID

from mainstay import app
from mainstay.errors import ConfigurationError, MissingDependencyError, shown
from mainstay.events import repository
from mainstay.events.event import DomainEvent
from mainstay.events.log import Appended
from mainstay.events.repository import DEFAULT_ATTEMPTS, AggregateT
from mainstay.events.snapshot import SnapshotPolicy, SnapshotStore
from mainstay.events.store import EventStore
from mainstay.projections import config, declarative, subscription
from mainstay.projections.store import ProjectionStore
from mainstay.projections.subscriber import EventSubscriber, Subscribing
from mainstay.tenancy import all_tenants, require_tenant, tenant_scope

try:
    from mainstay.storage.sqlite.files import CheckpointFile, SnapshotFile
except (
    MissingDependencyError
) as _error:  # the extra ``sqlite``: who imports the names can do without, until they are used
    _reason = str(_error)

    class SnapshotFile:  # type: ignore[no-redef]  # stands where the real one would
        """Stands for what is not installed."""

        def __init__(self, _path: object) -> None:
            """Say what to install.

            Raises:
                MissingDependencyError: Always.
            """
            raise MissingDependencyError(_reason)

    CheckpointFile = SnapshotFile  # type: ignore[assignment,misc]  # as above

__all__ = [
    "AggregateRepository",
    "CheckpointFile",
    "CheckpointTrackingProjection",
    "DatabaseProjection",
    "DeclarativeProjection",
    "EventPublisher",
    "SnapshotFile",
    "SubscriptionConfig",
    "SubscriptionManager",
    "TenantDomainEvent",
    "clear_tenant_context",
    "set_current_tenant",
]

_log = logging.getLogger(__name__)

NOBODY = "program"
"""Who pauses and resumes, if nobody says who."""

_STARTS: dict[str, Literal["beginning", "now"]] = {"beginning": "beginning", "checkpoint": "beginning", "end": "now"}


@runtime_checkable
class EventPublisher(Protocol):
    """Is told of events that are stored."""

    async def publish(self, events: list[DomainEvent]) -> None:
        """Tell of them."""
        ...


class AggregateRepository(repository.AggregateRepository[AggregateT]):
    """Loads aggregates of one class, and saves them.

    Args:
        event_store: Where the events are.
        aggregate_factory: The class of the aggregates.
        aggregate_type: What the class says itself; may be left out.
        event_publisher: Is told of what was saved, once it is committed. It may be told of nothing (the process may die
            before), so whoever must see every event subscribes to the store instead. If it fails, that is logged, and
            `save` has succeeded all the same.
        snapshot_store: Where snapshots are; the store's own unless given.
        snapshot_threshold: Events after which one is left; None: none is.
        snapshot_mode: ``"manual"`` leaves them to `create_snapshot`. ``"sync"`` and ``"background"`` are the same: a
            snapshot is of what was committed, and is kept after that.
        tenant_id: Whose aggregates.
        attempts: How often `execute` tries.

    Raises:
        ConfigurationError: ``aggregate_type`` is not that of the class, no such mode, or as the room's class says.
    """

    def __init__(  # noqa: PLR0917 - the signature is a promise to users of `eventsource`
        self,
        event_store: EventStore,
        aggregate_factory: type[AggregateT],
        aggregate_type: str | None = None,
        event_publisher: EventPublisher | None = None,
        snapshot_store: SnapshotStore | None = None,
        snapshot_threshold: int | None = None,
        snapshot_mode: Literal["sync", "background", "manual"] = "sync",
        *,
        tenant_id: UUID | str | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
    ) -> None:
        if snapshot_mode not in {"sync", "background", "manual"}:
            raise ConfigurationError(f"snapshot_mode is 'sync', 'background' or 'manual', not {shown(snapshot_mode)}")
        if event_publisher is not None and not isinstance(event_publisher, EventPublisher):
            raise ConfigurationError(f"event_publisher must have publish(events), not {shown(event_publisher)}")
        policy = None
        if snapshot_threshold is not None and snapshot_mode != "manual":
            policy = SnapshotPolicy.every(snapshot_threshold)
        elif snapshot_mode == "manual" or snapshot_threshold is not None:
            snapshot_store = snapshot_store or event_store.snapshots
        super().__init__(
            event_store,
            aggregate_factory,
            snapshots=policy,
            snapshot_store=snapshot_store,
            tenant_id=tenant_id,
            attempts=attempts,
        )
        if aggregate_type is not None and aggregate_type != aggregate_factory.aggregate_type:
            raise ConfigurationError(
                f"{aggregate_factory.__name__} says aggregate_type {aggregate_factory.aggregate_type!r}, and the "
                f"repository {aggregate_type!r}: let the class say it"
            )
        self.event_store = event_store
        self.aggregate_type = aggregate_factory.aggregate_type
        self._publisher = event_publisher

    async def save(self, aggregate: AggregateT, *, conn: Any = None) -> Appended | None:
        """Store what an aggregate has raised, and tell the publisher; with ``conn`` nobody is told.

        Raises:
            OptimisticLockError: Somebody else has appended; nothing was written.
            InvalidInputError: Of another class or tenant.
        """
        events = aggregate.uncommitted_events
        done = await super().save(aggregate, conn=conn)
        if done is not None and conn is None and self._publisher is not None:
            try:
                await self._publisher.publish(events)
            except Exception:  # noqa: BLE001 - what a publisher raises is its own, and the events are stored
                _log.exception("%d events of %s are stored, and could not be published", len(events), aggregate.stream)
        return done

    async def get_or_raise(self, aggregate_id: UUID | str) -> AggregateT:
        """As `load`."""
        return await self.load(aggregate_id)

    @property
    def pending_snapshot_count(self) -> int:
        """Snapshots that are still to be kept: none, as `save` has kept them."""
        return 0

    async def await_pending_snapshots(self) -> int:
        """Wait for snapshots that are still to be kept; gives how many: none."""
        return self.pending_snapshot_count


class _Resettable:
    """What projections share that are made from a place for checkpoints.

    Args:
        checkpoint_repo: Where the subscription keeps its checkpoint; give the same to the `SubscriptionManager`.
        dlq_repo: Left alone: dead letters are where the checkpoints are.
        enable_tracing: Left alone: traces are recorded if the application has set up an SDK.
    """

    def __init__(
        self,
        checkpoint_repo: ProjectionStore | None = None,
        dlq_repo: object = None,
        enable_tracing: bool = False,  # noqa: FBT001, FBT002 - the signature is a promise to users of `eventsource`
    ) -> None:
        del dlq_repo, enable_tracing
        super().__init__()
        self.checkpoint_repo = checkpoint_repo

    async def reset(self) -> None:
        """Forget what was made of events; for whoever hands them over once more."""
        await self._truncate_read_models()

    async def _truncate_read_models(self) -> None:
        """Override it."""


class DeclarativeProjection(_Resettable, declarative.DeclarativeProjection):
    """A projection whose methods say with `handles` which events they take.

    Args:
        checkpoint_repo: Where the subscription keeps its checkpoint; give the same to the `SubscriptionManager`.
        dlq_repo: Left alone: dead letters are where the checkpoints are.
        enable_tracing: Left alone: traces are recorded if the application has set up an SDK.
    """


class DatabaseProjection(_Resettable, declarative.DatabaseProjection):
    """A projection whose methods also get the transaction in which the checkpoint moves.

    Args:
        checkpoint_repo: Where the subscription keeps its checkpoint; give the same to the `SubscriptionManager`.
        dlq_repo: Left alone: dead letters are where the checkpoints are.
        enable_tracing: Left alone: traces are recorded if the application has set up an SDK.
    """


class CheckpointTrackingProjection(_Resettable, EventSubscriber):
    """Base of those who take events of some classes in ``_process_event``.

    Args:
        checkpoint_repo: Where the subscription keeps its checkpoint; give the same to the `SubscriptionManager`.
        dlq_repo: Left alone: dead letters are where the checkpoints are.
        enable_tracing: Left alone: traces are recorded if the application has set up an SDK.
    """

    async def handle(self, event: DomainEvent) -> None:
        """Take one in."""
        await self._process_event(event)

    @abstractmethod
    async def _process_event(self, event: DomainEvent) -> None:
        """Take one in."""


class SubscriptionConfig(config.SubscriptionConfig):
    """Settings of one subscription.

    Args:
        start_from: Where a new subscription begins: ``"beginning"``, ``"end"``, after a position, or
            ``"checkpoint"``, which is the beginning, for one that has none. One that is known goes on where it was.
        batch_size: Events that are handled in one transaction.
        others: As those of `mainstay.SubscriptionConfig`.

    Raises:
        ConfigurationError: A value out of range.
    """

    def __init__(
        self,
        start_from: Literal["beginning", "end", "checkpoint"] | int = "checkpoint",
        batch_size: int = 100,
        **others: Any,
    ) -> None:
        begin = _STARTS.get(start_from) if isinstance(start_from, str) else start_from
        if begin is None:
            known = "'beginning', 'end', 'checkpoint' or a position"
            raise ConfigurationError(f"start_from must be {known}, not {shown(start_from)}")
        super().__init__(batch_size=batch_size, start=begin, **others)


class SubscriptionManager(app.SubscriptionManager):
    """All subscriptions of a process.

    Args:
        event_store: Where events are read from.
        event_bus: Not needed, and left alone: a subscription reads the store, which wakes it.
        checkpoint_repo: Where checkpoints and dead letters are kept; the store's own database unless given.
        shutdown_timeout: Seconds that `run_until_shutdown` gives to the batches in hand.
        dlq_repo: Left alone: dead letters are where the checkpoints are, in one transaction with them.
        owner: Who we are, for leases; drawn if None.

    Raises:
        ConfigurationError: There is no place for checkpoints that goes with the event store.
    """

    def __init__(
        self,
        event_store: EventStore,
        event_bus: object = None,
        checkpoint_repo: ProjectionStore | None = None,
        shutdown_timeout: float = 30.0,
        *,
        dlq_repo: object = None,
        owner: str | None = None,
    ) -> None:
        if event_bus is not None and not isinstance(event_bus, EventPublisher):
            raise ConfigurationError(
                f"event_bus must have publish(events), not {shown(event_bus)}; checkpoints are kept in checkpoint_repo="
            )
        del dlq_repo
        super().__init__(event_store, checkpoint_repo, owner=owner)
        self._checkpoint_repo = checkpoint_repo
        self._shutdown_timeout = shutdown_timeout

    async def subscribe(
        self,
        projection: Subscribing,
        config: config.SubscriptionConfig | None = None,
        *,
        name: str | None = None,
    ) -> subscription.Subscription:
        """Add a projection, or anything else that takes events; it begins at once if the manager runs.

        Args:
            projection: Who wants events.
            config: How to go about it.
            name: Of the subscription, instead of the projection's.

        Raises:
            ConfigurationError: It was made with another place for checkpoints than this manager's; or as the room's
                class says.
            InvalidOperationError: It is known with another number of shards.
        """
        wanted = getattr(projection, "checkpoint_repo", None)
        if wanted is not None and wanted is not self._checkpoint_repo:
            raise ConfigurationError(
                f"{type(projection).__name__} wants its checkpoint elsewhere: give its checkpoint_repo to the "
                "SubscriptionManager, too"
            )
        return await super().subscribe(projection, config, name=name)

    async def run_until_shutdown(self, *, grace: float | None = None) -> None:
        """Run until SIGTERM or SIGINT, then stop.

        Args:
            grace: Seconds for the batches in hand; ``shutdown_timeout`` unless given.
        """
        await super().run_until_shutdown(grace=self._shutdown_timeout if grace is None else grace)

    async def pause(self, subscription: str, *, actor: str = NOBODY, reason: str | None = None) -> int:
        """Pause a subscription, in all processes, until resumed.

        Args:
            subscription: Its name.
            actor: Who wants it.
            reason: Why.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await super().pause(subscription, actor=actor, reason=reason)

    async def resume(self, subscription: str, *, actor: str = NOBODY) -> int:
        """Let a paused or stopped subscription go on.

        Args:
            subscription: Its name.
            actor: Who wants it.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await super().resume(subscription, actor=actor)


class TenantDomainEvent(DomainEvent):
    """An event that needs a tenant: it is given one, or `with_tenant_context` takes that of the scope."""

    tenant_id: UUID | str

    @classmethod
    def with_tenant_context(cls, **fields: Any) -> Self:
        """An event of the tenant in whose scope this runs, unless ``tenant_id`` is given.

        Raises:
            TenantMissingError: It runs in none, and no tenant is given.
        """
        return cls(**({} if "tenant_id" in fields else {"tenant_id": require_tenant()}), **fields)


del TenantDomainEvent.__event_type__  # a base of events, which no registry is to find


def set_current_tenant(tenant_id: UUID | str) -> None:
    """Run what follows in this task or thread in the name of a tenant: a scope without an end.

    Raises:
        InvalidInputError: No such id.
    """
    tenant_scope(tenant_id).__enter__()


def clear_tenant_context() -> None:
    """Run what follows in this task or thread outside any scope."""
    all_tenants().__enter__()
