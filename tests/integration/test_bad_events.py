"""Events and projections, given what they cannot work with: a typed error that says what to do, and nothing is written.

Databases that cannot be used, names and values that no database takes, and events in the feed that nobody can read.
The log's own arguments are in its contract (`RefusingContract`).
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from mainstay import (
    AggregateRepository,
    DatabaseProjection,
    DeclarativeAggregate,
    DeclarativeProjection,
    DomainEvent,
    EventRegistry,
    PostgreSQLEventStore,
    Snapshot,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
)
from mainstay.errors import (
    ConfigurationError,
    CorruptEventError,
    InvalidInputError,
    MainstayError,
    PermissionDeniedError,
    SchemaMissingError,
    StorageUnavailableError,
    SubscriptionNotFoundError,
    UnknownEventTypeError,
)
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.projections.store import Checkpoint
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import PATIENCE, stopped
from tests.support.servers import open_pool
from tests.support.thorough import every

HUGE = "x" * 1_100_000
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - that is what is wrong with it
STREAM = StreamId("BadLedger", "a")
QUICK = SubscriptionConfig(poll=0.05)


class Booked(DomainEvent, event_type="BadBooked"):
    amount: int = 1
    note: Any = None


class Renamed(DomainEvent, event_type="BadRenamed"):
    pass


class Book(DeclarativeAggregate[dict[str, int]]):
    aggregate_type = "BadLedger"

    def book(self) -> None:
        self.raise_event(Booked)

    @handles(Booked)
    def _booked(self, event: Booked) -> None:
        self._state = {"booked": event.amount}


class Books(DatabaseProjection):
    name = "books"

    @handles(Booked)
    async def booked(self, event: Booked, conn: Any) -> None:
        await conn.execute("insert into book (amount) values (%s)", [event.amount])


class Surface:
    """Everything of events and projections that asks a database."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.store = PostgreSQLEventStore(pool)
        self.checkpoints = PostgresProjectionStore(pool)
        self.manager = SubscriptionManager(self.store, self.checkpoints)
        self.repo = AggregateRepository(self.store, Book)

    async def append_if(self) -> Any:
        query = self.store.query(Booked)
        return await self.store.append_if([Booked()], fail_if=query, after=10**9, stream=STREAM)

    async def read(self, events: Any) -> list[Any]:
        return [event async for event in events]


Call = Callable[[Surface], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "append": lambda s: s.store.append(STREAM, [Booked()]),
    "append many": lambda s: s.store.append(STREAM, [Booked(), Booked()]),
    "append_if": lambda s: s.append_if(),
    "import": lambda s: s.store.import_events([(STREAM, Booked())]),
    "read_stream": lambda s: s.read(s.store.read_stream(STREAM)),
    "read_all": lambda s: s.read(s.store.read_all()),
    "read_category": lambda s: s.read(s.store.read_category("BadLedger")),
    "stream_version": lambda s: s.store.stream_version(STREAM),
    "horizon": lambda s: s.store.horizon(),
    "tombstone": lambda s: s.store.tombstone(STREAM, reason="asked to", actor="me"),
    "archive": lambda s: s.store.archive(STREAM),
    "load": lambda s: s.repo.load("a"),
    "execute": lambda s: s.repo.execute("a", lambda book: book.book()),
    "snapshot": lambda s: s.store.snapshots.save(Snapshot(STREAM, 1, uuid4(), "1", b"{}")),  # type: ignore[union-attr] # there
    "subscribe": lambda s: s.manager.subscribe(Books(), QUICK),
    "pause": lambda s: s.manager.pause("books", actor="me"),
    "resume": lambda s: s.manager.resume("books", actor="me"),
    "lag": lambda s: s.manager.lag("books"),
    "wait_until": lambda s: s.manager.wait_until(5, subscription="books", timeout=1),
    "states": lambda s: s.checkpoints.states(),
    "dead_letters": lambda s: s.checkpoints.dead_letters("books"),
    "reset": lambda s: s.checkpoints.reset("books", Checkpoint(), actor="me"),
    "forget": lambda s: s.checkpoints.forget("books"),
    "claim": lambda s: s.checkpoints.claim("books", owner="me", seconds=5.0, most=1),
}
WRITING = ["append", "append many", "import", "tombstone", "archive", "execute", "snapshot", "pause", "reset", "forget"]


async def written(pool: Any) -> dict[str, int]:
    """How many rows every table of events has."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select relname from pg_class where relnamespace = 'eventsource'::regnamespace and relkind = 'r'"
        )
        counts = {}
        for (table,) in await cursor.fetchall():
            found = await conn.execute(sql.SQL("select count(*) from eventsource.{}").format(sql.Identifier(table)))
            (counts[table],) = await found.fetchone() or (0,)
    return counts


@pytest.fixture
async def surface(pool: Any) -> Any:
    """On a database with one event and one subscription; at the end everything is as it was."""
    made = Surface(pool)
    await made.store.append(STREAM, [Booked()])
    await made.manager.subscribe(Books(), QUICK)
    before = await written(pool)
    yield made
    assert await written(pool) == before


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_database_without_the_schema_says_how_to_get_it(empty_dsn: str, name: str) -> None:
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(SchemaMissingError, match="mainstay schema upgrade"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_database_of_before_events_says_how_to_upgrade(empty_dsn: str, name: str) -> None:
    """It has what commands need, and lacks the schema of events, or what was added to it since."""
    async with open_pool(empty_dsn) as pool:
        async with pool.connection() as conn:
            await conn.execute("create schema commandbus")
            await conn.execute("create schema eventsource")
        with pytest.raises(SchemaMissingError, match="or in an older version; run `mainstay schema upgrade`"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_closed_pool_says_that_it_is_closed(dsn: str, name: str) -> None:
    async with open_pool(dsn) as pool:
        pass
    with pytest.raises(StorageUnavailableError, match="keep it open"):
        await CALLS[name](Surface(pool))


@pytest.fixture
def stranger(server: Any, database: str) -> Any:
    """A role without any grants."""
    role = f"stranger_{uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        conn.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        yield role
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_role_without_grants_is_told_what_to_grant(
    dsn: str, surface: Surface, stranger: str, name: str
) -> None:
    async with open_pool(dsn, kwargs={"options": f"-c role={stranger}"}) as pool:
        with pytest.raises(PermissionDeniedError, match="grant the role usage on the schemas commandbus, eventsource"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize("name", WRITING)
async def test_a_read_only_server_says_that_it_cannot_be_used(dsn: str, surface: Surface, name: str) -> None:
    async with open_pool(dsn, kwargs={"options": "-c default_transaction_read_only=on"}) as pool:
        with pytest.raises(StorageUnavailableError, match="read-only"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize(
    "call",
    [
        lambda s, conn: s.store.append(STREAM, [Booked()], conn=conn),
        lambda s, conn: s.store.import_events([(STREAM, Booked())], conn=conn),
        lambda s, conn: s.repo.execute("a", lambda book: book.book(), conn=conn),
        lambda s, conn: s.checkpoints.reset("books", Checkpoint(), actor="me", conn=conn),
    ],
)
async def test_a_transaction_that_cannot_be_joined_is_named(dsn: str, surface: Surface, call: Any) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await conn.execute("select 1 / 0")
        with pytest.raises(MainstayError, match="roll it back, and begin again"):
            await call(surface, conn)
        await conn.rollback()
    with pytest.raises(StorageUnavailableError, match="the connection is closed"):
        await call(surface, conn)
    with pytest.raises(InvalidInputError, match="psycopg"):
        await call(surface, "a connection")


# --- values -----------------------------------------------------------------------------------------------------------

BAD_NOTES = [
    math.nan,
    [math.inf],
    {"a": -math.inf},
    "a\x00b",
    {"\x00": 1},
    "\ud800",
    HUGE,
    object(),
    b"\xff\xfe",
]


@pytest.mark.parametrize("note", BAD_NOTES, ids=lambda note: f"{note!r:.20}")
async def test_what_json_cannot_give_back_is_refused_before_anything_is_written(surface: Surface, note: Any) -> None:
    with pytest.raises(MainstayError) as raised:
        await surface.store.append(STREAM, [Booked(), Booked(note=note)])

    assert "BadBooked" in str(raised.value) or "Booked" in str(raised.value)
    assert not isinstance(raised.value.__cause__, psycopg.Error)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"occurred_at": NAIVE}, "time zone|timezone"),
        ({"metadata": {"a": math.nan}}, "metadata"),
        ({"metadata": {"a": "\x00"}}, "metadata"),
        ({"actor_id": "a\x00"}, "actor"),
        ({"actor_id": ""}, "actor"),
        ({"tenant_id": "a\nb"}, "tenant"),
    ],
)
async def test_an_envelope_that_cannot_be_kept_is_refused(surface: Surface, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):  # pydantic's, where it is the class that refuses
        await surface.store.append(STREAM, [Booked(**fields)])


QUOTED = ['o"rders', "o'; drop table eventsource.event; --", "a%sb", "{a,b}", "null", "\\", "ordérs 😀", "a.b/c@d"]


@pytest.mark.parametrize("name", QUOTED)
async def test_names_that_need_quoting_are_kept_as_they_are(pool: Any, name: str) -> None:
    made = Surface(pool)
    stream = StreamId(name, name, name)
    await made.store.append(stream, [Booked(note=name, actor_id=name, metadata={name: name})])
    await made.store.import_events([(stream, Booked(note=name))])
    first, second = await made.read(made.store.read_category(name))
    await made.checkpoints.register(name)

    assert (first.stream, second.stream) == (stream, stream)
    assert (first.event.note, first.event.actor_id, first.event.metadata) == (name, name, {name: name})
    assert [state.subscription for state in await made.checkpoints.states(name)] == [name]
    assert len(await made.checkpoints.claim(name, owner=name, seconds=5.0, most=1)) == 1
    assert await made.checkpoints.pause(name, actor=name, reason=name) == 1
    assert [each.stream async for each in made.store.read_all(tenant_id=name)] == [stream, stream]


class Nameless(DeclarativeProjection):
    pass


class Unknown(DeclarativeProjection):
    @handles(Renamed)
    def renamed(self, event: Renamed) -> None: ...


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.manager.subscribe(None), ConfigurationError, "takes a Projection.*None"),
        (lambda s: s.manager.subscribe(Books), ConfigurationError, "takes a Projection"),
        (lambda s: s.manager.subscribe(Nameless()), ConfigurationError, "handles no event"),
        (lambda s: s.manager.subscribe(_named("a\x00b")), InvalidInputError, "subscription's name"),
        (lambda s: s.manager.subscribe(_named("")), InvalidInputError, "subscription's name"),
        (lambda s: s.manager.subscribe(_named(HUGE)), InvalidInputError, "subscription's name"),
        (lambda s: s.manager.pause("nobody", actor="me"), SubscriptionNotFoundError, "nobody"),
        (lambda s: s.manager.resume("nobody", actor="me"), SubscriptionNotFoundError, "nobody"),
        (lambda s: s.manager.replay("nobody", actor="me"), SubscriptionNotFoundError, "nobody"),
        (lambda s: s.manager.lag("nobody"), SubscriptionNotFoundError, "nobody"),
        (lambda s: s.manager.wait_until(1, subscription="nobody"), SubscriptionNotFoundError, "nobody"),
        (lambda s: s.checkpoints.reset("nobody", Checkpoint(), actor="me"), SubscriptionNotFoundError, "nobody"),
    ],
)
async def test_what_cannot_be_subscribed_or_found_is_refused(
    surface: Surface, call: Any, error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        await call(surface)


def _named(name: str) -> Books:
    made = Books()
    made.name = name  # type: ignore[misc] # of one object
    return made


async def test_a_registry_that_does_not_know_what_a_projection_handles_says_so(pool: Any) -> None:
    store = PostgreSQLEventStore(pool, registry=EventRegistry([Booked]))

    with pytest.raises(UnknownEventTypeError, match="BadRenamed"):
        await SubscriptionManager(store).subscribe(Unknown())


# --- the feed ---------------------------------------------------------------------------------------------------------


def raw(event_type: str, payload: bytes) -> NewEvent:
    return NewEvent(uuid4(), event_type, payload, datetime.now(UTC))


async def _meet(store: Any, met: list[int]) -> None:
    async for envelope in store.read_all():
        met.append(envelope.position)  # noqa: PERF401 - what was met before an error counts


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (raw("BadBooked", b'{"amount": "many"}'), CorruptEventError),
        (NewEvent(uuid4(), "BadBooked", b"{}", datetime.now(UTC), event_version=7), MainstayError),
    ],
    ids=["another type", "a version of the future"],
)
@pytest.mark.parametrize("on_error", ["stop", "dead_letter"])
async def test_a_corrupt_event_is_named_by_its_position_and_never_skipped(
    pool: Any, bad: NewEvent, error: type[MainstayError], on_error: str
) -> None:
    made = Surface(pool)
    async with pool.connection() as conn:
        await conn.execute("create table book (amount int)")
    await made.store.append(StreamId("BadLedger", "b"), [Booked(amount=1)])
    (answer,) = await made.store.log.append([StreamAppend(STREAM, (bad,))])
    await made.store.append(STREAM, [Booked(amount=2)])
    last = await made.store.append(StreamId("BadLedger", "b"), [Booked(amount=3)])
    position = answer.position
    assert position is not None

    met: list[int] = []
    with pytest.raises(error, match=str(position)):
        await _meet(made.store, met)
    assert met == [position - 1]

    projection = Books()
    projection.on_error = on_error  # type: ignore[misc, assignment] # of one object
    await made.manager.subscribe(projection, QUICK)
    async with made.manager:
        if on_error == "stop":
            assert f"at position {position}" in await stopped(pool, "books")
            handled = [1]
        else:
            await made.manager.wait_until(last.position or 0, timeout=PATIENCE)
            letters = await made.checkpoints.dead_letters("books")
            assert [letter.position for letter in letters] == [position, position + 1]
            assert letters[0].error_type == error.__name__ or error is MainstayError
            handled = [1, 3]
    async with pool.connection() as conn:
        assert [n for (n,) in await (await conn.execute("select amount from book")).fetchall()] == handled


async def test_an_unknown_event_is_named_by_its_position_unless_the_store_is_told_to_skip(pool: Any) -> None:
    made = Surface(pool)
    await made.store.append(STREAM, [Booked()])
    (answer,) = await made.store.log.append([StreamAppend(STREAM, (raw("BadNeverHeardOf", b"{}"),))])
    await made.store.append(STREAM, [Booked()])

    with pytest.raises(UnknownEventTypeError, match=f"BadNeverHeardOf.*{answer.position}|{answer.position}.*BadNever"):
        await made.read(made.store.read_all())
    skipping = PostgreSQLEventStore(pool, unknown="skip")
    assert [each.version async for each in skipping.read_all()] == [1, 3]


async def test_a_payload_that_was_damaged_on_disk_is_named_by_its_position(dsn: str, pool: Any) -> None:
    made = Surface(pool)
    done = await made.store.append(STREAM, [Booked(), Booked(), Booked()])
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("update eventsource.event set payload = '[1, 2]' where version = 2")

    with pytest.raises(CorruptEventError, match=str((done.position or 0) - 1)):
        await made.read(made.store.read_all())
    with pytest.raises(CorruptEventError, match=str((done.position or 0) - 1)):
        await made.repo.load("a")
