"""What is refused before any database is asked."""

from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.projections.store import MOST_SHARDS

_NAME_LIMIT = 200


def checked_subscription(name: object) -> str:
    """The name itself, if it is one.

    Raises:
        InvalidInputError: Not a text of 1 to 200 printable characters.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > _NAME_LIMIT or not name.isprintable():
        message = f"a subscription's name must be 1 to {_NAME_LIMIT} printable characters, not {shown(name)}"
        raise InvalidInputError(message)
    return name


def checked_shards(shards: object) -> int:
    """The number itself, if a subscription can have so many shards.

    Raises:
        ConfigurationError: It cannot.
    """
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        message = f"a subscription has 1 to {MOST_SHARDS} shards, not {shown(shards)}"
        raise ConfigurationError(message)
    return shards
