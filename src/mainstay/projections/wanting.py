"""Which types of events a subscription wants, kept with its checkpoint, so that none is lost by a renamed class.

Events are asked for by the names of their types. Where a class gets another name and the registry is not told, its
events that are stored already, and have not been handled yet, are asked for by nobody: they would be passed by, and
nobody would know. So what a subscription wanted is noted, and a type that it wants no more is let go only if the
registry knows what it is: a class, another name of one, or a type that was retired.
"""

from mainstay.errors import ConfigurationError
from mainstay.events.log import FeedFilter
from mainstay.events.reading import EventReader
from mainstay.projections.store import ProjectionStore


async def let_nothing_pass(source: EventReader, store: ProjectionStore, subscription: str, wanted: FeedFilter) -> None:
    """Note what a subscription wants, unless it would pass by events of a type that it has wanted before.

    Args:
        source: Where events are read from.
        store: Keeps checkpoints.
        subscription: Which; known to the store.
        wanted: What its projection asks for now.

    Raises:
        ConfigurationError: It would.
    """
    before = await store.wanted(subscription)
    if before == wanted.types:
        return
    for missing in sorted((before or frozenset()) - (wanted.types or frozenset())):
        if wanted.types is None or source.registry.accounts_for(missing):
            continue
        page = await source.log.read_feed(limit=1, wanted=FeedFilter(types=frozenset([missing])))
        if page.events:
            raise ConfigurationError(
                f"subscription {subscription!r} has taken events of type {missing!r}, which are still stored, and "
                f"nothing here knows that type: it would pass them by. If the class has another name now, say so: "
                f"registry.rename({missing!r}, TheClass). If nobody is to handle them any more: "
                f"registry.retire({missing!r})"
            )
    await store.want(subscription, wanted.types)
