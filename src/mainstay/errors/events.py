"""Errors about events, their streams, and what is made of them.

The ground floor knows no room: a ``stream`` is whatever names one and can say so, a `StreamId` as a rule.
"""

from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Any
from uuid import UUID

from mainstay.errors.base import MainstayError, shown


class EventError(MainstayError):
    """Something about events or a stream."""


class OptimisticLockError(EventError):
    """A stream is not as the append expected: somebody else has appended. Nothing was written."""

    def __init__(self, stream: Any, expected: Any, actual: int) -> None:
        """Keep all three; ``actual`` is the version found, 0 for a stream that was never written."""
        self.stream = stream
        self.expected = expected
        self.actual = actual
        found = f"version {actual}" if actual else "no stream"
        wanted = f"version {expected}" if isinstance(expected, int) else str(expected)
        super().__init__(f"{stream} has {found}; expected was {wanted}: load it again and retry")

    @property
    def aggregate_id(self) -> Any:
        """Whose stream."""
        return getattr(self.stream, "id", self.stream)

    @property
    def expected_version(self) -> int:
        """What was expected as a number, as `ExpectedVersion.of` takes it."""
        return int(self.expected)

    @property
    def actual_version(self) -> int:
        """The version found."""
        return self.actual


class DuplicateEventError(EventError):
    """Some events of an append are in the stream, and others are not, so it is no repetition. Nothing was written."""

    def __init__(self, stream: Any, event_ids: Iterable[UUID]) -> None:
        """Keep the stream, and the ids that are in it, as ``event_ids``."""
        self.stream = stream
        self.event_ids = tuple(event_ids)
        first = f" {self.event_ids[0]}" if self.event_ids else ""
        more = f" (and {len(self.event_ids) - 1} more)" if len(self.event_ids) > 1 else ""
        super().__init__(
            f"{stream} holds event{first}{more} already, but not all that were to be appended: append what is new "
            "under new event ids"
        )


class AppendConditionError(EventError):
    """An event fits the query that an append must not find. Nothing was written; read again and decide anew."""

    def __init__(self, position: int) -> None:
        """Keep where that event is, as ``position``."""
        self.position = position
        super().__init__(f"the event at position {position} forbids this append: read again and decide anew")


class TenantScopeError(EventError):
    """Code that runs in the scope of one tenant asked for what is another's. Nothing was written."""

    def __init__(self, tenant_id: Any, other: Any, what: Any) -> None:
        """Keep the scope's tenant, the other, and what was asked for, as ``tenant_id``, ``other`` and ``what``."""
        self.tenant_id = tenant_id
        self.other = other
        self.what = what
        super().__init__(f"{what} is of tenant {shown(other)}, and this runs in the scope of {shown(tenant_id)}")


class TenantMissingError(EventError):
    """Code that needs a tenant runs outside any scope."""

    def __init__(self) -> None:
        """There is nothing to keep."""
        super().__init__("this needs a tenant: run it inside `with tenant_scope(tenant_id):`")


class StreamNotFoundError(EventError):
    """No such stream: it was never written."""

    def __init__(self, stream: Any) -> None:
        """Keep it as ``stream``."""
        self.stream = stream
        super().__init__(f"there is no stream {stream}")


class StreamArchivedError(EventError):
    """The stream is archived and takes no more events. Nothing was written."""

    def __init__(self, stream: Any) -> None:
        """Keep it as ``stream``."""
        self.stream = stream
        super().__init__(f"{stream} is archived; open it again with archive(stream, archived=False)")


class StreamTombstonedError(EventError):
    """The stream was emptied for good: it gives no events and takes none."""

    def __init__(self, stream: Any) -> None:
        """Keep it as ``stream``."""
        self.stream = stream
        super().__init__(f"{stream} is tombstoned: it is gone for good; use another id")


class UnknownEventTypeError(EventError):
    """No class is registered for an event type."""

    def __init__(self, event_type: str, position: int | None = None) -> None:
        """Keep the type, and where in the feed it was met, if it was."""
        self.event_type = event_type
        self.position = position
        where = "" if position is None else f" (at position {position})"
        super().__init__(
            f"no class is registered for event type {shown(event_type)}{where}: import the module that defines it, "
            "register an upcaster that drops or renames it, or read with unknown='skip'"
        )


class DuplicateEventTypeError(EventError, ValueError):
    """Two classes want one event type."""

    def __init__(self, event_type: str, first: str, second: str) -> None:
        """Keep the type, and where both classes are: module and name."""
        self.event_type = event_type
        self.first = first
        self.second = second
        super().__init__(
            f"event type {shown(event_type)} belongs to {first} already, so {second} cannot have it: give one of them "
            "another event_type"
        )


class CorruptEventError(EventError):
    """An event is stored that cannot be read. Nobody skips it: mend it with an upcaster, or correct the data."""

    def __init__(self, position: int, stream: Any, version: int, event_type: str, reason: str) -> None:
        """Keep all of it as attributes."""
        self.position = position
        self.stream = stream
        self.version = version
        self.event_type = event_type
        self.reason = reason
        super().__init__(
            f"the event at position {position} ({shown(event_type)}, version {version} of {stream}) cannot be read: "
            f"{reason}"
        )


class EventVersionError(EventError, ValueError):
    """A version of an event's payload that nobody can read, or an upcaster that does not fit."""


class AggregateNotFoundError(EventError):
    """No such aggregate: its stream has no events."""

    def __init__(self, aggregate_type: str, aggregate_id: Any) -> None:
        """Keep both as attributes."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        super().__init__(f"there is no {aggregate_type} {aggregate_id}")


class AggregateNotCreatedError(EventError):
    """The state of an aggregate was asked for before its first event, and it has none before."""

    def __init__(self, aggregate_type: str, aggregate_id: Any) -> None:
        """Keep both as attributes."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        super().__init__(
            f"{aggregate_type} {aggregate_id} has no state before its first event: look at is_created, or use "
            "state_or_none"
        )


class UnhandledEventError(EventError):
    """An event reached somebody who has nothing that handles it."""

    def __init__(self, event_type: str, handler: str) -> None:
        """Keep the type, and the name of the class that should have handled it."""
        self.event_type = event_type
        self.handler = handler
        super().__init__(f"{handler} handles no {event_type}: give it a method with @handles({event_type})")


class ProjectionError(EventError):
    """A projection failed on an event; its cause is what the handler raised."""

    def __init__(self, projection: str, position: int, reason: str) -> None:
        """Keep all three as attributes."""
        self.projection = projection
        self.position = position
        self.reason = reason
        super().__init__(f"projection {projection} failed on the event at position {position}: {reason}")


class RebuildError(EventError):
    """A rebuild stopped. What serves goes on as before; the rebuild can be gone on with, or canceled."""

    def __init__(self, subscription: str, reason: str) -> None:
        """Keep both as attributes."""
        self.subscription = subscription
        self.reason = reason
        super().__init__(
            f"the rebuild of {subscription!r} stopped: {reason}. The old one serves as before; mend the cause and "
            "rebuild again, which goes on where it was, or cancel_rebuild()"
        )


class CheckpointMismatchError(EventError):
    """The events are not those that a checkpoint has seen: a restore or a failover came between."""

    def __init__(self, name: str, position: int, reason: str) -> None:
        """Keep whose checkpoint it is, where it stands, and what differs."""
        self.name = name
        self.position = position
        self.reason = reason
        super().__init__(f"the checkpoint of {name} at position {position} does not fit the events: {reason}")


class ReadModelConflictError(OptimisticLockError):
    """A row of a read model is not as a save expected: somebody else has saved it. Nothing was written."""

    def __init__(self, table: str, id: Any, expected: int, actual: int) -> None:  # noqa: A002 - what it is
        """Keep where; ``actual`` is the version found, 0 for no row."""
        super().__init__(f"{table}/{id}", expected, actual)
        self.table = table
        self.id = id
        found = f"version {actual}" if actual else "no row"
        wanted = f"version {expected}" if expected else "no row"
        self.args = (f"{table} has {found} of {shown(id)}; expected was {wanted}: read it again and retry",)


class ReadModelCorruptError(EventError):
    """A row of a read model does not fit its class. Rebuild the projection, or mend the row."""

    def __init__(self, table: str, id: Any, reason: str) -> None:  # noqa: A002 - what it is
        """Keep all three as attributes."""
        self.table = table
        self.id = id
        self.reason = reason
        super().__init__(f"the row {shown(id)} of {table} does not fit its model: {reason}; rebuild the projection")


class ReadModelTableNotFoundError(EventError):
    """The table of a read model is not there."""

    def __init__(self, table: str) -> None:
        """Keep its name."""
        self.table = table
        super().__init__(
            f"there is no table {table!r}: subscribing its projection makes it, and so does create_table of ReadModels"
        )


class TenantMismatchError(EventError):
    """A row belongs to another tenant. Nothing was written."""

    def __init__(self, table: str, id: Any) -> None:  # noqa: A002 - what it is
        """Keep where."""
        self.table = table
        self.id = id
        super().__init__(
            f"the row {shown(id)} of {table} belongs to another tenant: ids are unique over all tenants, so make the "
            "tenant a part of them"
        )


class SubscriptionHeldError(EventError):
    """A subscription is paused, or an error has stopped it: it will not come further before somebody resumes it."""

    def __init__(self, subscription: str, status: str, reason: str | None, reached: int, position: int) -> None:
        """Keep all; ``reached`` is where it stands, ``position`` where it was to come."""
        self.subscription = subscription
        self.status = status
        self.reason = reason
        self.reached = reached
        self.position = position
        why = f" ({reason})" if reason else ""
        first = "mend what stopped it, then run" if status == "STOPPED" else "run"
        super().__init__(
            f"subscription {subscription!r} is {status.lower()}{why} at {reached}, and does not come to {position} by "
            f"itself: {first} `mainstay projections resume {quote(subscription)}`"
        )


class SubscriptionLateError(EventError, TimeoutError):
    """A subscription has not come so far in time: it is late, or no process runs it. It goes on all the same."""

    def __init__(
        self, subscription: str, reached: int, position: int, seconds: float, reasons: Sequence[str] = ()
    ) -> None:
        """Keep all; ``reached`` is where it stands, ``position`` where it was to come in so many seconds."""
        self.subscription = subscription
        self.reached = reached
        self.position = position
        self.seconds = seconds
        self.reasons = tuple(reasons)
        told = f"subscription {subscription!r} is at {reached}, not at {position}, after {seconds:g} s"
        super().__init__(
            "; ".join([told, *self.reasons])
            + f". Wait longer (timeout=...), or see what holds it up: `mainstay projections lag {quote(subscription)}`"
        )


class SubscriptionNotFoundError(EventError):
    """No subscription of this name is known."""

    def __init__(self, subscription: str) -> None:
        """Keep its name."""
        self.subscription = subscription
        super().__init__(
            f"no subscription {subscription!r} is known; one is made known when a process that has it starts"
        )
