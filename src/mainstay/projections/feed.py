"""Reading the feed once for all shards that want the same page at the same time.

Shards that have caught up stand at one position, and are woken together. Each takes its own events out of the page.
"""

from functools import partial

from mainstay.events.log import EventLog, FeedFilter, FeedPage
from mainstay.joining import Shared


class SharedFeed:
    """The feed, as the shards of one subscription in one process read it.

    Args:
        log: Where the events are.
        wanted: Which events.
    """

    def __init__(self, log: EventLog, wanted: FeedFilter) -> None:
        self._log = log
        self._wanted = wanted
        self._under_way: dict[tuple[int, int], Shared[FeedPage]] = {}

    async def page(self, after: int, limit: int) -> FeedPage:
        """One page, perhaps one that another shard has asked for a moment ago.

        Args:
            after: A position.
            limit: Events in the page.

        Raises:
            StorageError: It could not be read.
        """
        asked = after, limit
        read = partial(self._log.read_feed, after=after, limit=limit, wanted=self._wanted)
        reading = self._under_way.setdefault(asked, Shared(read))
        try:
            return await reading.answer()
        finally:
            if self._under_way.get(asked) is reading:
                del self._under_way[asked]
