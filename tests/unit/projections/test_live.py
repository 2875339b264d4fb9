"""Projections that are folded on reading."""

import pytest

from mainstay.errors import ConfigurationError, InvalidInputError, ProjectionError, UnknownEventTypeError
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.registry import EventRegistry
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.live import LiveProjection
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.subscription import SubscriptionManager

ANN, BEN = StreamId("LiveAccount", "ann"), StreamId("LiveAccount", "ben")
SHOP = StreamId("LiveShop", "corner")


class LivePaid(DomainEvent, event_type="LivePaid"):
    amount: int
    to: str = "nobody"

    def tags(self):
        return [f"to:{self.to}"]


class LiveNoted(DomainEvent, event_type="LiveNoted"):
    text: str


class Amounts(LiveProjection[list[int]]):
    def initial_state(self):
        return []

    @handles(LivePaid)
    def paid(self, state, event):
        if event.amount < 0:
            raise ValueError("less than nothing")
        return [*state, event.amount]


@pytest.fixture
def store():
    return InMemoryEventStore(registry=EventRegistry([LivePaid, LiveNoted]))


async def test_a_stream_is_folded_up_to_its_end_or_a_version(store) -> None:
    await store.append(ANN, [LivePaid(amount=1), LiveNoted(text="a"), LivePaid(amount=2)])
    await store.append(BEN, [LivePaid(amount=9)])

    whole = await Amounts().read_stream(store, ANN)
    part = await Amounts().read_stream(store, ANN, up_to_version=2)

    assert (whole.state, whole.version, whole.events, whole.position) == ([1, 2], 3, 2, 3)
    assert (part.state, part.version, part.events, part.position) == ([1], 2, 1, 2)


async def test_what_was_never_written_has_the_initial_state(store) -> None:
    found = await Amounts().read_stream(store, ANN)

    assert (found.state, found.version, found.position) == ([], 0, 0)
    assert (await Amounts().read_all(store)).state == []


async def test_a_callers_transaction_sees_what_it_has_appended(store) -> None:
    async with store.transaction() as tx:
        await store.append(ANN, [LivePaid(amount=1)], conn=tx)
        inside = await Amounts().read_stream(store, ANN, conn=tx)
        outside = await Amounts().read_stream(store, ANN)

    assert (inside.state, outside.state) == ([1], [])


async def test_a_category_a_query_and_all_of_it(store) -> None:
    await store.append(ANN, [LivePaid(amount=1, to="corner")])
    await store.append(SHOP, [LivePaid(amount=2)])
    await store.append(BEN, [LivePaid(amount=3, to="corner"), LiveNoted(text="x")])

    assert (await Amounts().read_all(store)).state == [1, 2, 3]
    assert (await Amounts().read_category(store, "LiveAccount")).state == [1, 3]
    assert (await Amounts().read_query(store, store.query(tags=["to:corner"]))).state == [1, 3]
    assert (await Amounts().read_query(store, store.query(LiveNoted))).state == []
    assert (await Amounts().read_all(store)).position == 4


async def test_a_tenants_events_alone(store) -> None:
    await store.append(StreamId("LiveAccount", "ann", "a"), [LivePaid(amount=1)])
    await store.append(StreamId("LiveAccount", "ann", "b"), [LivePaid(amount=2)])

    assert (await Amounts().read_category(store, "LiveAccount", tenant_id="b")).state == [2]
    assert (await Amounts().read_all(store, tenant_id="a")).state == [1]


async def test_it_is_complete_up_to_the_horizon_that_it_names_and_has_nothing_beyond(store) -> None:
    await store.append(ANN, [LivePaid(amount=1)])
    async with store.transaction() as tx:
        await store.append(BEN, [LivePaid(amount=2)], conn=tx)
        await store.append(ANN, [LivePaid(amount=3)])

        held_back = await Amounts().read_all(store)
        own = await Amounts().read_stream(store, ANN)
    then = await Amounts().read_all(store)

    assert (held_back.state, held_back.position) == ([1], 1)
    assert (own.state, own.position) == ([1, 3], 3)
    assert (then.state, then.position) == ([1, 2, 3], 3)


async def test_the_past_is_read_up_to_a_position(store) -> None:
    for amount in (1, 2, 3):
        await store.append(ANN, [LivePaid(amount=amount)])

    found = await Amounts().read_all(store, up_to=2)

    assert (found.state, found.position, found.events) == ([1, 2], 2, 2)


async def test_what_the_feed_has_not_reached_is_not_guessed(store) -> None:
    await store.append(ANN, [LivePaid(amount=1)])

    with pytest.raises(InvalidInputError, match=r"up to 1 now, not to 7: wait until it is there"):
        await Amounts().read_all(store, up_to=7)


async def test_more_than_a_page_is_folded(store) -> None:
    await store.append(ANN, [LivePaid(amount=1) for _ in range(2_500)])

    assert (await Amounts().read_all(store)).events == 2_500


async def test_a_method_that_raises_is_named_with_the_event(store) -> None:
    await store.append(ANN, [LivePaid(amount=-1)])

    with pytest.raises(ProjectionError, match="Amounts failed on the event at position 1: ValueError: less") as caught:
        await Amounts().read_all(store)

    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_method_that_forgets_to_return_is_told(store) -> None:
    class Forgetful(Amounts):
        @handles(LivePaid)
        def paid(self, state, event):
            state.append(event.amount)

    await store.append(ANN, [LivePaid(amount=1)])

    with pytest.raises(ConfigurationError, match=r"Forgetful\.paid returned None: it must return the next state"):
        await Forgetful().read_all(store)


def test_what_cannot_be_called_is_refused_when_the_class_is_defined() -> None:
    with pytest.raises(ConfigurationError, match="called, not awaited"):

        class Awaited(Amounts):
            @handles(LivePaid)
            async def paid(self, state, event):
                return state

    with pytest.raises(ConfigurationError, match="self and 2 arguments"):

        class TooFew(Amounts):
            @handles(LivePaid)
            def paid(self, event): ...


async def test_one_that_handles_nothing_or_what_is_not_known_says_so(store) -> None:
    class Nothing(LiveProjection[int]):
        def initial_state(self):
            return 0

    with pytest.raises(ConfigurationError, match="Nothing handles no event"):
        await Nothing().read_all(store)
    with pytest.raises(UnknownEventTypeError, match="LivePaid"):
        await Amounts().read_stream(InMemoryEventStore(registry=EventRegistry([LiveNoted])), ANN)


async def test_it_is_not_subscribed(store) -> None:
    with pytest.raises(ConfigurationError, match="takes a Projection"):
        await SubscriptionManager(store, MemoryProjectionStore()).subscribe(Amounts())
