"""Checking what users hand over before anything is written: every mistake gets an error that says what to do."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter, is_not
from typing import Any, TypeVar
from uuid import UUID, uuid4

from mainstay.commands.carried import carrying
from mainstay.commands.command import CommandMetadata, OnConflict, Place, SendRequest
from mainstay.commands.model import CommandModel, name_to_send, with_version
from mainstay.commands.store import NewCommand
from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.message import checked_domain, checked_id, checked_queue, checked_type, correlation_id_var
from mainstay.retry import MOST_ATTEMPTS, as_seconds
from mainstay.serialization import object_to_json, to_json

Choice = TypeVar("Choice", bound=StrEnum)

MAX_PAGE = 10_000
MAX_PRIORITY = 9
MAX_CONCURRENCY = 10_000
_LONGEST_KEY = 200
_LAST_YEAR = 9000


def domain_filter(domain: str | None) -> str | None:
    """The domain that a query is about, checked; None for all."""
    return None if domain is None else checked_domain(domain)


def type_filter(command_type: str | None) -> str | None:
    """The command type that a query is about, checked; None for all."""
    return None if command_type is None else checked_type(command_type)


def checked_request(request: SendRequest, *, default_max_attempts: int, payload_limit: int) -> NewCommand:
    """A request as a command that the store can take.

    Raises:
        InvalidInputError: Something in it cannot be accepted; the message names the field.
        TenantScopeError: It is another tenant's than that of the scope that this runs in.
    """
    if not isinstance(request, SendRequest):
        message = f"expected a SendRequest, not {type(request).__name__}"
        raise InvalidInputError(message)
    command = NewCommand(
        checked_domain(request.domain),
        checked_type(request.command_type),
        checked_id(request.command_id, "command_id"),
        object_to_json(request.data, limit=payload_limit),
        _correlation(request.correlation_id),
        checked_attempts(request.max_attempts, default_max_attempts),
        priority=checked_priority(request.priority),
        on_conflict=checked_conflict(request.on_conflict),
    )
    headers: Any = request.headers
    if isinstance(request.data, CommandModel):
        headers = with_version(headers, name_to_send(request.data).version)
    headers = carrying(headers, request.causation_id, request.tenant_id, request.actor_id)
    if headers is not None:
        command.headers = to_json(headers, what="headers")
    if any(map(is_not, _rare(request), _NONE_OF_THEM)):  # by identity: what is given may not like to be compared
        _check_rare(request, command)
    if command.unique_key is None and (command.unique_for is not None or command.on_conflict is OnConflict.SKIP):
        message = "unique_for and on_conflict say how a unique key is held: give unique_key"
        raise InvalidInputError(message)
    return command


_rare = attrgetter("reply_to", "batch_id", "delay", "not_before", "key", "expires_at", "unique_key", "unique_for")
_NONE_OF_THEM = (None,) * 8


def _check_rare(request: SendRequest, command: NewCommand) -> None:
    """Check what most requests do not say, and put it into the command."""
    if request.delay is not None and request.not_before is not None:
        message = "give delay or not_before, not both"
        raise InvalidInputError(message)
    command.reply_to = None if request.reply_to is None else checked_queue(request.reply_to)
    command.batch_id = None if request.batch_id is None else checked_id(request.batch_id, "batch_id")
    command.delay = _seconds(request.delay, "delay")
    command.not_before = checked_time(request.not_before, "not_before")
    command.key = checked_key(request.key)
    command.expires_at = checked_time(request.expires_at, "expires_at")
    command.unique_key = checked_unique_key(request.unique_key)
    command.unique_for = _seconds(request.unique_for, "unique_for")


def named(domain: Any, command_type: Any, command_id: Any, data: Any) -> tuple[str, str, UUID, dict[str, Any]]:
    """What a send is about: as given, or, if a typed command stands in place of the domain, what that says.

    The data stays the model; `checked_request` writes it and its version.

    Raises:
        InvalidInputError: A class, a base of typed commands without a domain, or more than a typed command.
    """
    if not isinstance(domain, CommandModel):
        if isinstance(domain, type):
            raise InvalidInputError(f"{domain.__name__} is a class; give an instance: {domain.__name__}(...)")
        return domain, command_type, command_id, data
    if command_type is not None or data is not None:
        message = "a typed command holds its type and its data: give it alone, with options by name"
        raise InvalidInputError(message)
    name = name_to_send(domain)
    model: Any = domain
    return name.domain, name.command_type, uuid4() if command_id is None else command_id, model


def checked_attempts(value: int | None, default: int) -> int:
    """A number of attempts, or the default for None.

    Raises:
        InvalidInputError: Not a whole number of at least 1, or more than `MOST_ATTEMPTS`.
    """
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_ATTEMPTS:
        message = f"max_attempts must be a whole number from 1 to {MOST_ATTEMPTS:,}, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def checked_flag(value: bool, name: str) -> bool:  # noqa: FBT001 - it is what is checked
    """True or False itself.

    Raises:
        InvalidInputError: Anything else.
    """
    if not isinstance(value, bool):
        message = f"{name} must be True or False, not {value!r}"
        raise InvalidInputError(message)
    return value


def checked_count(value: int, name: str) -> int:
    """The number itself.

    Raises:
        InvalidInputError: Not a whole number of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        message = f"{name} must be a whole number of at least 1, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def checked_key(value: str | None) -> str | None:
    """A key that commands share, or None.

    Raises:
        InvalidInputError: Not text, empty, too long, or with a character that PostgreSQL cannot store.
    """
    if isinstance(value, str) and not value:
        message = "key must not be empty; leave it out for a command that waits for no other"
        raise InvalidInputError(message)
    return checked_text(value, "key", _LONGEST_KEY)


def checked_unique_key(value: str | None) -> str | None:
    """A key that one live command may hold, or None.

    Raises:
        InvalidInputError: Not text, empty, too long, or with a character that PostgreSQL cannot store.
    """
    if isinstance(value, str) and not value:
        message = "unique_key must not be empty; leave it out for a command that need not be the only one"
        raise InvalidInputError(message)
    return checked_text(value, "unique_key", _LONGEST_KEY)


def checked_conflict(value: OnConflict | str) -> OnConflict:
    """What becomes of a send whose unique key is held, also from its name in small letters.

    Raises:
        InvalidInputError: Neither of the two.
    """
    if value is OnConflict.REFUSE:  # as nearly always
        return OnConflict.REFUSE
    try:
        return checked_choice(value.upper() if isinstance(value, str) else value, OnConflict, "on_conflict")
    except InvalidInputError:
        names = " or ".join(f'"{each.lower()}"' for each in OnConflict)
        raise InvalidInputError(f"on_conflict must be {names}, not {shown(value)}") from None


def checked_priority(value: int) -> int:
    """The priority itself.

    Raises:
        InvalidInputError: Not a whole number from -9 to 9.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not -MAX_PRIORITY <= value <= MAX_PRIORITY:
        message = f"priority must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def checked_time(value: datetime | None, name: str) -> datetime | None:
    """A time that says its zone, or None.

    Raises:
        InvalidInputError: Not a datetime, or a naive one.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        message = f"{name} must be a datetime, not {shown(value)}"
        raise InvalidInputError(message)
    if value.tzinfo is None or value.utcoffset() is None:
        message = (
            f"{name} must say its time zone (a naive datetime could mean any): use datetime.now(UTC) or .astimezone()"
        )
        raise InvalidInputError(message)
    if value.year >= _LAST_YEAR:
        message = f"{name} must lie before the year {_LAST_YEAR}, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def checked_page(limit: int, offset: int) -> None:
    """Refuse what cannot be a page.

    Raises:
        InvalidInputError: Not whole numbers, negative, or larger than 10,000 rows.
    """
    checked_number(limit, "limit", MAX_PAGE)
    checked_number(offset, "offset")


def checked_number(value: int, name: str, most: int = 2**63 - 1) -> int:
    """A whole number from 0 on.

    Raises:
        InvalidInputError: Another, or none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        message = f"{name} must be a whole number from 0 to {most}, not {shown(value)}"
        raise InvalidInputError(message)
    return value


def checked_place(after: object) -> Place | None:
    """Where a page begins: after a command of the page before, or after its place.

    Raises:
        InvalidInputError: It is neither.
    """
    if after is None:
        return None
    place = Place.of(after) if isinstance(after, CommandMetadata) else after
    if not isinstance(place, Place) or checked_time(place.created_at, "after") is None:
        raise InvalidInputError(f"after is a command of the page before, not {shown(after)}")
    return Place(place.created_at, checked_id(place.command_id, "after"), checked_domain(place.domain))


def checked_concurrency(value: int) -> int:
    """How many handlers may run at once.

    Raises:
        ConfigurationError: Not a whole number from 1 to 10,000: each is a task.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_CONCURRENCY:
        message = f"concurrency must be a whole number from 1 to {MAX_CONCURRENCY}, not {shown(value)}"
        raise ConfigurationError(message)
    return value


def checked_interval(value: timedelta | float, name: str) -> float:
    """Seconds between two looks.

    Raises:
        ConfigurationError: Not a duration, or none at all.
    """
    seconds = as_seconds(value)
    if seconds <= 0:
        message = f"{name} must be more than 0 seconds"
        raise ConfigurationError(message)
    return seconds


def checked_list(values: Any, name: str) -> Sequence[Any]:
    """The values themselves, if they are a list or tuple that is not empty.

    Raises:
        InvalidInputError: Anything else.
    """
    if not isinstance(values, list | tuple):
        message = f"{name} must be a list, not {type(values).__name__}"
        raise InvalidInputError(message)
    if not values:
        message = f"{name} must not be empty"
        raise InvalidInputError(message)
    return values


def checked_text(value: str | None, name: str, limit: int = 1000) -> str | None:
    """Text for people, or None.

    Raises:
        InvalidInputError: Not text, too long, or with a character that PostgreSQL cannot store.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit or "\x00" in value or not _is_unicode(value):
        message = (
            f"{name} must be a text of at most {limit} characters without NUL and lone surrogates, not {shown(value)}"
        )
        raise InvalidInputError(message)
    return value


def checked_choice(value: Any, choices: type[Choice], name: str) -> Choice:
    """One of the values of an enumeration, also from its text form.

    Raises:
        InvalidInputError: None of them; the message lists them.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            return choices(value)
    message = f"{name} must be one of {', '.join(choices)}, not {shown(value)}"
    raise InvalidInputError(message)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _correlation(given: UUID | None) -> UUID:
    """The one given, else that of the command being handled, else a new one."""
    if given is not None:
        return checked_id(given, "correlation_id")
    current = correlation_id_var.get()
    return UUID(current) if current else uuid4()


def checked_seconds(duration: timedelta | float, name: str) -> float:
    """Seconds of a duration.

    Raises:
        InvalidInputError: Not a number, not finite, negative, or too long; the message names the argument.
    """
    try:
        return as_seconds(duration)
    except ValueError as error:
        message = f"{name}: {error}"
        raise InvalidInputError(message) from error


def _seconds(duration: timedelta | float | None, name: str) -> float | None:
    return None if duration is None else checked_seconds(duration, name)
