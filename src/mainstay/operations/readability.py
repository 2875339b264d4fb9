"""Whether every stored event can be read by somebody's classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mainstay.errors import ConfigurationError, CorruptEventError, DuplicateEventTypeError, UnknownEventTypeError
from mainstay.events.codec import EventCodec
from mainstay.events.log import RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.events.registry import EventRegistry
from mainstay.operations.loading import here, imported_here
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Events of a type and a version that cannot be read for one reason.

    Attributes:
        event_type: Their type.
        event_version: Of their payload's form.
        problem: Why not.
        events: How many.
        position: Of the first.
    """

    event_type: str
    event_version: int
    problem: str
    events: int
    position: int


class Readability:
    """What came of reading events.

    Args:
        codec: Reads them.
    """

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec
        self._faults: dict[tuple[str, int, str], Unreadable] = {}
        self.read = 0

    @property
    def faults(self) -> list[Unreadable]:
        """What could not be read, in the order of first positions."""
        return list(self._faults.values())

    @property
    def unreadable(self) -> int:
        """How many events could not be read."""
        return sum(each.events for each in self._faults.values())

    def take(self, events: Sequence[RecordedEvent]) -> None:
        """Read some more."""
        for recorded in events:
            self.read += 1
            try:
                self._codec.read(recorded)
            except UnknownEventTypeError:
                self._note(recorded, "no class is registered for this type, and no upcaster drops or renames it")
            except CorruptEventError as error:
                self._note(recorded, error.reason)
            except DuplicateEventTypeError as error:
                self._note(recorded, str(error))

    def _note(self, recorded: RecordedEvent, problem: str) -> None:
        event = recorded.event
        key = event.event_type, event.event_version, problem
        known = self._faults.get(key)
        self._faults[key] = (
            Unreadable(*key, 1, recorded.position) if known is None else replace(known, events=known.events + 1)
        )


def codec_of(path: str) -> EventCodec:
    """What reads events with somebody's classes.

    Args:
        path: ``module``, whose event classes are known once it is imported; or ``module:name`` of a registry or store.

    Raises:
        ConfigurationError: It cannot be imported, or is something else.
    """
    if ":" not in path:
        imported_here(path)
        return EventCodec(EventRegistry(), "error", DEFAULT_PAYLOAD_LIMIT)
    found = here(path)
    if isinstance(found, EventReader):
        found = found.registry
    if not isinstance(found, EventRegistry):
        raise ConfigurationError(f"{path} is {type(found).__name__}: it must be an EventRegistry or an event store")
    return EventCodec(found, "error", DEFAULT_PAYLOAD_LIMIT)
