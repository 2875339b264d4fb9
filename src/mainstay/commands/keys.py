"""Keys as operators see them: whose turn it is, who waits behind it, and how to let a key go on.

A command that failed for good, or waits for its next attempt, keeps its turn: whatever shares its key waits, and
nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from mainstay.commands.lifecycle import CommandStatus
from mainstay.errors import InvalidOperationError


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key that commands share.

    Args:
        domain: Of these commands.
        key: What they share.
        waiting: How many wait for their turn.
        head: Whose turn it is; None for a moment, until a worker looks.
        head_status: Where that command stands.
        since: When its turn came.
        due_at: When it is tried again, if it waits for that.
        error_code: What went wrong with it last.
        is_held: A breaker holds it.
    """

    domain: str
    key: str
    waiting: int
    head: UUID | None
    head_status: CommandStatus | None
    since: datetime | None
    due_at: datetime | None
    error_code: str | None
    is_held: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether its commands wait for an operator, or for one that failed to be tried again."""
        waits = self.head_status is CommandStatus.PENDING and (self.due_at is not None or self.is_held)
        return waits or self.head_status is CommandStatus.IN_TROUBLESHOOTING_QUEUE


class KeyVerdict(NamedTuple):
    """What came of releasing a key: its head, the status that was found, and whether the key goes on without it."""

    command_id: UUID
    status: CommandStatus
    is_released: bool


class KeyStore(Protocol):
    """What operators ask of a database about keys."""

    async def list(
        self, domain: str | None, key: str | None, *, blocked: bool, limit: int, offset: int
    ) -> Sequence[KeyState]:
        """Keys in use, the longest waiting head first; with ``blocked`` only those that go on by no worker's doing."""
        ...

    async def release(self, domain: str, key: str, *, operator: str | None, reason: str | None) -> KeyVerdict | None:
        """Let a key go on without its head, if that waits; None if the key has no head.

        The head stays where it is, KEY_RELEASED in its audit trail. If it comes back, it gets in line under its old
        number.
        """
        ...


class Turns:
    """What operators do about keys. Whoever offers it brings the store."""

    _keys: KeyStore

    async def keys(
        self,
        *,
        domain: str | None = None,
        key: str | None = None,
        blocked: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> Sequence[KeyState]:
        """Keys in use, the longest waiting head first; with ``blocked`` those whose head failed."""
        return await self._keys.list(domain, key, blocked=blocked, limit=limit, offset=offset)

    async def release_key(
        self, domain: str, key: str, *, operator: str | None = None, reason: str | None = None
    ) -> KeyVerdict:
        """Let a key go on without the command that blocks it, which stays where it is.

        Raises:
            InvalidOperationError: No command has its turn, or the one that has does not wait for anybody.
        """
        return _released(key, await self._keys.release(domain, key, operator=operator, reason=reason))


def _released(key: str, verdict: KeyVerdict | None) -> KeyVerdict:
    """The verdict itself, if the key goes on.

    Raises:
        InvalidOperationError: It does not; the message says why.
    """
    if verdict is None:
        message = f"no command has the turn of key {key!r}: nothing blocks it"
        raise InvalidOperationError(message)
    if not verdict.is_released:
        message = (
            f"command {verdict.command_id} has the turn of key {key!r} and is {verdict.status}: it would run beside "
            f"the next. Only one that waits for its next attempt or for an operator can be passed by; cancel it instead"
        )
        raise InvalidOperationError(message)
    return verdict
