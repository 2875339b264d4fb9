"""What a log of events must do, on whatever it stands.

Subclass it in a test module and give it a fixture named ``log``::

    class TestMyLog(EventLogContract):
        @pytest.fixture
        async def log(self): ...

It needs pytest-asyncio in auto mode. Where the second of two writers waits for the first, say
``side_by_side = False``; where the log's clock does not move by itself, override ``pass_time``. After every test the
feed, the streams and what is known of them must tell the same. What each part asks is in its module.
"""

from mainstay.testing.contracts.events.appending import AppendingContract
from mainstay.testing.contracts.events.base import EventLogSuite
from mainstay.testing.contracts.events.conditions import ConditionContract
from mainstay.testing.contracts.events.conversations import ConversationContract
from mainstay.testing.contracts.events.ending import EndingContract
from mainstay.testing.contracts.events.feed import FeedContract
from mainstay.testing.contracts.events.filters import FilterContract
from mainstay.testing.contracts.events.importing import ImportingContract
from mainstay.testing.contracts.events.listing import ListingContract
from mainstay.testing.contracts.events.parts import PartContract
from mainstay.testing.contracts.events.racing import RacingContract
from mainstay.testing.contracts.events.reading import ReadingContract
from mainstay.testing.contracts.events.refusing import RefusingContract
from mainstay.testing.contracts.events.repeating import RepeatingContract

__all__ = [
    "AppendingContract",
    "ConditionContract",
    "ConversationContract",
    "EndingContract",
    "EventLogContract",
    "EventLogSuite",
    "FeedContract",
    "FilterContract",
    "ImportingContract",
    "ListingContract",
    "PartContract",
    "RacingContract",
    "ReadingContract",
    "RefusingContract",
    "RepeatingContract",
]


class EventLogContract(
    AppendingContract,
    RepeatingContract,
    ConditionContract,
    ReadingContract,
    FeedContract,
    FilterContract,
    EndingContract,
    ImportingContract,
    ListingContract,
    PartContract,
    RefusingContract,
    RacingContract,
    ConversationContract,
):
    """The whole suite."""
