"""What to read, as one value: for code that passes it on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from mainstay.errors import InvalidInputError, shown
from mainstay.events.event import EventEnvelope
from mainstay.events.stream import LARGEST_VERSION, StreamId


class ReadDirection(StrEnum):
    """Which end to begin at."""

    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What is wanted of a stream, or of the feed.

    Args:
        direction: Which end to begin at; the feed is read forward only.
        from_position: Only what comes behind it: a version of a stream, a position of the feed. Backward, what comes
            before it; 0 is the end.
        limit: So many events at most.
        from_timestamp: Only what was appended then or later, by the log's clock.
        to_timestamp: Only what was appended then or before.
        tenant_id: Only this tenant's; of the feed.
    """

    direction: ReadDirection = ReadDirection.FORWARD
    from_position: int = 0
    limit: int | None = None
    from_timestamp: datetime | None = None
    to_timestamp: datetime | None = None
    tenant_id: UUID | str | None = None

    def of_stream(self) -> dict[str, Any]:
        """The arguments of `EventReader.read_stream` for what the log can narrow."""
        backwards = self.direction is ReadDirection.BACKWARD
        asked: dict[str, Any] = {"backwards": backwards, "up_to_time": self.to_timestamp}
        if not backwards:
            asked["after_version"] = self.from_position
        elif self.from_position:
            asked["up_to_version"] = min(self.from_position, LARGEST_VERSION + 1) - 1
        return asked | self._counted()

    def of_feed(self) -> dict[str, Any]:
        """The arguments of `EventReader.read_all` for what the log can narrow.

        Raises:
            InvalidInputError: The feed is not read backward.
        """
        if self.direction is not ReadDirection.FORWARD:
            raise InvalidInputError("the feed is read forward only; streams are read backward, too")
        return {"after": self.from_position, "tenant_id": self.tenant_id} | self._counted()

    async def narrowed(self, found: AsyncIterator[EventEnvelope]) -> AsyncIterator[EventEnvelope]:
        """What is wanted of what was found."""
        left = self.limit
        async for envelope in found:
            if left is not None and left <= 0:
                return
            if self._keeps(envelope):
                left = None if left is None else left - 1
                yield envelope

    def _counted(self) -> dict[str, Any]:
        """The limit, where the log leaves out all that is not wanted."""
        by_time = self.from_timestamp is not None or self.to_timestamp is not None
        return {} if by_time or self.limit is None else {"limit": self.limit}

    def _keeps(self, envelope: EventEnvelope) -> bool:
        time = envelope.recorded_at
        return (self.from_timestamp is None or time >= self.from_timestamp) and (
            self.to_timestamp is None or time <= self.to_timestamp
        )


def stream_named(name: StreamId | str) -> StreamId:
    """The stream that a text names: its id, a colon, its category.

    Raises:
        InvalidInputError: It names none.
    """
    if not isinstance(name, str):
        return name
    own, colon, category = name.rpartition(":")
    if not colon:
        raise InvalidInputError(f"a stream is named by a StreamId, or by 'id:category', not {shown(name)}")
    return StreamId(category, own)
