"""Where a page begins, as an address carries it: the place of the last one on the page before."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from mainstay.errors import InvalidInputError

P = TypeVar("P", bound=tuple[Any, ...])
T = TypeVar("T")
L = TypeVar("L")


def cursor(place: tuple[Any, ...]) -> str:
    """A place as text for an address."""
    return base64.urlsafe_b64encode(orjson.dumps(list(place))).rstrip(b"=").decode()


def place(kind: type[P], text: str | None) -> P | None:
    """The place that a text says; None for none.

    Raises:
        InvalidInputError: It says none.
    """
    if text is None:
        return None
    try:
        document = base64.urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}")
        return TypeAdapter(kind).validate_json(document)
    except (ValidationError, ValueError, binascii.Error) as error:
        raise InvalidInputError("after is the `next` of the page before, as it was given") from error


def cut(found: Sequence[T], limit: int, last: Callable[[T], L]) -> tuple[list[T], L | None]:
    """A page of what was found, and where the next begins; None on the last page.

    Args:
        found: One more than a page has room for, if there are so many.
        limit: So many are a page.
        last: The place of the last of a page, as its address carries it.
    """
    page = list(found[:limit])
    return page, last(page[-1]) if len(found) > limit else None
