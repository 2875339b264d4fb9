"""Commands as pydantic models: a class that knows its domain, its type and the version of its payload.

What travels is the same message as without a model: the payload is the model as a JSON object, by the names that JSON
knows (aliases), and the version stands in the header `VERSION_HEADER`. A payload without that header has version 1, so
version 1 adds nothing to the message, and neither does a sender that knows no models.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.message import checked_domain, checked_type
from mainstay.serialization import refuse_one_way_fields

VERSION_HEADER = "command_version"
"""Header that holds the version of a payload, a whole number; without it the version is 1."""


class CommandName(NamedTuple):
    """What a command is called, and which form of its payload is meant."""

    domain: str
    command_type: str
    version: int = 1


class CommandModel(BaseModel):
    """Base of typed commands.

    Give the class its domain::

        class CreateOrder(CommandModel, domain="orders", version=2):
            customer: str
            items: list[str]

    A class without a domain of its own has that of its base; one that has none at all is a base for others. Instances
    are frozen: what is sent is what was checked.

    Class arguments:
        domain: Who handles it.
        type: Name of the handler; the class's name unless given.
        version: Of the payload, from 1. Raise it with a change that old payloads do not fit, and say with `upcast` how
            they become new ones.

    Raises:
        ConfigurationError: Not a name, not a version, or a field that cannot be read back as it is written.
    """

    model_config = ConfigDict(frozen=True)

    __command_domain__: ClassVar[str | None] = None
    __command_name__: ClassVar[CommandName | None] = None

    def __init_subclass__(
        cls,
        *,
        domain: str | None = None,
        type: str | None = None,  # noqa: A002  # reads best in a class statement, and nothing here needs the builtin
        version: int = 1,
        **options: Any,
    ) -> None:
        """Keep the names."""
        super().__init_subclass__(**options)
        if domain is not None:
            cls.__command_domain__ = _configured(checked_domain, domain, cls)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            message = f"{cls.__name__}: version must be a whole number of at least 1, not {shown(version)}"
            raise ConfigurationError(message)
        name = _configured(checked_type, cls.__name__ if type is None else type, cls)
        known = cls.__command_domain__
        cls.__command_name__ = None if known is None else CommandName(known, name, version)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Refuse fields that would be written under a name under which they are not read."""
        super().__pydantic_init_subclass__()
        refuse_one_way_fields(cls)


def name_of(model: object) -> CommandName:
    """What the commands of a model are called.

    Args:
        model: A class derived from `CommandModel`.

    Raises:
        ConfigurationError: Not such a class, or a base without a domain.
    """
    if not isinstance(model, type) or not issubclass(model, CommandModel):
        message = f"expected a class derived from CommandModel, not {shown(model)}"
        raise ConfigurationError(message)
    if model.__command_name__ is None:
        message = f"{model.__name__} has no domain: write class {model.__name__}(CommandModel, domain=...)"
        raise ConfigurationError(message)
    return model.__command_name__


def name_to_send(command: object) -> CommandName:
    """As `name_of`, of an instance that somebody wants to send.

    Raises:
        InvalidInputError: Not an instance of such a class.
    """
    try:
        return name_of(type(command))
    except ConfigurationError as error:
        raise InvalidInputError(str(error)) from None


def with_version(headers: dict[str, Any] | None, version: int) -> dict[str, Any] | None:
    """Headers that say the version of the payload beside them; version 1 is not said."""
    return headers if version == 1 else {**(headers or {}), VERSION_HEADER: version}


def version_of(headers: Mapping[str, Any] | None) -> int:
    """The version that headers say; 1 if they say none.

    Raises:
        InvalidInputError: What they say is no version.
    """
    version = (headers or {}).get(VERSION_HEADER, 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        message = f"the header {VERSION_HEADER} must be a whole number of at least 1, not {shown(version)}"
        raise InvalidInputError(message)
    return version


def _configured(check: Any, value: object, cls: type) -> str:
    try:
        return str(check(value))
    except InvalidInputError as error:
        message = f"{cls.__name__}: {error}"
        raise ConfigurationError(message) from error
