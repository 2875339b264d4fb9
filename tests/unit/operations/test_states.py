"""States at versions, and what changed between two."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from mainstay import AggregateRoot, ConfigurationError, DomainEvent, HandlerRegistry, InMemoryEventStore, StreamId
from mainstay.operations.states import Change, States, aggregates_in, changes, written


class LineAdded(DomainEvent, event_type="stated.LineAdded"):
    article: str
    price: Decimal


class Emptied(DomainEvent, event_type="stated.Emptied"):
    pass


@dataclass
class Basket:
    lines: list[dict[str, object]] = field(default_factory=list)
    total: Decimal = Decimal(0)


class StatedBasket(AggregateRoot[Basket]):
    def _apply(self, event: DomainEvent) -> None:
        match event:
            case LineAdded():
                self._state.lines.append({"article": event.article})
                self._state.total += event.price
            case Emptied():
                self._state = Basket()
            case _:
                raise ValueError("what is that, of ann@example.org?")


class Odd(DomainEvent, event_type="stated.Odd"):
    pass


async def stored(*events, tenant=None):
    store = InMemoryEventStore()
    stream = StreamId("StatedBasket", uuid4(), tenant)
    await store.append(stream, list(events))
    return store.log, stream


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        (None, {"a": 1}, [Change(("a",), "added", None, 1)]),
        ({"a": 1, "b": 2}, {"b": 3}, [Change(("a",), "removed", 1, None), Change(("b",), "changed", 2, 3)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}},
         [Change(("a", "b", 1), "changed", 2, 3), Change(("a", "b", 2), "added", None, 4)]),
        ({"a": True}, {"a": 1}, [Change(("a",), "changed", was=True, now=1)]),
        ({"a": None}, {"a": {}}, [Change(("a",), "changed", None, {})]),
        ({"a": 1}, {"a": 1}, []),
        (1, 2, [Change((), "changed", 1, 2)]),
        (None, None, []),
    ],
)  # fmt: skip
def test_what_differs_is_named_by_its_place(was, now, found):
    assert list(changes(was, now)) == found


def test_a_state_of_any_kind_is_written():
    class Plain:
        def __init__(self):
            self.at = datetime(2030, 1, 31, tzinfo=UTC)
            self.seen = {1}

    assert written({"plain": Plain(), "share": Decimal("1.50")}) == {
        "plain": {"at": "2030-01-31T00:00:00Z", "seen": [1]},
        "share": "1.50",
    }


async def test_each_version_has_its_state_and_what_its_event_changed():
    log, stream = await stored(
        LineAdded(article="pen", price=Decimal(2)), LineAdded(article="ink", price=Decimal(3)), Emptied(), tenant="acme"
    )
    told = await States([StatedBasket]).at(log, stream, 2, 3)

    assert told.problem is None
    assert [each.state for each in told.states.values()] == [
        {"lines": [{"article": "pen"}, {"article": "ink"}], "total": "5"},
        {"lines": [], "total": "0"},
    ]
    assert told.states[2].changes == (
        Change(("lines", 1), "added", None, {"article": "ink"}),
        Change(("total",), "changed", "2", "5"),
    )
    assert [each.kind for each in told.states[3].changes] == ["removed", "removed", "changed"]


async def test_what_the_class_raises_ends_it_and_says_nothing_of_what_it_held():
    log, stream = await stored(LineAdded(article="pen", price=Decimal(2)), Odd(), Emptied())

    told = await States([StatedBasket]).at(log, stream, 1, 3)

    assert list(told.states) == [1]
    assert told.problem == "StatedBasket raised ValueError at version 2"


def test_classes_are_those_of_the_handlers_and_those_that_are_given():
    registry = HandlerRegistry()

    @registry.handler("baskets", "Empty", aggregate=StatedBasket, stream="basket_id")
    async def empty(basket, command, context):
        pass

    assert aggregates_in(registry) == [StatedBasket]
    assert States([StatedBasket]).kind_of("StatedBasket") is StatedBasket
    with pytest.raises(ConfigurationError, match="derived from AggregateRoot"):
        States([LineAdded])
