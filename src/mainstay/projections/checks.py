"""What is refused before any database is asked."""

from mainstay.errors import ConfigurationError, shown
from mainstay.events.stream import checked_text
from mainstay.projections.store import MOST_SHARDS

_NAME_LIMIT = 200


def checked_subscription(name: object) -> str:
    """The name itself, if it is one.

    Raises:
        InvalidInputError: Not a text of 1 to 200 printable characters.
    """
    return checked_text(name, "a subscription's name", _NAME_LIMIT)


def checked_shards(shards: object) -> int:
    """The number itself, if a subscription can have so many shards.

    Raises:
        ConfigurationError: It cannot.
    """
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        message = f"a subscription has 1 to {MOST_SHARDS} shards, not {shown(shards)}"
        raise ConfigurationError(message)
    return shards
