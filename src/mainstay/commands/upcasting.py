"""Old payloads become new ones: one function for each step from a version to the next.

Commands wait for minutes or for weeks, so a worker meets payloads of every version that was ever sent. An upcaster is a
plain function from the payload of one version, a dict, to that of the next. They are chained, 1 to 2 to 3, before the
payload is validated, so a handler knows the newest version only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from mainstay.commands.model import CommandModel, CommandName, name_of
from mainstay.errors import ConfigurationError, PermanentCommandError, shown
from mainstay.serialization import checked_upcaster

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""From the payload of one version to that of the next; without effects."""

UpcasterT = TypeVar("UpcasterT", bound=Callable[..., dict[str, Any]])

_MARK = "__mainstay_upcaster__"


@dataclass(frozen=True, slots=True)
class Lift:
    """What `upcast` says of a function: whose payloads it lifts, and from which version."""

    name: CommandName
    from_version: int


def upcast(model: type[CommandModel], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
    """Mark a function as the upcaster of a model's payloads from one version to the next.

    ``registry.add`` registers the function, ``registry.register_instance`` the marked methods of an object;
    ``registry.upcast`` marks and registers in one.

    Args:
        model: Whose payloads.
        from_version: The version that the function takes; it returns the next.

    Raises:
        ConfigurationError: The model has no such older version.
    """
    name = name_of(model)
    if not isinstance(from_version, int) or isinstance(from_version, bool) or not 1 <= from_version < name.version:
        message = (
            f"from_version must be older than {model.__name__}'s version {name.version}, not {shown(from_version)}"
        )
        raise ConfigurationError(message)

    def mark(function: UpcasterT) -> UpcasterT:
        setattr(function, _MARK, Lift(name, from_version))
        return function

    return mark


def lift_of(function: object) -> Lift | None:
    """What `upcast` said of this function; None if it is not marked."""
    return getattr(function, _MARK, None)


class Upcasters:
    """The upcasters of one registry."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str, int], Upcaster] = {}

    def add(self, function: Upcaster, step: Lift) -> None:
        """Register one.

        Raises:
            ConfigurationError: Not a plain function, or the step has one.
        """
        checked_upcaster(function)
        key = (step.name.domain, step.name.command_type, step.from_version)
        if key in self._steps:
            message = f"{key[0]}.{key[1]} has an upcaster from version {step.from_version} already"
            raise ConfigurationError(message)
        self._steps[key] = function

    def lift(self, data: dict[str, Any], version: int, name: CommandName) -> dict[str, Any]:
        """A payload of an old version as one of the newest.

        Args:
            data: The payload; an upcaster may change it.
            version: Which it has; not newer than the newest.
            name: What it belongs to, with the newest version.

        Raises:
            PermanentCommandError: NO_UPCASTER, or UPCAST_FAILED if one raised or returned no dict.
        """
        for each in range(version, name.version):
            step = f"{name.domain}.{name.command_type} from version {each} to {each + 1}"
            function = self._steps.get((name.domain, name.command_type, each))
            if function is None:
                raise PermanentCommandError("NO_UPCASTER", f"there is no upcaster for {step}")
            try:
                data = function(data)
            except Exception as error:
                message = f"the upcaster for {step} failed: {type(error).__name__}: {error}"
                raise PermanentCommandError("UPCAST_FAILED", message) from error
            if not isinstance(data, dict):
                message = f"the upcaster for {step} returned {type(data).__name__} instead of a dict"
                raise PermanentCommandError("UPCAST_FAILED", message)
        return data

    def clear(self) -> None:
        """Forget all."""
        self._steps.clear()
