"""Values that no call should be given, drawn at random, and the calls that are given them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Any
from uuid import UUID

from mainstay import CommandStatus, HandlerRegistry, RetryPolicy
from mainstay.commands.store import Action

NAN, INF = float("nan"), float("inf")
TEXTS = [
    "",
    " ",
    "\t",
    "\x00",
    "a\x00b",
    "\ud800",
    "ä",
    "日本",
    "\u202e",
    "\n",
    "a\nb",
    "a b",
    'a"b',
    "a'b",
    "a;drop table x",
    "%s",
    "%(domain)s",
    "{}",
    "$1",
    "x" * 38,
    "x" * 48,
    "x" * 201,
    "x" * 1001,
    "Orders",
    "ORDERS",
    "-orders",
    "_orders",
    "orders__commands",
    "orders\n",
    "orders ",
    "ordérs",
    "null",
    "None",
    "true",
    "NaN",
    "0",
    "1",
    "-1",
    "1.5",
    "1e400",
    "not-a-uuid",
    "0" * 32,
    "2030-01-01",
    "COMPLETED",
    "completed",
    "RETRY",
    "../x",
    "\\",
    "\\x00",
    "\x7f",
    "\ufffe",
    "a" * 70_000,
]
NUMBERS = [
    0,
    -1,
    1,
    2,
    7,
    10,
    11,
    100,
    -10,
    1.5,
    -0.0,
    0.5,
    NAN,
    INF,
    -INF,
    1e300,
    5e-324,
    2**31,
    2**31 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**40,
    10**5000,
    -(10**5000),
    True,
    False,
    1j,
    Decimal(1),
    Decimal("NaN"),
    Fraction(1, 3),
]
TIMES = [
    datetime(2030, 1, 1),  # noqa: DTZ001 - that is what is wrong with it
    datetime.min,  # noqa: DTZ901 - naive, as above
    datetime.max,  # noqa: DTZ901 - naive, as above
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime.now(UTC),
    date(2030, 1, 1),
    timedelta(-1),
    timedelta(0),
    timedelta(1),
    timedelta.max,
    timedelta.min,
    timedelta(microseconds=1),
]


class _Colour(Enum):
    RED = "red"


class _Text(str):
    __slots__ = ()


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("nobody shall see me")


class _Unequal:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compare me not")

    __hash__ = None  # type: ignore[assignment]  # that is the point


def _deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(5000):
        inner = [inner]
    return inner


def _round() -> dict[str, Any]:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    return circle


@cache
def _things() -> list[Any]:
    return [
        None,
        ...,
        NotImplemented,
        object(),
        object,
        type,
        int,
        lambda: None,
        print,
        _Colour.RED,
        _Colour,
        _Text("orders"),
        _Unprintable(),
        _Unprintable,
        _Unequal(),
        b"",
        b"orders",
        bytearray(b"x"),
        memoryview(b"x"),
        set(),
        {1, 2},
        frozenset("ab"),
        (),
        (1, 2),
        range(3),
        iter([]),
        (n for n in range(2)),
        [],
        [None],
        [[]],
        ["orders"],
        {},
        {"a": 1},
        {1: 2},
        {None: None},
        {"a": NAN},
        {"a": {"b": [INF]}},
        {"a": "\x00"},
        {"\x00": 1},
        {"a": "\ud800"},
        {"a": object()},
        {"a": 2**70},
        {"a": 10**5000},
        {"a": {1, 2}},
        {"a": b"x"},
        {"a": "x" * 1_100_000},
        {"a": _deep()},
        _round(),
        {("a", "b"): 1},
        {"a": _Unprintable()},
        {"a": _Colour.RED},
        {"a": Decimal("1.1")},
        UUID(int=2**127 + 3),
        UUID(int=0),
        str(UUID(int=1)),
        Exception("x"),
        HandlerRegistry(),
        HandlerRegistry,
        RetryPolicy,
        RetryPolicy(),
        CommandStatus.PENDING,
        Action.RETRY,
        CommandStatus,
    ]


def anything(draw: random.Random) -> Any:
    """A value of any kind; seldom a good one for the place that it gets."""
    pool = draw.choice([TEXTS, NUMBERS, TIMES, None, None])
    value = draw.choice(_things() if pool is None else pool)
    match draw.randrange(12):
        case 0:
            return [value, draw.choice(TEXTS)]
        case 1:
            return {draw.choice(TEXTS): value}
        case 2:
            return "".join(
                chr(draw.choice([0, 9, 34, 39, 97, 255, 0x202E, 0xD800, 0x1F600])) for _ in range(draw.randrange(1, 9))
            )
        case _:
            return value


Good = Callable[[random.Random], Any]


_WRITING = (
    "bus.send",
    "bus.create_batch",
    "bus.cancel",
    "bus.pause",
    "bus.resume",
    "limits.set",
    "breakers.set",
    "breakers.remove",
    "breakers.force",
    "limits.remove",
    "tsq.",
)


@dataclass(frozen=True, slots=True)
class Call:
    """A public call, and what each of its arguments looks like when it is good."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Good]

    @property
    def writes(self) -> bool:
        """Whether it may write rows when its arguments are good."""
        return self.name.startswith(_WRITING)

    def arguments(self, draw: random.Random) -> dict[str, Any]:
        """Good arguments but for one to three."""
        given = {name: make(draw) for name, make in self.good.items()}
        for name in draw.sample(sorted(given), min(len(given), draw.choice([1, 1, 1, 2, 3]))):
            given[name] = anything(draw)
        return given
