"""What is held up, by whom and why: pauses, limits, breakers and keys; and letting it go."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from mainstay.commands.breakers import Breaker, BreakerEvent, BreakerRule
from mainstay.commands.gates import Limit, LimitState, Pause
from mainstay.commands.keys import KeyState
from mainstay.commands.lifecycle import CommandStatus
from mainstay.errors import InvalidOperationError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation


class HeldAsked(Asked):
    """Of which domain; None: of all."""

    domain: str | None = None


class HistoryAsked(HeldAsked):
    """Of which domain, and how much."""

    limit: int = Field(50, ge=1, le=500)


class KeysAsked(HeldAsked):
    """Which keys. ``blocked``: only those whose command waits for an operator or its next attempt."""

    key: str | None = None
    blocked: bool = True
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0)


@operation("GET", "/pauses", HeldAsked, list[Pause])
async def list_pauses(desk: Desk, asked: HeldAsked, _user: User) -> list[Pause]:
    """What is paused, since when, by whom and why."""
    return await desk.operator.paused(asked.domain)


@operation("GET", "/limits", HeldAsked, list[LimitState])
async def list_limits(desk: Desk, asked: HeldAsked, _user: User) -> list[LimitState]:
    """Limits of command types, what runs under each and what waits for it."""
    return await desk.operator.limits.list(asked.domain)


@operation("GET", "/breakers", HeldAsked, list[Breaker])
async def list_breakers(desk: Desk, asked: HeldAsked, _user: User) -> list[Breaker]:
    """Breakers that are open or closing, and what they hold."""
    return await desk.operator.breakers.list(asked.domain)


@operation("GET", "/breakers/rules", HeldAsked, list[BreakerRule])
async def list_breaker_rules(desk: Desk, asked: HeldAsked, _user: User) -> list[BreakerRule]:
    """Which command types have breakers."""
    return await desk.operator.breakers.rules(asked.domain)


@operation("GET", "/breakers/history", HistoryAsked, list[BreakerEvent])
async def list_breaker_history(desk: Desk, asked: HistoryAsked, _user: User) -> list[BreakerEvent]:
    """What happened to breakers and their rules, newest first."""
    return await desk.operator.breakers.history(asked.domain, asked.limit)


@operation("GET", "/keys", KeysAsked, list[KeyState])
async def list_keys(desk: Desk, asked: KeysAsked, _user: User) -> Sequence[KeyState]:
    """Keys, the longest waiting first."""
    return await desk.operator.keys(**asked.model_dump())


# -- holding up, and letting go ----------------------------------------------------------------------------------------
class Holding(Asked):
    """A domain, or one of its types, and why."""

    domain: str
    command_type: str | None = None
    reason: Reason


class OfType(Asked):
    """A type of commands, and why."""

    domain: str
    command_type: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Held:
    """What was held up or let go, and by whom; None: all types of the domain."""

    domain: str
    command_type: str | None
    operator: str


@operation("POST", "/pauses/pause", Holding, Held)
async def pause(desk: Desk, asked: Holding, user: User) -> Held:
    """Let no command of a domain, or of one type, start any more; what runs goes on."""
    if not await desk.operator.pause(asked.domain, asked.command_type, operator=user.name, reason=asked.reason):
        raise InvalidOperationError(f"{_named(asked)} is paused already")
    return Held(asked.domain, asked.command_type, user.name)


@operation("POST", "/pauses/resume", Holding, Held)
async def resume(desk: Desk, asked: Holding, user: User) -> Held:
    """Let commands start again, in the order in which they stood in the queue."""
    if not await desk.operator.resume(asked.domain, asked.command_type):
        raise InvalidOperationError(f"{_named(asked)} is not paused")
    return Held(asked.domain, asked.command_type, user.name)


class Limiting(OfType):
    """A limit; what is left out is not limited."""

    max_running: int | None = None
    per: str | None = Field(None, description="Field of the payload, a.b for one inside another, or header:NAME.")
    max_running_per: int | None = None
    rate: int | None = None
    per_seconds: float = 1.0
    burst: int | None = None


@operation("POST", "/limits/set", Limiting, Limit)
async def set_limit(desk: Desk, asked: Limiting, _user: User) -> Limit:
    """Limit a command type, in place of the limits that it had; holds for what is queued already."""
    return await desk.operator.limits.set(**asked.model_dump(exclude={"reason"}))


@operation("POST", "/limits/remove", OfType, Held)
async def remove_limit(desk: Desk, asked: OfType, user: User) -> Held:
    """Take the limits of a command type away; what waited for them goes on."""
    if not await desk.operator.limits.remove(asked.domain, asked.command_type):
        raise InvalidOperationError(f"{_named(asked)} has no limit")
    return Held(asked.domain, asked.command_type, user.name)


class Ruling(Asked):
    """When breakers of a type open, and how they close; and, if you like, why."""

    domain: str
    command_type: str
    reason: Reason | None = None
    failures: int = 5
    within: float = 60.0
    probe_after: float = 30.0
    drip: float = 10.0


@operation("POST", "/breakers/set", Ruling, BreakerRule)
async def set_breaker(desk: Desk, asked: Ruling, user: User) -> BreakerRule:
    """Give a command type breakers, in place of the rule that it had."""
    return await desk.operator.breakers.set(**asked.model_dump(exclude={"reason"}), operator=user.name)


class Unruling(Asked):
    """A type of commands; and, if you like, why."""

    domain: str
    command_type: str
    reason: Reason | None = None


@operation("POST", "/breakers/remove", Unruling, Held)
async def remove_breaker(desk: Desk, asked: Unruling, user: User) -> Held:
    """Take the breakers of a command type away; what they hold goes on."""
    if not await desk.operator.breakers.remove(asked.domain, asked.command_type, operator=user.name):
        raise InvalidOperationError(f"{asked.domain} {asked.command_type} has no breakers")
    return Held(asked.domain, asked.command_type, user.name)


class OneBreaker(OfType):
    """A breaker, and why. ``fingerprint`` is as breakers and failure groups show it."""

    fingerprint: str


@operation("POST", "/breakers/open", OneBreaker, Held)
async def open_breaker(desk: Desk, asked: OneBreaker, user: User) -> Held:
    """Open a breaker before it opens by itself."""
    if not await desk.operator.breakers.force_open(**asked.model_dump(), operator=user.name):
        raise InvalidOperationError(f"the breaker {asked.fingerprint} of {_named(asked)} is open already")
    return Held(asked.domain, asked.command_type, user.name)


@operation("POST", "/breakers/close", OneBreaker, Held)
async def close_breaker(desk: Desk, asked: OneBreaker, user: User) -> Held:
    """Let go what a breaker holds; from then on failures count as attempts again."""
    if not await desk.operator.breakers.force_close(**asked.model_dump(), operator=user.name):
        raise InvalidOperationError(f"{_named(asked)} has no breaker {asked.fingerprint} to close")
    return Held(asked.domain, asked.command_type, user.name)


class OneKey(Asked):
    """A key, and why."""

    domain: str
    key: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Released:
    """The command that a key goes on without; it stays as it is."""

    command_id: str
    status: CommandStatus


@operation("POST", "/keys/release", OneKey, Released)
async def release_key(desk: Desk, asked: OneKey, user: User) -> Released:
    """Let a key go on without the command that blocks it, which stays where it is."""
    done = await desk.operator.release_key(asked.domain, asked.key, operator=user.name, reason=asked.reason)
    return Released(str(done.command_id), done.status)


def _named(asked: Holding | OfType) -> str:
    return f"domain {asked.domain}" if asked.command_type is None else f"{asked.domain} {asked.command_type}"
