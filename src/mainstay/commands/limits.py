"""How limits and pauses are set: checked here, kept by the `GateStore`, and told to sleeping workers."""

from datetime import timedelta
from typing import Protocol

from mainstay.commands.breaking import WAKE, Breakers, Places, who_and_why
from mainstay.commands.checks import checked_count, checked_seconds, checked_text, domain_filter, type_filter
from mainstay.commands.gates import SHORTEST_WINDOW, GateStore, Limit, LimitState, Pause
from mainstay.errors import InvalidInputError, shown
from mainstay.message import checked_domain, checked_type

_FIELD_LIMIT = 200
_LARGEST = 1_000_000


class _Places(Places, Protocol):
    """What a gate needs beside its own store."""

    @property
    def gates(self) -> GateStore: ...


class Limits:
    """Limits of command types: they live in the database, and hold for every worker until they are removed.

    Args:
        store: Where commands live.
    """

    def __init__(self, store: _Places) -> None:
        self._store = store

    async def set(
        self,
        domain: str,
        command_type: str,
        *,
        max_running: int | None = None,
        per: str | None = None,
        max_running_per: int | None = None,
        rate: int | None = None,
        per_seconds: timedelta | float = 1.0,
        burst: int | None = None,
    ) -> Limit:
        """Limit a command type, in place of the limits that it had.

        Args:
            domain: Whose commands.
            command_type: Which of them.
            max_running: How many may run at once.
            per: Field of the payload (``"a.b"`` for one inside another), or ``"header:NAME"``; commands without it
                count together.
            max_running_per: How many with the same value of that field may run at once.
            rate: How many may start in any ``per_seconds``.
            per_seconds: Seconds or timedelta, at least 1.
            burst: How many of these may start together: at most so many in any ``per_seconds * burst / rate``. All of
                them if None; 1 spreads the starts evenly.

        Raises:
            InvalidInputError: A value out of range, no limit at all, or one that lacks its other half.
        """
        limit = _checked(
            Limit(
                checked_domain(domain),
                checked_type(command_type),
                max_running,
                per,
                max_running_per,
                rate,
                None if rate is None else checked_seconds(per_seconds, "per_seconds"),
                rate if burst is None else burst,
            )
        )
        await self._store.ensure_queue(limit.domain)
        await self._store.gates.set_limit(limit)
        await self._store.wake([limit.domain] * WAKE)
        return limit

    async def remove(self, domain: str, command_type: str) -> bool:
        """Take the limits of a type away, and let go what waits for them.

        Returns:
            Whether there were any.
        """
        removed = await self._store.gates.remove_limit(checked_domain(domain), checked_type(command_type))
        if removed:
            await self._store.wake([domain] * WAKE)
        return removed

    async def list(self, domain: str | None = None) -> list[LimitState]:
        """Limits, by domain and type, with what runs and what waits."""
        return await self._store.gates.list_limits(domain_filter(domain))


class Holding:
    """The part of the bus that holds commands up: limits, breakers and pauses.

    Args:
        store: Where commands live.
    """

    def __init__(self, store: _Places) -> None:
        self._places = store
        self.limits = Limits(store)
        self.breakers = Breakers(store)

    async def pause(
        self, domain: str, command_type: str | None = None, *, operator: str | None = None, reason: str | None = None
    ) -> bool:
        """Let no command of a domain, or of one of its types, start any more, on any worker. What runs goes on.

        Args:
            domain: Whose commands.
            command_type: Only these; None: all.
            operator: Who does it.
            reason: Why.

        Returns:
            False if it was paused already; who paused it first stays on record.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        who, why = who_and_why(operator, reason)
        return await self._places.gates.pause(*_which(domain, command_type), operator=who, reason=why)

    async def resume(self, domain: str, command_type: str | None = None) -> bool:
        """Let them start again, in the order in which they stood in the queue. False if it was not paused."""
        resumed = await self._places.gates.resume(*_which(domain, command_type))
        if resumed:
            await self._places.wake([domain] * WAKE)
        return resumed

    async def paused(self, domain: str | None = None) -> list[Pause]:
        """What is paused, by domain and type."""
        return await self._places.gates.list_pauses(domain_filter(domain))


def _which(domain: str, command_type: str | None) -> tuple[str, str | None]:
    return checked_domain(domain), type_filter(command_type)


def _checked(limit: Limit) -> Limit:
    for name, value in (
        ("max_running", limit.max_running),
        ("max_running_per", limit.max_running_per),
        ("rate", limit.rate),
        ("burst", limit.burst),
    ):
        if value is not None and checked_count(value, name) > _LARGEST:
            message = f"{name} must be at most {_LARGEST:,}, not {shown(value)}"
            raise InvalidInputError(message)
    if limit.max_running is None and limit.max_running_per is None and limit.rate is None:
        message = "give max_running, max_running_per or rate; limits.remove takes a limit away"
        raise InvalidInputError(message)
    if (limit.per is None) is not (limit.max_running_per is None):
        message = "give per and max_running_per together: the field, and how many may run for each of its values"
        raise InvalidInputError(message)
    if limit.per is not None and not checked_text(limit.per, "per", _FIELD_LIMIT):
        message = "per must name a field of the payload, or header:NAME"
        raise InvalidInputError(message)
    if limit.burst is not None and (limit.rate is None or limit.burst > limit.rate):
        message = f"burst must be at most rate, not {shown(limit.burst)}"
        raise InvalidInputError(message)
    if limit.per_seconds is not None and limit.per_seconds < SHORTEST_WINDOW:
        message = f"per_seconds must be at least {SHORTEST_WINDOW:g}, not {shown(limit.per_seconds)}"
        raise InvalidInputError(message)
    return limit
