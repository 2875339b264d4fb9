"""What is refused before any database is asked."""

from mainstay.errors import ConfigurationError, shown
from mainstay.message import checked_text
from mainstay.projections.store import MOST_SHARDS

_NAME_LIMIT = 200
_VERSIONS = 2**31
_ON_ERROR = ("stop", "dead_letter")
REBUILD = "~rebuild"
"""What the names of rebuilds end in."""


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


def checked_version(version: object) -> int:
    """The number itself, if it can be a projection's version.

    Raises:
        ConfigurationError: It cannot.
    """
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < _VERSIONS:
        message = f"a projection's version is a whole number from 1, not {shown(version)}"
        raise ConfigurationError(message)
    return version


def checked_on_error(on_error: object) -> None:
    """See that it is known what follows when an event cannot be handled.

    Raises:
        ConfigurationError: It is neither of what there is.
    """
    if on_error not in _ON_ERROR:
        raise ConfigurationError(f"on_error of a projection is 'stop' or 'dead_letter', not {shown(on_error)}")


def other_shards(subscription: str, known: int, wanted: int) -> str:
    """What is said to one who registers a subscription with another number of shards than it has."""
    return f"subscription {subscription!r} has {known} shards, not {wanted}: keep them, or rebuild it with {wanted}"


def rebuild_name(subscription: str) -> str:
    """Under which name a subscription is rebuilt.

    Raises:
        InvalidInputError: The subscription's name is too long for one that is rebuilt.
    """
    return checked_subscription(subscription + REBUILD)
