"""Settings from the environment: immutable, validated once, named in the error when wrong."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from mainstay.errors import ConfigurationError, shown
from mainstay.retry import DEFAULT_MAX_ATTEMPTS, RetryPolicy, as_seconds

_MIN_LEASE = 5


@dataclass(frozen=True, slots=True)
class Config:
    """What a process needs to know to join the bus.

    Args:
        database_url: libpq connection string or URL.
        max_retries: Attempts for commands that do not say themselves; at least 1.
        vt_seconds: Lease of a received command in seconds; at least 5. Leases renew themselves.
        backoff_base: Seconds before the second attempt.
        backoff_multiplier: Growth of the delay from attempt to attempt; at least 1.
        max_backoff: Longest delay in seconds.

    Raises:
        ConfigurationError: A value out of range (also a ValueError).
    """

    database_url: str
    max_retries: int = DEFAULT_MAX_ATTEMPTS
    vt_seconds: int = 30
    backoff_base: float = 10.0
    backoff_multiplier: float = 2.0
    max_backoff: float = 300.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment.

        ``DATABASE_URL`` and, if set, ``MAX_RETRIES``, ``VT_SECONDS``, ``BACKOFF_BASE``, ``BACKOFF_MULTIPLIER`` and
        ``MAX_BACKOFF``.

        Args:
            environ: Instead of ``os.environ``.

        Raises:
            ConfigurationError: ``DATABASE_URL`` is missing, or a value is not a number or out of range.
        """
        env = os.environ if environ is None else environ
        url = env.get("DATABASE_URL")
        if not url:
            message = "DATABASE_URL is not set; give a connection string such as postgresql://user@localhost/app"
            raise ConfigurationError(message)
        return cls(
            database_url=url,
            max_retries=int(_number(env, "MAX_RETRIES", DEFAULT_MAX_ATTEMPTS, whole=True)),
            vt_seconds=int(_number(env, "VT_SECONDS", 30, whole=True)),
            backoff_base=_number(env, "BACKOFF_BASE", 10.0),
            backoff_multiplier=_number(env, "BACKOFF_MULTIPLIER", 2.0),
            max_backoff=_number(env, "MAX_BACKOFF", 300.0),
        )

    def __post_init__(self) -> None:
        """Check every value once, here."""
        if not isinstance(self.database_url, str) or not self.database_url:
            message = f"database_url must be a connection string, not {shown(self.database_url)}"
            raise ConfigurationError(message)
        if not _is_whole(self.max_retries) or self.max_retries < 1:
            message = f"max_retries must be >= 1, not {shown(self.max_retries)}"
            raise ConfigurationError(message)
        if not _is_whole(self.vt_seconds) or self.vt_seconds < _MIN_LEASE:
            message = f"vt_seconds must be >= {_MIN_LEASE}, not {shown(self.vt_seconds)}"
            raise ConfigurationError(message)
        as_seconds(self.vt_seconds)
        self.retry_policy()

    def retry_policy(self) -> RetryPolicy:
        """The exponential policy that these settings describe."""
        return RetryPolicy.exponential(
            max_attempts=self.max_retries,
            base=self.backoff_base,
            multiplier=self.backoff_multiplier,
            maximum=self.max_backoff,
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(env: Mapping[str, str], name: str, default: float, *, whole: bool = False) -> float:
    text = env.get(name)
    if text is None or (isinstance(text, str) and not text):
        return default
    if isinstance(text, str):
        with suppress(ValueError):
            return int(text) if whole else float(text)
    message = f"{name} must be a {'whole ' if whole else ''}number, not {shown(text)}"
    raise ConfigurationError(message)
