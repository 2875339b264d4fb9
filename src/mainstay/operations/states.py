"""What events made of an aggregate: its state at each version, and what changed from one to the next.

This takes the application's own classes: the aggregate's, and those of its events. They are given as they are; what
they raise is told as the reason why a state is not known, and by nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic_core import to_jsonable_python

from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError, MainstayError, shown
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.codec import EventCodec
from mainstay.events.log import EventLog
from mainstay.events.registry import EventRegistry
from mainstay.events.stream import StreamId
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT

MOST_FOLDED: Final = 2_000
"""Events up to which states are told unasked: it takes some 50 ms."""
_PAGE = 1_000
_DEEPEST = 40
Path: TypeAlias = tuple[str | int, ...]
"""Names of fields and places in lists, from the outside inwards."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is not as it was in a state.

    Attributes:
        path: Where.
        kind: ``added``, ``removed`` or ``changed``.
        was: What was there; None if nothing was.
        now: What is there; None if nothing is.
    """

    path: Path
    kind: str
    was: Any
    now: Any


@dataclass(frozen=True, slots=True)
class VersionState:
    """The state of an aggregate at a version.

    Attributes:
        version: Which.
        state: As JSON.
        changes: What the event of this version changed.
    """

    version: int
    state: Any
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """States at some versions of a stream.

    Attributes:
        states: By version.
        problem: Why those that are missing are not known; None if none is missing.
    """

    states: dict[int, VersionState]
    problem: str | None = None


class States:
    """Tells the states of aggregates.

    Args:
        kinds: Classes of aggregates; of two of one category, the first.
        events: The classes of their events, and upcasters; all classes that this process has, unless given.

    Raises:
        ConfigurationError: One is no class of aggregates.
    """

    def __init__(self, kinds: Iterable[type[AggregateRoot[Any]]] = (), events: EventRegistry | None = None) -> None:
        self._codec = EventCodec(EventRegistry() if events is None else events, "error", DEFAULT_PAYLOAD_LIMIT)
        self._kinds: dict[str, type[AggregateRoot[Any]]] = {}
        for kind in kinds:
            if not isinstance(kind, type) or not issubclass(kind, AggregateRoot):
                raise ConfigurationError(f"expected a class derived from AggregateRoot, not {shown(kind)}")
            self._kinds.setdefault(kind.aggregate_type, kind)

    def kind_of(self, category: str) -> type[AggregateRoot[Any]] | None:
        """The class of the aggregates of a category; None if it is not known."""
        return self._kinds.get(category)

    async def at(self, log: EventLog, stream: StreamId, first: int, last: int) -> Told:
        """The states at versions of a stream whose class is known; all of its events up to there are read.

        Args:
            log: Where its events are.
            stream: Which one; not tombstoned.
            first: The first version that is wanted.
            last: The last one.
        """
        kind = self._kinds[stream.category]
        found: dict[int, VersionState] = {}
        version = 0
        try:
            made = kind(stream.id) if stream.tenant_id is None else kind(stream.id, tenant_id=stream.tenant_id)
            before = written(made.state)
            while version < last:
                page = await log.read_stream(stream, after_version=version, up_to_version=last, limit=_PAGE)
                if not page:
                    break
                for recorded in page:
                    version = recorded.version
                    made.load_from_history(self._codec.read(recorded))
                    if version >= first - 1:
                        now = written(made.state)
                        if version >= first:
                            found[version] = VersionState(version, now, tuple(changes(before, now)))
                        before = now
        except MainstayError as error:
            return Told(found, str(error))
        except Exception as error:  # noqa: BLE001 - the classes are the user's; what they say may hold anybody's data
            return Told(found, f"{kind.__name__} raised {type(error).__name__} at version {max(version, 1):,}")
        return Told(found)


def aggregates_in(registry: HandlerRegistry) -> list[type[AggregateRoot[Any]]]:
    """The classes of aggregates that handlers are called with."""
    domains = dict.fromkeys(domain for domain, _ in registry.registered_handlers())
    return list(dict.fromkeys(target.kind for domain in domains for target in registry.targets(domain)))


def written(state: Any) -> Any:
    """A state as JSON; of what has no such form, its attributes or else its text."""
    return to_jsonable_python(state, by_alias=False, fallback=_attributes, inf_nan_mode="constants")


def _attributes(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dict__") else str(value)


def changes(was: Any, now: Any, path: Path = ()) -> Iterator[Change]:
    """What differs between two JSON values; lists are compared place by place."""
    if was is None and isinstance(now, dict) and not path:
        was = {}
    if isinstance(was, dict) and isinstance(now, dict) and len(path) < _DEEPEST:
        for name in dict.fromkeys([*was, *now]):
            yield from _at(name, was, now, path, was_there=name in was, is_there=name in now)
    elif isinstance(was, list) and isinstance(now, list) and len(path) < _DEEPEST:
        for place in range(max(len(was), len(now))):
            yield from _at(place, was, now, path, was_there=place < len(was), is_there=place < len(now))
    elif type(was) is not type(now) or was != now:
        yield Change(path, "changed", was, now)


def _at(name: Any, was: Any, now: Any, path: Path, *, was_there: bool, is_there: bool) -> Iterator[Change]:
    here = (*path, name)
    if was_there and is_there:
        yield from changes(was[name], now[name], here)
    elif is_there:
        yield Change(here, "added", None, now[name])
    else:
        yield Change(here, "removed", was[name], None)
