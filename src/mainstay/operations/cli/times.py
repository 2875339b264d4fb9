"""Times as they are written on the command line."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.prune import span

_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
"""How a date begins."""


def point(text: str, option: str = "--since") -> datetime:
    """A point in time as it is written: how long ago (10min, 2h, 3d), or a date, with or without a time and a zone.

    Args:
        text: As it is written; without a zone, in that of this machine.
        option: Which says so, for the error.

    Raises:
        ConfigurationError: It is written otherwise.
    """
    if not _MOMENT.match(text):
        with suppress(ConfigurationError):
            return datetime.now(UTC) - span(option, text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{option} is so long ago (10min, 2h), or 2030-01-31T12:00, not {text!r}") from None


def period(since: str | None, until: str | None) -> dict[str, datetime | None]:
    """What ``--since`` and ``--until`` say, by these names; None of what was not given.

    Raises:
        ConfigurationError: One of them is written otherwise.
    """
    return {
        "since": None if since is None else point(since),
        "until": None if until is None else point(until, "--until"),
    }
