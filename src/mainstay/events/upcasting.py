"""Old events become new ones: one function for each step from a form of a payload to the next.

Events are kept for ever, so a reader meets every form that was ever written. An upcaster is a plain function from the
payload of one version, a dict, to what is there instead: the payload of the next version (a dict), an event of another
type, or several (`RawEvent`), or none at all (None or an empty list). Upcasters are chained until nothing is left to
do, before anything is validated, so the rest of a program knows the newest forms only.

What a split gives has the position, the version and the id of the event that was stored.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from mainstay.errors import ConfigurationError, EventVersionError, shown
from mainstay.serialization import checked_upcaster

_LONGEST_CHAIN = 100


class RawEvent(NamedTuple):
    """A payload that has no class yet, and what it is of."""

    event_type: str
    data: dict[str, Any]
    version: int = 1


Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | RawEvent | Iterable[RawEvent] | None]
"""From the payload of one version to what is there instead; without effects."""

UpcasterT = TypeVar("UpcasterT", bound=Callable[[dict[str, Any]], Any])


@dataclass(frozen=True, slots=True)
class _Step:
    function: Upcaster
    into: frozenset[str]


class Upcasters:
    """The upcasters of one registry."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], _Step] = {}
        self._names: dict[str, str] = {}
        self.changes = 0
        """Grows with what is registered or forgotten."""

    def add(self, function: Upcaster, event_type: str, from_version: int, into: Iterable[str]) -> None:
        """Register one.

        Args:
            function: The upcaster.
            event_type: Whose payloads it takes.
            from_version: Of which version.
            into: Types of the events that it may give.

        Raises:
            ConfigurationError: Not a plain function.
            EventVersionError: Not a version, or it has an upcaster.
        """
        checked_upcaster(function)
        if isinstance(from_version, bool) or not isinstance(from_version, int) or from_version < 1:
            raise EventVersionError(f"from_version is a whole number from 1, not {shown(from_version)}")
        if (event_type, from_version) in self._steps:
            raise EventVersionError(f"{event_type} has an upcaster from version {from_version} already")
        self.changes += 1
        self._steps[event_type, from_version] = _Step(function, frozenset(into))

    def rename(self, old: str, new: str) -> None:
        """Let events of one type be of another, in whatever version; upcasters of the old name go first.

        Raises:
            ConfigurationError: The old name has a new one, or the new one leads back.
        """
        if self._names.get(old, new) != new or self._renamed(new) == old or old == new:
            raise ConfigurationError(f"{old} cannot become {new}: it has another new name, or {new} leads back to it")
        self.changes += 1
        self._names[old] = new

    def _renamed(self, name: str) -> str:
        while name in self._names:
            name = self._names[name]
        return name

    def touches(self, event_type: str, version: int) -> bool:
        """Whether anything is to be done with such a payload."""
        return (event_type, version) in self._steps or event_type in self._names

    def knows(self, event_type: str) -> bool:
        """Whether payloads of a type become something else, in any version."""
        return event_type in self._names or any(name == event_type for name, _ in self._steps)

    def lift(self, raw: RawEvent) -> list[RawEvent]:
        """What is there instead of a stored event: in order, each in the newest form that upcasters know.

        Raises:
            EventVersionError: An upcaster failed, or gave what it must not.
        """
        done: list[RawEvent] = []
        waiting = [(raw, 0)]
        while waiting:
            each, length = waiting.pop()
            if length > _LONGEST_CHAIN:
                raise EventVersionError(f"the upcasters of {raw.event_type} lead in a circle, by {each.event_type}")
            if (step := self._steps.get((each.event_type, each.version))) is not None:
                waiting += [(part, length + 1) for part in reversed(_applied(step, each))]
            elif each.event_type in self._names:
                waiting.append((each._replace(event_type=self._names[each.event_type]), length + 1))
            else:
                done.append(each)
        return done

    def sources(self, types: Iterable[str]) -> frozenset[str]:
        """These types, and all that upcasters may turn into one of them: what to ask a log for."""
        found = set(types)
        before = -1
        while len(found) > before:
            before = len(found)
            found |= {old for (old, _), step in self._steps.items() if not step.into.isdisjoint(found)}
            found |= {old for old, new in self._names.items() if new in found}
        return frozenset(found)

    def clear(self) -> None:
        """Forget all."""
        self.changes += 1
        self._steps.clear()
        self._names.clear()


def _applied(step: _Step, raw: RawEvent) -> list[RawEvent]:
    """What an upcaster makes of a payload."""
    what = f"the upcaster of {raw.event_type} from version {raw.version}"
    try:
        given = step.function(raw.data)
        if isinstance(given, dict):
            return [RawEvent(raw.event_type, given, raw.version + 1)]
        parts = [] if given is None else [given] if isinstance(given, RawEvent) else list(given)
    except Exception as error:
        raise EventVersionError(f"{what} failed: {type(error).__name__}: {error}") from error
    for part in parts:
        if not isinstance(part, RawEvent) or not isinstance(part.data, dict):
            raise EventVersionError(f"{what} gave {shown(part)}: a dict, a RawEvent, several, or None is needed")
        if part.event_type not in step.into:
            raise EventVersionError(f"{what} gave a {part.event_type}, which it does not announce: add it to `into`")
        if part.event_type == raw.event_type and part.version <= raw.version:
            raise EventVersionError(f"{what} gave version {part.version} of the same type, which is not newer")
    return parts
