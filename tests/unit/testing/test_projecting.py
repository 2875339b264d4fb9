"""Given events, then what a projection makes of them; a list of events; a harness; one event."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import ConfigurationError, InvalidInputError
from mainstay.events.decider import DeciderAggregate
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.declarative import DatabaseProjection, DeclarativeProjection
from mainstay.projections.read_model import ReadModel
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.testing.assertions import EventAssertions
from mainstay.testing.factories import OneEventBuilder, store_history
from mainstay.testing.harness import InMemoryTestHarness
from mainstay.testing.projecting import Call, Calls, project
from mainstay.testing.steps import (
    given_events,
    then_event_count,
    then_event_published,
    then_event_sequence,
    then_no_events_published,
    when_command,
)

ID = UUID(int=7)


class Lent(DomainEvent, aggregate_type="LibraryBook", event_type="testing.Lent"):
    to: str


class Returned(DomainEvent, aggregate_type="LibraryBook", event_type="testing.Returned"):
    pass


class Lost(DomainEvent, event_type="testing.Lost"):
    pass


class Readers(DeclarativeProjection):
    def __init__(self, mailer=None):
        self.names = []
        self.mailer = mailer

    @handles(Lent)
    async def lent(self, event):
        if event.to == "nobody":
            raise ValueError("nobody is no reader")
        self.names.append(event.to)
        if self.mailer is not None:
            await self.mailer.send(event.to, subject="enjoy")

    @handles(Returned)
    def returned(self, event):
        self.names.pop()


class Loan(ReadModel):
    __table_name__ = "projecting_loan"

    reader: str | None = None


class Loans(ReadModelProjection[Loan]):
    @handles(Lent)
    async def lent(self, event, rows):
        if event.to == "nobody":
            raise ValueError("nobody is no reader")
        await rows.save(Loan(id=event.aggregate_id, reader=event.to))

    @handles(Returned)
    async def returned(self, repo, event):
        loan = await repo.get(event.aggregate_id)
        loan.reader = None
        await repo.save(loan)


class LibraryBook(DeclarativeAggregate[str]):
    def lend(self, to):
        self.raise_event(Lent, to=to)

    def _get_initial_state(self):
        return ""

    @handles(Lent, Returned)
    def _moved(self, event):
        self._state = getattr(event, "to", "")


class LibraryShelf(DeciderAggregate[int, str]):
    @staticmethod
    def initial_state():
        return 0

    @staticmethod
    def decide(state, command):
        return [Lost()] if command == "lose" else []

    @staticmethod
    def evolve(state, event):
        return state + 1


# --- projections ------------------------------------------------------------------------------------------------------


async def test_a_projection_takes_what_it_wants_of_what_was_given():
    done = await project(Readers(), Lent(to="ann"), Lost(), Lent(to="bob"), Returned())

    done.then(lambda readers: readers.names == ["ann"]).then_took(Lent(to="ann"), Lent, Returned)


async def test_events_come_with_where_they_stand():
    class Places(DatabaseProjection):
        @handles(Lent)
        def lent(self, event, conn):
            self.seen = (conn, event.aggregate_id, event.aggregate_version)

    one = Lent(to="ann", aggregate_id=ID, aggregate_version=9)

    (await project(Places(), Lent(to="bob", aggregate_id=ID), one, conn="tx")).then(
        lambda places: places.seen == ("tx", ID, 2)
    )


async def test_an_event_that_is_given_twice_happened_twice():
    lent = Lent(to="ann")

    (await project(Readers(), lent, lent)).then(lambda readers: readers.names == ["ann", "ann"])


async def test_what_is_in_a_store_is_taken_first_and_page_by_page():
    store = InMemoryEventStore()
    await store.append(StreamId("LibraryBook", ID), [Lent(to=str(number)) for number in range(1500)])

    done = await project(Readers(), Lent(to="last"), store=store)

    done.then(lambda readers: (len(readers.names), readers.names[-1]) == (1501, "last"))


async def test_calls_are_remembered_and_answered():
    mailer = Calls({"look": 3, "fail": LookupError("no line")})
    sync = Calls(awaited=False)

    done = await project(Readers(mailer), Lent(to="ann"))

    done.then_called(mailer, Call("send", ("ann",), {"subject": "enjoy"})).then_called(mailer, "send")
    assert await mailer.look() == 3
    with pytest.raises(LookupError):
        await mailer.fail()
    assert sync.send("x") is None
    assert sync.made == [Call("send", ("x",), {})]


async def test_the_rows_of_a_read_model_are_told():
    done = await project(
        Loans(), Lent(to="ann", aggregate_id=ID), Lent(to="bob", aggregate_id="b"), Returned(aggregate_id="b")
    )

    done.then_rows(Loan(id="b", reader=None), Loan(id=str(ID), reader="ann"))
    for others in ([], [Loan(id="b"), Loan(id=ID, reader="bob")]):
        with pytest.raises(AssertionError, match=r"Loan b: \{'reader': None\}"):
            done.then_rows(*others)


async def test_a_failure_undoes_the_rows():
    done = await project(Loans(), Lent(to="ann", aggregate_id=ID), Lent(to="nobody", aggregate_id=ID))

    done.then_failed(ValueError)
    assert done.rows == []
    with pytest.raises(AssertionError, match="could not be handled"):
        done.then_rows()


async def test_an_event_that_cannot_be_handled_ends_it():
    done = await project(Readers(), Lent(to="ann"), Lent(to="nobody"), Lent(to="bob"))

    done.then_failed(ValueError, "no reader")
    assert done.projection.names == ["ann"]


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lambda done: done.then(lambda readers: readers.names == []), "does not hold of .*Readers.*Lent"),
        (lambda done: done.then_took(Returned), "expected.*Returned.*but it took.*Lent"),
        (lambda done: done.then_called(Calls(), "send"), "expected the calls"),
        (lambda done: done.then_failed(ValueError), "expected ValueError, but all of these were handled"),
    ],
)
async def test_what_is_not_so_is_told(check, reason):
    done = await project(Readers(), Lent(to="ann"))

    with pytest.raises(AssertionError) as raised:
        check(done)
    assert re.search(reason, str(raised.value), re.DOTALL)


@pytest.mark.parametrize(
    "check",
    [
        lambda done: done.then(lambda readers: True),
        lambda done: done.then_took(Lent),
        lambda done: done.then_called(Calls()),
        lambda done: done.then_failed(LookupError),
        lambda done: done.then_failed(ValueError, "other"),
    ],
)
async def test_a_failure_is_not_taken_for_success_nor_for_another_failure(check):
    done = await project(Readers(), Lent(to="nobody"))

    with pytest.raises(AssertionError) as raised:
        check(done)
    assert isinstance(raised.value.__cause__, ValueError)


async def test_who_wants_nothing_cannot_be_projected():
    class Idle(DeclarativeProjection):
        pass

    with pytest.raises(ConfigurationError):
        await project(Idle(), Lent(to="ann"))


# --- lists of events --------------------------------------------------------------------------------------------------


def test_what_holds_of_events_gives_them():
    first, second = Lent(to="ann", aggregate_id=ID), Returned()
    about = EventAssertions([first, second])

    assert about.assert_event_published(Lent) is first
    assert about.assert_event_with_fields(Lent, to="ann") is first
    assert about.assert_event_for_aggregate(Lent, ID) is first
    assert about.assert_event_sequence([Lent, Returned]) == [first, second]
    assert about.get_events_of_type(Returned) == [second]
    about.assert_no_event_published(Lost)
    about.assert_event_count(2)
    EventAssertions([]).assert_no_events_published()


@pytest.mark.parametrize(
    "check",
    [
        lambda about: about.assert_event_published(Lost),
        lambda about: about.assert_event_with_fields(Lent, to="bob"),
        lambda about: about.assert_event_with_fields(Lent, unknown=None),
        lambda about: about.assert_event_for_aggregate(Lent, uuid4()),
        lambda about: about.assert_event_sequence([Returned, Lent]),
        lambda about: about.assert_event_sequence([Lent]),
        lambda about: about.assert_no_event_published(Lent),
        lambda about: about.assert_event_count(1),
        lambda about: about.assert_no_events_published(),
    ],
)
def test_what_does_not_hold_shows_the_events(check):
    with pytest.raises(AssertionError, match=r"Lent\(to='ann'\)"):
        check(EventAssertions([Lent(to="ann"), Returned()]))


# --- the harness ------------------------------------------------------------------------------------------------------


async def test_what_was_given_is_history_and_what_is_saved_is_published():
    harness = InMemoryTestHarness()
    await harness.given(Lent(to="ann", aggregate_id=ID))

    await harness.repository(LibraryBook).execute(ID, lambda book: book.lend("bob"))

    harness.published.assert_event_sequence([Lent])
    assert harness.get_events_of_type(Lent)[0].to == "bob"
    harness.clear_published_events()
    assert harness.published_events == []
    harness.reset()
    assert harness.event_store.recorded() == []


async def test_what_is_rolled_back_was_not_published():
    harness = InMemoryTestHarness()

    with suppress(LookupError):
        async with harness.event_store.transaction() as tx:
            await harness.event_store.append(StreamId("LibraryBook", ID), [Lent(to="ann")], conn=tx)
            raise LookupError

    assert harness.published_events == []


async def test_subscriptions_take_what_is_there_and_go_on_where_they_were():
    harness = InMemoryTestHarness(clock=FrozenClock(datetime(2026, 1, 1, tzinfo=UTC)))
    readers = Readers()
    await harness.given(Lent(to="ann"))

    await harness.run(readers)
    await harness.given(Lent(to="bob"))
    await harness.run(readers, Loans())

    assert readers.names == ["ann", "bob"]
    assert [loan.reader for loan in await harness.read_models.of(Loan).find()] == ["bob"]
    assert harness.dlq_repo is harness.checkpoint_repo


async def test_a_subscription_that_stops_is_told_and_tries_again_the_next_time():
    harness = InMemoryTestHarness()
    readers = Readers()
    await harness.given(Lent(to="nobody"))

    for _ in range(2):
        with pytest.raises(AssertionError, match=r"Readers stopped at position 0: .*nobody is no reader"):
            await harness.run(readers)


async def test_steps_read_as_a_story():
    harness = InMemoryTestHarness()
    await given_events(harness, [Lent(to="ann", aggregate_id=ID)])
    books = harness.repository(LibraryBook)
    book = await books.load(ID)
    then_no_events_published(harness)

    raised = when_command(book, lambda book: book.lend("bob"))
    await books.save(book)

    assert raised == harness.published_events
    assert then_event_published(harness, Lent, to="bob") == raised[0]
    then_no_events_published(harness, Returned)
    then_event_sequence(harness, [Lent])
    then_event_count(harness, 1)
    assert [type(event) for event in when_command(LibraryShelf(ID), "lose")] == [Lost]


async def test_history_without_a_stream_goes_into_one():
    store = InMemoryEventStore()

    assert await store_history(store, []) is None
    done = await store_history(store, [Lost(), Lent(to="ann"), Lost(tenant_id="acme"), Lost()])

    assert (done.version, done.stream.category) == (2, "Lost")
    assert [envelope.stream.tenant_id for envelope in store.recorded()] == [None, None, "acme", None]


# --- one event --------------------------------------------------------------------------------------------------------


def test_an_event_is_built_field_by_field():
    cause, correlation, own = uuid4(), uuid4(), uuid4()
    when = datetime(2026, 1, 2, tzinfo=UTC)
    builder = (
        OneEventBuilder(Lent)
        .with_fields(to="ann")
        .with_field("to", "bob")
        .with_aggregate_id(ID)
        .with_version(3)
        .with_tenant_id("acme")
        .with_occurred_at(when)
        .with_causation_id(cause)
        .with_correlation_id(correlation)
        .with_actor_id("cleo")
        .with_metadata({"desk": 2})
    )

    event = builder.build()

    assert (event.to, event.aggregate_id, event.aggregate_version, event.tenant_id) == ("bob", ID, 3, "acme")
    assert (event.occurred_at, event.causation_id, event.correlation_id) == (when, cause, correlation)
    assert (event.actor_id, event.metadata) == ("cleo", {"desk": 2})
    assert builder.build().event_id != event.event_id
    assert builder.with_event_id(own).build().event_id == own


def test_a_class_that_wants_its_id_as_text_gets_text_from_the_builder():
    class TextLost(Lost, event_type="testing.TextLost"):
        aggregate_id: str

    assert OneEventBuilder(TextLost).with_aggregate_id(ID).build().aggregate_id == str(ID)
    with pytest.raises(InvalidInputError, match="derived from DomainEvent"):
        OneEventBuilder(dict)
