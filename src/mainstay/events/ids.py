"""What ids of events are, by name, for signatures."""

from typing import TypeAlias
from uuid import UUID

AggregateId: TypeAlias = UUID | str
"""Of an aggregate: a UUID, or a text. A text that is written as UUIDs are is one."""

EventId: TypeAlias = UUID
"""Of an event."""

TenantId: TypeAlias = UUID | str
"""Of whose streams; as `AggregateId`."""

CorrelationId: TypeAlias = UUID
"""Of what belongs together."""

CausationId: TypeAlias = UUID
"""Of the command or event that led to another."""
