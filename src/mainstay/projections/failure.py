"""What is known of a handler's failure, and how it is told."""

from dataclasses import dataclass
from datetime import datetime

from mainstay.events.log import RecordedEvent


@dataclass(frozen=True, slots=True)
class Failure:
    """A handler's.

    Attributes:
        error: What it raised.
        at: When.
        attempts: How often the event in hand has failed; 0 as soon as it has not.
    """

    error: str
    at: datetime
    attempts: int


def about(subscription: str, shard: int, recorded: RecordedEvent | None) -> dict[str, object]:
    """What a log record says beside its text.

    Args:
        subscription: Whose.
        shard: Which.
        recorded: The event that it is about, if it is about one.
    """
    said: dict[str, object] = {"subscription": subscription, "shard": shard}
    if recorded is not None:
        event = recorded.event
        said |= {
            "position": recorded.position,
            "event_type": event.event_type,
            "event_id": str(event.event_id),
            "stream": str(recorded.stream),
        }
        if event.correlation_id is not None:
            said["correlation_id"] = str(event.correlation_id)
    return said


def times(attempts: int) -> str:
    """How often, if it was more than once."""
    return f" {attempts} times" if attempts > 1 else ""
