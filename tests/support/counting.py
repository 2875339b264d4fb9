"""A projection that keeps the numbers it was given, and what makes events for it."""

from mainstay.errors import StorageUnavailableError
from mainstay.events.event import DomainEvent
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.projection import Projection
from mainstay.projections.store import ShardStatus
from mainstay.retry import RetryPolicy

NAME = "Seen"
QUICK = SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=3, backoff_schedule=[0.0]))


class Counted(DomainEvent, aggregate_type="Counter", event_type="ProjectedCounted"):
    number: int


class Noted(DomainEvent, aggregate_type="Counter", event_type="ProjectedNoted"):
    text: str = ""


class Seen(Projection):
    """Keeps what it was given; refuses the numbers that it is told to."""

    def __init__(self, on_error="stop"):
        self.on_error = on_error
        self.numbers = []
        self.refused = set()
        self.calls = 0
        self.outage = 0

    def wanted(self, source):
        return source.filter(types=[Counted])

    async def handle(self, envelope, conn):
        self.calls += 1
        if self.outage:
            self.outage -= 1
            raise StorageUnavailableError("the server is away")
        if envelope.event.number in self.refused:
            raise ValueError(f"no {envelope.event.number} today")
        self.numbers.append(envelope.event.number)


async def count(store, *numbers, stream="a") -> int:
    """Append events of these numbers, one append each; gives the last one's position."""
    position = 0
    for number in numbers:
        position = (await store.append(StreamId("Counter", stream), [Counted(number=number)])).position
    return position


async def state_of(checkpoints):
    (state,) = await checkpoints.states(NAME)
    return state


async def is_stopped(checkpoints) -> bool:
    return (await state_of(checkpoints)).status is ShardStatus.STOPPED
