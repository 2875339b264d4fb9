"""Names and ids that every room shares: domains, queues, and the correlation that follows a message around."""

import os
import re
import secrets
import socket
import sys
from contextvars import ContextVar
from typing import Any
from uuid import UUID, SafeUUID, uuid4

from mainstay.errors import ConfigurationError, InvalidDomainError, InvalidInputError, InvalidQueueError, shown

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,36}")
_QUEUE = re.compile(r"[a-z0-9_][a-z0-9_-]{0,46}")
_WORKER = re.compile(r"[A-Za-z0-9_.-]{1,50}")
_TYPE_LIMIT = 200

COMMANDS_SUFFIX = "__commands"

correlation_id_var: ContextVar[str | None] = ContextVar("mainstay_correlation_id", default=None)
"""Correlation of what is being handled in this context, as text; None outside a handler."""
causation_id_var: ContextVar[UUID | None] = ContextVar("mainstay_causation_id", default=None)
"""The command or event that is being handled in this context; None outside a handler."""
actor_id_var: ContextVar[str | None] = ContextVar("mainstay_actor_id", default=None)
"""Who wants what is done in this context; None if nobody said. See `mainstay.tenancy.actor_scope`."""


if sys.version_info >= (3, 14):
    drawn_id = uuid4
else:
    _FIXED = ~(0xF000 << 64 | 0xC000 << 48)
    _VERSION_4 = 4 << 76 | 0x8000 << 48
    _slots: Any = vars(UUID)
    _set_int, _set_is_safe, _UNKNOWN = _slots["int"].__set__, _slots["is_safe"].__set__, SafeUUID.unknown

    def drawn_id() -> UUID:
        """A random id, as `uuid.uuid4` draws it, made as Python 3.14 makes it: in half the time."""
        drawn: UUID = object.__new__(UUID)
        _set_int(drawn, int.from_bytes(os.urandom(16), "big") & _FIXED | _VERSION_4)
        _set_is_safe(drawn, _UNKNOWN)
        return drawn


def checked_domain(domain: object) -> str:
    """The domain itself, if it can become a queue.

    PGMQ folds case and allows 48 characters for a queue, of which ``__commands`` and a margin are ours.

    Raises:
        InvalidDomainError: It cannot.
    """
    if not isinstance(domain, str) or not _DOMAIN.fullmatch(domain):
        raise InvalidDomainError(domain)
    return domain


def checked_queue(queue: object) -> str:
    """The queue name itself, if PGMQ keeps it as written.

    Raises:
        InvalidQueueError: PGMQ would refuse it, fold it or cut it.
    """
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise InvalidQueueError(queue)
    return queue


def checked_type(command_type: object) -> str:
    """The command type itself, if it is a plain name.

    Raises:
        InvalidInputError: Empty, too long, not text, or with control characters.
    """
    if not isinstance(command_type, str) or not command_type.strip() or len(command_type) > _TYPE_LIMIT:
        message = f"command_type must be a text of 1 to {_TYPE_LIMIT} characters, not {shown(command_type)}"
        raise InvalidInputError(message)
    if not command_type.isprintable():
        message = f"command_type must not hold control characters: {shown(command_type)}"
        raise InvalidInputError(message)
    return command_type


def checked_id(value: object, name: str) -> UUID:
    """A UUID, also from its text form.

    Raises:
        InvalidInputError: Neither; the message names the argument.
    """
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    message = f"{name} must be a UUID, not {shown(value)}"
    raise InvalidInputError(message)


def checked_name(value: Any, what: str, limit: int) -> UUID | str:
    """An id in its one form: a UUID if it is one or is written as one, else a text.

    Raises:
        InvalidInputError: Neither, or empty, too long, or with control characters; the message says what it was to be.
    """
    if isinstance(value, UUID):
        return value
    text = checked_text(value, what, limit)
    try:
        found = UUID(text)
    except ValueError:
        return text
    return found if str(found) == text else text


def checked_text(value: Any, what: str, limit: int) -> str:
    """The value itself, if it is a text that a name may be.

    Raises:
        InvalidInputError: Not a text, empty, too long, or with control characters; the message says what it was to be.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > limit or not value.isprintable():
        message = f"{what} must be 1 to {limit:,} printable characters, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def command_queue(domain: str) -> str:
    """The queue that carries a domain's commands."""
    return domain + COMMANDS_SUFFIX


class correlated:  # noqa: N801 - a context manager, written without a generator: every command passes here
    """Everything logged, sent or appended inside belongs to this correlation, has this cause, and is this actor's."""

    __slots__ = ("_actor_id", "_causation_id", "_cause", "_correlation_id", "_token", "_who")

    def __init__(
        self, correlation_id: UUID | str | None, causation_id: UUID | None = None, actor_id: str | None = None
    ) -> None:
        self._correlation_id = None if correlation_id is None else str(correlation_id)
        self._causation_id = causation_id
        self._actor_id = actor_id

    def __enter__(self) -> None:
        self._token = correlation_id_var.set(self._correlation_id)
        self._cause = causation_id_var.set(self._causation_id)
        self._who = actor_id_var.set(self._actor_id)

    def __exit__(self, *_: object) -> None:
        correlation_id_var.reset(self._token)
        causation_id_var.reset(self._cause)
        actor_id_var.reset(self._who)


def worker_name() -> str:
    """A name that no other worker has: host, process, and a draw. Fits into a notification channel."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:24]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def checked_worker_name(name: object) -> str:
    """The name itself, if it fits into a notification channel.

    Raises:
        ConfigurationError: It does not.
    """
    if not isinstance(name, str) or not _WORKER.fullmatch(name):
        message = f"a worker's name has 1 to 50 characters of letters, digits and '_.-', not {shown(name)}"
        raise ConfigurationError(message)
    return name
