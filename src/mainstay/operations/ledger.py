"""What operators ask about decisions: the entry of the ledger, with the events that followed as they are stored."""

from dataclasses import dataclass
from uuid import UUID

from mainstay.commands.bus import CommandBus
from mainstay.commands.ledger import Decision
from mainstay.errors import StreamTombstonedError
from mainstay.events.log import EventLog
from mainstay.events.stream import StreamId


@dataclass(frozen=True, slots=True)
class DecidedEvent:
    """An event that followed from a command.

    Args:
        version: In its stream.
        event_type: Its type.
        position: In the feed.
        event_id: Which.
    """

    version: int
    event_type: str
    position: int
    event_id: UUID


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided on a command, and what came of it.

    Args:
        decision: The entry of the ledger.
        events: What followed; empty if the stream is tombstoned.
        tombstoned: It is.
    """

    decision: Decision
    events: tuple[DecidedEvent, ...]
    tombstoned: bool


class Ledger:
    """The part of the operator that is about decisions.

    Args:
        bus: Knows the ledger.
        log: Where the events are.
    """

    def __init__(self, bus: CommandBus, log: EventLog) -> None:
        self._bus = bus
        self._log = log

    async def decided(self, domain: str, command_id: UUID) -> Decided | None:
        """What was decided on a command; None if nothing was."""
        found = await self._bus.get_decision(domain, command_id)
        if found is None:
            return None
        try:
            events = await self._events(found)
        except StreamTombstonedError:
            return Decided(found, (), tombstoned=True)
        return Decided(found, events, tombstoned=False)

    async def _events(self, decision: Decision) -> tuple[DecidedEvent, ...]:
        if not decision.events:
            return ()
        read = await self._log.read_stream(
            StreamId(*decision.stream),
            after_version=decision.version_read,
            up_to_version=decision.version,
            limit=decision.events,
        )
        return tuple(
            DecidedEvent(each.version, each.event.event_type, each.position, each.event.event_id) for each in read
        )
