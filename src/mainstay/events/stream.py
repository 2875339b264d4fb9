"""Streams: what names one, and what an append expects of it."""

from dataclasses import dataclass
from typing import ClassVar, Self
from uuid import UUID

from mainstay.errors import InvalidInputError, shown
from mainstay.message import checked_name, checked_text
from mainstay.tenancy import checked_tenant

_CATEGORY_LIMIT = 200
_ID_LIMIT = 200
LARGEST_VERSION = 2_147_483_647
"""Events that one stream may hold."""


class _Remembered:
    """Room for a hash, outside the fields: it is another in every process, and must not be copied to one."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class StreamId(_Remembered):
    """What names a stream. The same category and id under two tenants are two streams.

    An id that is written as UUIDs are (lower case, with hyphens) *is* a UUID: ``StreamId("Order", str(u))`` equals
    ``StreamId("Order", u)``. Tenants likewise.

    Args:
        category: What kind of thing the stream tells of; an aggregate's type. 1 to 200 printable characters.
        id: Which one: a UUID, or a text of 1 to 200 printable characters.
        tenant_id: Whose it is, in the same forms; None where there are no tenants.

    Raises:
        InvalidInputError: One of them is empty, too long, of another type, or has control characters.
    """

    category: str
    id: UUID | str
    tenant_id: UUID | str | None = None

    def __post_init__(self) -> None:
        """Check the parts, and give ids their one form."""
        object.__setattr__(self, "category", checked_text(self.category, "a stream's category", _CATEGORY_LIMIT))
        object.__setattr__(self, "id", checked_name(self.id, "a stream's id", _ID_LIMIT))
        if self.tenant_id is not None:
            object.__setattr__(self, "tenant_id", checked_tenant(self.tenant_id))

    def __hash__(self) -> int:
        """That of all fields, computed once: a group asks a dozen times, and a UUID computes its own in Python."""
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash((self.category, self.id, self.tenant_id)))
            return self._hash

    def __str__(self) -> str:
        return f"{self.category}/{self.id}" if self.tenant_id is None else f"{self.category}/{self.id}@{self.tenant_id}"


@dataclass(frozen=True, slots=True)
class ExpectedVersion:
    """What an append expects of its stream; made by the four class methods, or `of` a number.

    A stream's version is the number of its events: the first has version 1, a stream that was never written has 0.

    Attributes:
        version: The version that the stream must have; None if any will do.
        exists: Whether it must (True) or must not (False) have events; None if either will do.
        ANY: The number for `any`.
        NO_STREAM: The number for `no_stream`.
        STREAM_EXISTS: The number for `stream_exists`.
    """

    ANY: ClassVar[int] = -1
    NO_STREAM: ClassVar[int] = 0
    STREAM_EXISTS: ClassVar[int] = -2

    version: int | None = None
    exists: bool | None = None

    @classmethod
    def exact(cls, version: int) -> Self:
        """The stream has exactly this version; 0 is the same as `no_stream`.

        Raises:
            InvalidInputError: Not a whole number from 0 to 2,147,483,647.
        """
        if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= LARGEST_VERSION:
            message = f"a stream's version is a whole number from 0 to {LARGEST_VERSION:,}, not {shown(version)}; "
            message += "what else may be expected is said by ExpectedVersion.any(), .no_stream() or .stream_exists()"
            raise InvalidInputError(message)
        return cls(version, None) if version else cls.no_stream()

    @classmethod
    def no_stream(cls) -> Self:
        """The stream was never written."""
        return cls(0, exists=False)

    @classmethod
    def stream_exists(cls) -> Self:
        """The stream has events, however many."""
        return cls(None, exists=True)

    @classmethod
    def any(cls) -> Self:
        """Nothing is expected."""
        return cls()

    @classmethod
    def of(cls, expected: "ExpectedVersion | int | None") -> "ExpectedVersion":
        """What is meant by a number: -1 anything, -2 that the stream exists, 0 or more exactly that version.

        Args:
            expected: The number; None is anything; what is an expectation already stays as it is.

        Raises:
            InvalidInputError: No such number.
        """
        if isinstance(expected, ExpectedVersion):
            return expected
        if isinstance(expected, int) and not isinstance(expected, bool):
            if expected == cls.ANY:
                return cls.any()
            if expected == cls.STREAM_EXISTS:
                return cls.stream_exists()
        return cls.any() if expected is None else cls.exact(expected)

    def __int__(self) -> int:
        if self.version is not None:
            return self.version
        return self.STREAM_EXISTS if self.exists else self.ANY

    def allows(self, version: int) -> bool:
        """Whether a stream of this version is what was expected."""
        return (self.version is None or self.version == version) and self.exists in (None, version > 0)

    def __str__(self) -> str:
        if self.version:
            return f"version {self.version}"
        return {None: "any version", True: "that the stream exists", False: "no stream"}[self.exists]
