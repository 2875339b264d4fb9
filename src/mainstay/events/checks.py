"""What no log accepts, whatever it stands on: checked before anything is written."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mainstay.errors import InvalidInputError, InvalidPayloadError, shown
from mainstay.events.log import MOST_EVENTS, MOST_TAGS, Condition, FeedFilter, NewEvent, Query, StreamAppend
from mainstay.events.stream import LARGEST_VERSION, ExpectedVersion, StreamId
from mainstay.message import checked_text
from mainstay.serialization import from_json, to_json
from mainstay.tenancy import checked_tenant

LARGEST_POSITION = 2**63 - 1
LONGEST_NAME = 200
"""Characters of an event's type, a tag, or who did it."""
LONGEST_REASON = 2_000

_NUL = b"\\u0000"


def check_appends(appends: Sequence[StreamAppend]) -> None:
    """See that appends can be written; which they could is for the log to find out.

    Raises:
        InvalidInputError: Too many events, a stream or an event id twice, or what `check_event` refuses.
        InvalidPayloadError: See `check_event`.
    """
    if isinstance(appends, str | bytes) or not isinstance(appends, Sequence):
        raise InvalidInputError(f"appends are a sequence of StreamAppend, not {shown(appends)}")
    streams: set[StreamId] = set()
    ids: list[UUID] = []
    for append in appends:
        if not isinstance(append, StreamAppend) or not isinstance(append.expected, ExpectedVersion):
            raise InvalidInputError(f"a StreamAppend with an ExpectedVersion is needed, not {shown(append)}")
        check_stream(append.stream)
        if append.stream in streams:
            raise InvalidInputError(
                f"{append.stream} is named twice in one append: put its events into one StreamAppend"
            )
        streams.add(append.stream)
        if not append.is_checked:
            for event in append.events:
                check_event(event)
        ids += [event.event_id for event in append.events]
    if len(ids) > 1 and len(set(ids)) < len(ids):
        ((twice, _),) = Counter(ids).most_common(1)
        raise InvalidInputError(f"event {twice} is there twice in one append")
    if len(ids) > MOST_EVENTS:
        message = f"{len(ids):,} events are too many for one append; the limit is {MOST_EVENTS:,}: use import_events"
        raise InvalidInputError(message)


def check_event(event: NewEvent) -> None:
    """See that an event can be kept.

    Raises:
        InvalidInputError: A field is of another type, too long, has control characters, or a time has no zone.
        InvalidPayloadError: Payload or metadata is no JSON object, or holds a NUL character.
    """
    if not isinstance(event, NewEvent):
        raise InvalidInputError(f"an event is a NewEvent, not {shown(event)}")
    if not isinstance(event.event_id, UUID):
        raise InvalidInputError(f"an event's id is a UUID, not {shown(event.event_id)}")
    for value, what in ((event.correlation_id, "correlation_id"), (event.causation_id, "causation_id")):
        if value is not None and not isinstance(value, UUID):
            raise InvalidInputError(f"an event's {what} is a UUID or None, not {shown(value)}")
    _check_text(event.event_type, "an event's type")
    if event.actor_id is not None:
        _check_text(event.actor_id, "an event's actor_id")
    check_number(event.event_version, "an event's version", 1, LARGEST_VERSION)
    check_time(event.occurred_at, "occurred_at")
    if event.tags:
        _check_tags(event.tags)
    check_document(event.payload, "an event's payload")
    if event.metadata is not None:
        check_document(event.metadata, "an event's metadata")


def check_document(document: bytes, what: str) -> None:
    """See that something is a JSON object that every database can hold.

    Raises:
        InvalidPayloadError: It is not.
    """
    if not isinstance(document, bytes):
        raise InvalidPayloadError(f"{what} must be a JSON object as bytes, not {shown(document)}")
    value = from_json(document)
    if not isinstance(value, dict):
        raise InvalidPayloadError(f"{what} must be a JSON object, not {shown(value)}")
    if _NUL in document:
        to_json(value, what=what, limit=len(document) * 6)


def check_stream(stream: StreamId) -> None:
    """See that something names a stream.

    Raises:
        InvalidInputError: It does not.
    """
    if not isinstance(stream, StreamId):
        raise InvalidInputError(
            f"a stream is named by a StreamId, such as StreamId('Order', order_id), not {shown(stream)}"
        )


def check_condition(condition: Condition | None) -> None:
    """See that a condition can be asked.

    Raises:
        InvalidInputError: It cannot.
    """
    if condition is None:
        return
    if not isinstance(condition, Condition):
        raise InvalidInputError(f"a condition is a Condition, not {shown(condition)}")
    check_position(condition.after)
    checked_tenant(condition.tenant_id)
    _check_query(condition.fail_if)


def check_filter(wanted: FeedFilter) -> None:
    """See that a filter can be asked.

    Raises:
        InvalidInputError: It cannot.
    """
    if not isinstance(wanted, FeedFilter):
        raise InvalidInputError(f"what is wanted of the feed is said by a FeedFilter, not {shown(wanted)}")
    for names, what in ((wanted.types, "types"), (wanted.categories, "categories")):
        if names is not None:
            _check_names(names, what)
    checked_tenant(wanted.tenant_id)
    if wanted.query is not None:
        _check_query(wanted.query)


def check_window(after_version: int, up_to_version: int | None, up_to_time: datetime | None, limit: int) -> None:
    """See that a part of a stream can be asked for.

    Raises:
        InvalidInputError: It cannot.
    """
    check_number(after_version, "after_version", 0, LARGEST_VERSION)
    if up_to_version is not None:
        check_number(up_to_version, "up_to_version", 0, LARGEST_VERSION)
    if up_to_time is not None:
        check_time(up_to_time, "up_to_time")
    check_limit(limit)


def check_position(position: int) -> None:
    """See that something is a position, or 0 for the beginning.

    Raises:
        InvalidInputError: It is not.
    """
    check_number(position, "a position", 0, LARGEST_POSITION)


def check_limit(limit: int) -> None:
    """See that a page can have this size.

    Raises:
        InvalidInputError: It cannot.
    """
    check_number(limit, "a limit", 1, LARGEST_VERSION)


def check_listing(category: str | None, prefix: str, limit: int) -> None:
    """See that streams can be asked for so.

    Raises:
        InvalidInputError: They cannot.
    """
    check_limit(limit)
    if category is not None:
        _check_text(category, "a category")
    if prefix != "":
        _check_text(prefix, "the beginning of an id")


def check_number(value: int, what: str, least: int, most: int) -> None:
    """See that something is a whole number within bounds.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInputError(f"{what} must be a whole number from {least} to {most:,}, not {shown(value)}")


def check_time(value: datetime, what: str) -> None:
    """See that something is a time with a zone.

    Raises:
        InvalidInputError: It is not.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInputError(f"{what} must be a datetime with a time zone, not {shown(value)}")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInputError(f"{what} must be in the years 1 to 9999 of UTC, not {shown(value)}") from error


def check_account(reason: str, actor: str) -> None:
    """See that somebody says why something is done for good.

    Raises:
        InvalidInputError: One of them is empty or too long.
    """
    _check_text(reason, "a reason", LONGEST_REASON)
    _check_text(actor, "an actor")


def _check_query(query: Query) -> None:
    if not isinstance(query, Query):
        raise InvalidInputError(
            f"a query is what query() of a store gives, such as store.query(OrderPlaced), not {shown(query)}"
        )
    for item in query.items:
        _check_names(item.types, "types")
        _check_names(item.tags, "tags")


def _check_names(names: Iterable[str], what: str) -> None:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise InvalidInputError(f"{what} are a set of texts, not {shown(names)}")
    for name in names:
        _check_text(name, f"one of the {what}")


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > MOST_TAGS:
        raise InvalidInputError(f"an event has {MOST_TAGS} tags at most, not {len(tags)}")
    _check_names(tags, "tags")
    if len(set(tags)) != len(tags):
        raise InvalidInputError(f"an event has the same tag twice: {shown(tags)}")


def _check_text(value: Any, what: str, limit: int = LONGEST_NAME) -> None:
    checked_text(value, what, limit)
