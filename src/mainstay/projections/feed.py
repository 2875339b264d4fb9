"""Reading the feed once for all shards that want the same page at the same time.

Shards that have caught up stand at one position, and are woken together. Each takes its own events out of the page.
"""

import asyncio

from mainstay.events.log import EventLog, FeedFilter, FeedPage


class SharedFeed:
    """The feed, as the shards of one subscription in one process read it.

    Args:
        log: Where the events are.
        wanted: Which events.
    """

    def __init__(self, log: EventLog, wanted: FeedFilter) -> None:
        self._log = log
        self._wanted = wanted
        self._under_way: dict[tuple[int, int], asyncio.Task[FeedPage]] = {}

    async def page(self, after: int, limit: int) -> FeedPage:
        """One page, perhaps one that another shard has asked for a moment ago.

        Args:
            after: A position.
            limit: Events in the page.

        Raises:
            StorageError: It could not be read.
        """
        asked = after, limit
        reading = self._under_way.get(asked)
        if reading is None:
            reading = asyncio.create_task(self._log.read_feed(after=after, limit=limit, wanted=self._wanted))
            self._under_way[asked] = reading
            reading.add_done_callback(lambda done: self._ended(asked, done))
        return await asyncio.shield(reading)

    def _ended(self, asked: tuple[int, int], done: asyncio.Task[FeedPage]) -> None:
        self._under_way.pop(asked, None)
        if not done.cancelled():
            done.exception()  # told to whoever still waits; else it is no news
