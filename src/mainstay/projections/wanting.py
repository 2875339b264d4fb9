"""What a subscription wants, kept with its checkpoint, so that no event is passed by and nobody knows.

Events are asked for by the names of their types. Where a class gets another name and the registry is not told, its
events that are stored already, and have not been handled yet, are asked for by nobody: they would be passed by, and
nobody would know. So what a subscription wanted is noted, and a type that it wants no more is let go only if the
registry knows what it is: a class, another name of one, or a type that was retired.

A subscription that wants more than before begins with it where it stands. That may be what is meant, so it is said, not
refused, and only if there are events that it has passed by.
"""

from dataclasses import dataclass, replace

from mainstay.errors import ConfigurationError
from mainstay.events.log import FeedFilter
from mainstay.events.reading import EventReader
from mainstay.projections.store import ProjectionStore
from mainstay.telemetry import get_logger

log = get_logger(__name__)

_ALL_OF = "/*"
"""Stands behind the name of a category in a note, where types stand, too."""


async def let_nothing_pass(
    source: EventReader, store: ProjectionStore, subscription: str, wanted: FeedFilter, *, by_class: bool
) -> None:
    """Note what a subscription wants, unless it would pass by events of a type that it has wanted before.

    Args:
        source: Where events are read from.
        store: Keeps checkpoints.
        subscription: Which; known to the store.
        wanted: What its projection asks for now.
        by_class: Its types are those of classes, whose names may change.

    Raises:
        ConfigurationError: It would.
    """
    note = await store.wanted(subscription)
    before, now = _Kinds.noted(note), _Kinds(wanted.types, wanted.categories)
    if before == now:
        return
    if by_class and wanted.types is not None:
        await _let_go(source, subscription, (before.types or frozenset()) - wanted.types)
    if note is not None:
        await _warn_of_passed(source, store, subscription, wanted, before)
    await store.want(subscription, now.note())


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Types and categories; None for all."""

    types: frozenset[str] | None
    categories: frozenset[str] | None

    @classmethod
    def noted(cls, note: frozenset[str] | None) -> "_Kinds":
        if note is None:
            return cls(None, None)
        categories = frozenset(each.removesuffix(_ALL_OF) for each in note if each.endswith(_ALL_OF))
        types = frozenset(each for each in note if not each.endswith(_ALL_OF))
        return cls(types or (None if categories else types), categories or None)

    def note(self) -> frozenset[str] | None:
        if self.types is None and self.categories is None:
            return None
        return (self.types or frozenset()) | {each + _ALL_OF for each in self.categories or ()}


async def _let_go(source: EventReader, subscription: str, types: frozenset[str]) -> None:
    for missing in sorted(types):
        if source.registry.accounts_for(missing):
            continue
        page = await source.log.read_feed(limit=1, wanted=FeedFilter(types=frozenset([missing])))
        if page.events:
            raise ConfigurationError(
                f"subscription {subscription!r} has taken events of type {missing!r}, which are still stored, and "
                f"nothing here knows that type: it would pass them by. If the class has another name now, say so: "
                f"registry.rename({missing!r}, TheClass). If nobody is to handle them any more: "
                f"registry.retire({missing!r})"
            )


async def _warn_of_passed(
    source: EventReader, store: ProjectionStore, subscription: str, wanted: FeedFilter, before: _Kinds
) -> None:
    """Say which events it has passed by that it would want now."""
    reached = max([state.checkpoint.position for state in await store.states(subscription)], default=0)
    for kind, was, now in (("type", before.types, wanted.types), ("category", before.categories, wanted.categories)):
        if was is None or reached == 0:
            continue
        added = None if now is None else now - was
        only = replace(wanted, types=added) if kind == "type" else replace(wanted, categories=added)
        page = await source.log.read_feed(limit=1, wanted=only)
        if page.events and page.events[0].position <= reached:
            log.warning(
                "subscription %s wants more than before, events of %s, and begins with them where it stands: those up "
                "to position %d were passed by. If they are to be handled, too: rebuild a projection (`mainstay "
                "projections rebuild`); give a relay another name, or these events a relay of their own",
                subscription,
                f"every {kind}" if added is None else f"{kind} {', '.join(sorted(added))}",
                reached,
            )
