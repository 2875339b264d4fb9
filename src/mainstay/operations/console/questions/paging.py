"""Where a page begins, as an address carries it: the place of the last one on the page before."""

import base64
import binascii
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from mainstay.errors import InvalidInputError

P = TypeVar("P", bound=tuple[Any, ...])


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
