"""Whatever is handed over, a typed error says what to do, and nothing is written.

Three kinds: arguments that cannot be accepted, databases that cannot be used, transactions that cannot be joined.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BatchCommand,
    CommandBus,
    Config,
    HandlerRegistry,
    PgmqClient,
    RetryPolicy,
    SendRequest,
    TroubleshootingQueue,
    Worker,
)
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.store import Action
from mainstay.errors import (
    ConfigurationError,
    InvalidDomainError,
    InvalidInputError,
    InvalidPayloadError,
    InvalidQueueError,
    MainstayError,
    PermissionDeniedError,
    SchemaMissingError,
    StorageUnavailableError,
)
from tests.support.servers import open_pool
from tests.support.thorough import every

HUGE = "x" * 1_100_000
SURROGATE = "\ud800"
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - that is what is wrong with it
ID = uuid4()

Call = Callable[["Surface"], Awaitable[Any]]


class Surface:
    """Everything that takes a user's input, on one pool."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.bus = CommandBus(pool)
        self.tsq = TroubleshootingQueue(pool)
        self.pgmq = PgmqClient(pool)

    async def send(self, **changes: Any) -> Any:
        given = {"domain": "orders", "command_type": "CreateOrder", "command_id": uuid4(), "data": {}} | changes
        return await self.bus.send(**given)

    async def batch(self, **changes: Any) -> Any:
        given = {"domain": "orders", "commands": [BatchCommand("CreateOrder", uuid4(), {})]} | changes
        return await self.bus.create_batch(**given)


async def written(conn: AsyncConnection[Any]) -> dict[str, int]:
    """How many rows every table of commands and queues has."""
    cursor = await conn.execute(
        "select table_schema, table_name from information_schema.tables "
        "where table_type = 'BASE TABLE' and table_schema in ('commandbus', 'pgmq')"
    )
    counts = {}
    for schema, table in await cursor.fetchall():
        cursor = await conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, table)))
        (counts[table],) = await cursor.fetchone() or (0,)
    return counts


@pytest.fixture
async def surface(pool: AsyncConnectionPool[Any]) -> AsyncIterator[Surface]:
    """On a database with one command sent; at the end everything is as it was."""
    made = Surface(pool)
    await made.send(command_id=ID)
    async with pool.connection() as conn:
        before = await written(conn)
    yield made
    async with pool.connection() as conn:
        after = await written(conn)
    await made.bus.close()

    assert after == before


# --- arguments --------------------------------------------------------------------------------------------------------

BAD_DOMAINS = ["", "Orders", "ord ers", 'o"rders', "o'; drop table x", "x" * 38, "-orders", "ordérs", "a\x00b", None, 7]
BAD_QUEUES = ["", "Replies", "re plies", 'r"', "x" * 48, "a\x00b", SURROGATE, 7]
BAD_TYPES = ["", "  ", "x" * 201, "a\x00b", "a\nb", SURROGATE, None, 7]
BAD_IDS = ["", "not-a-uuid", 7, b"x" * 16]
BAD_DATA = [
    "text",
    [1],
    7,
    {"a": math.nan},
    {"a": [math.inf]},
    {"a": "\x00"},
    {"\x00": 1},
    {"a": SURROGATE},
    {SURROGATE: 1},
    {"a": HUGE},
    {"a": 2**70},
    {1: 2},
    {"a": b"bytes"},
    {"a": object()},
]
BAD_ATTEMPTS = [0, -1, 1.5, "3", True, 2**31]
BAD_DELAYS = [-1, math.nan, math.inf, "60", timedelta(seconds=-1), True]
BAD_TIMES = [NAIVE, "2030-01-01", 7]
BAD_TEXTS = [7, "x" * 1001, "a\x00b", SURROGATE]
BAD_PAGES = [-1, 10_001, "10", 1.5, True, None]

DOMAIN_CALLS: dict[str, Callable[[Surface, Any], Awaitable[Any]]] = {
    "send": lambda s, bad: s.send(domain=bad),
    "send_batch": lambda s, bad: s.bus.send_batch([SendRequest(bad, "CreateOrder", uuid4(), {})]),
    "create_batch": lambda s, bad: s.batch(domain=bad),
    "cancel": lambda s, bad: s.bus.cancel(bad, ID),
    "get_command": lambda s, bad: s.bus.get_command(bad, ID),
    "command_exists": lambda s, bad: s.bus.command_exists(bad, ID),
    "get_batch": lambda s, bad: s.bus.get_batch(bad, ID),
    "list_batches": lambda s, bad: s.bus.list_batches(bad),
    "list_batch_commands": lambda s, bad: s.bus.list_batch_commands(bad, ID),
    "tsq.get": lambda s, bad: s.tsq.get(bad, ID),
    "operator_retry": lambda s, bad: s.tsq.operator_retry(bad, ID),
    "operator_cancel": lambda s, bad: s.tsq.operator_cancel(bad, ID),
    "operator_complete": lambda s, bad: s.tsq.operator_complete(bad, ID),
    "act": lambda s, bad: s.tsq.act(bad, [ID], Action.RETRY),
}
ID_CALLS: dict[str, Callable[[Surface, Any], Awaitable[Any]]] = {
    "send": lambda s, bad: s.send(command_id=bad),
    "correlation": lambda s, bad: s.send(correlation_id=bad),
    "batch": lambda s, bad: s.send(batch_id=bad),
    "send_batch": lambda s, bad: s.bus.send_batch([SendRequest("orders", "CreateOrder", bad, {})]),
    "create_batch": lambda s, bad: s.batch(batch_id=bad),
    "create_batch command": lambda s, bad: s.batch(commands=[BatchCommand("CreateOrder", bad, {})]),
    "cancel": lambda s, bad: s.bus.cancel("orders", bad),
    "get_command": lambda s, bad: s.bus.get_command("orders", bad),
    "get_audit_trail": lambda s, bad: s.bus.get_audit_trail(bad),
    "get_batch": lambda s, bad: s.bus.get_batch("orders", bad),
    "list_batch_commands": lambda s, bad: s.bus.list_batch_commands("orders", bad),
    "tsq.get": lambda s, bad: s.tsq.get("orders", bad),
    "operator_retry": lambda s, bad: s.tsq.operator_retry("orders", bad),
    "operator_cancel": lambda s, bad: s.tsq.operator_cancel("orders", bad),
    "operator_complete": lambda s, bad: s.tsq.operator_complete("orders", bad),
    "act": lambda s, bad: s.tsq.act("orders", [bad], Action.RETRY),
}
#: Call, what it is given, which error, part of what that says.
OTHER_CALLS: list[tuple[str, Callable[[Surface, Any], Awaitable[Any]], list[Any], type[MainstayError], str]] = [
    ("type", lambda s, bad: s.send(command_type=bad), BAD_TYPES, InvalidInputError, "command_type must"),
    ("data", lambda s, bad: s.send(data=bad), BAD_DATA, InvalidPayloadError, "data"),
    ("headers", lambda s, bad: s.send(headers=bad), BAD_DATA, InvalidPayloadError, "headers"),
    (
        "data of many",
        lambda s, bad: s.bus.send_batch(
            [SendRequest("orders", "CreateOrder", uuid4(), {}), SendRequest("orders", "CreateOrder", uuid4(), bad)]
        ),
        BAD_DATA,
        InvalidPayloadError,
        "data",
    ),
    ("reply_to", lambda s, bad: s.send(reply_to=bad), BAD_QUEUES, InvalidQueueError, "invalid queue name"),
    ("attempts", lambda s, bad: s.send(max_attempts=bad), BAD_ATTEMPTS, InvalidInputError, "max_attempts must"),
    ("delay", lambda s, bad: s.send(delay=bad), BAD_DELAYS, MainstayError, "duration"),
    ("not_before", lambda s, bad: s.send(not_before=bad), BAD_TIMES, InvalidInputError, "not_before must"),
    ("requests", lambda s, bad: s.bus.send_batch(bad), [None, [], "abc", 7], InvalidInputError, "requests must"),
    ("request", lambda s, bad: s.bus.send_batch([bad]), [None, {}, "abc"], InvalidInputError, "expected a SendRequest"),
    (
        "chunk_size",
        lambda s, bad: s.bus.send_batch([SendRequest("orders", "A", uuid4(), {})], bad),
        [0, -1, "10", 1.5, None],
        InvalidInputError,
        "chunk_size must",
    ),
    ("commands", lambda s, bad: s.batch(commands=bad), [None, [], "abc", 7], InvalidInputError, "commands must"),
    ("command", lambda s, bad: s.batch(commands=[bad]), [None, {}, 7], InvalidInputError, "expected a BatchCommand"),
    ("batch name", lambda s, bad: s.batch(name=bad), BAD_TEXTS, InvalidInputError, "name must"),
    ("custom_data", lambda s, bad: s.batch(custom_data=bad), BAD_DATA, InvalidPayloadError, "custom_data"),
    ("on_complete", lambda s, bad: s.batch(on_complete=bad), [7, "abc"], InvalidInputError, "on_complete must"),
    ("both times", lambda s, bad: s.send(delay=1, not_before=bad), [datetime.now(UTC)], InvalidInputError, "not both"),
    ("reason", lambda s, bad: s.bus.cancel("orders", ID, reason=bad), BAD_TEXTS, InvalidInputError, "reason must"),
    (
        "status",
        lambda s, bad: s.bus.query_commands(status=bad),
        ["DONE", 7],
        InvalidInputError,
        "status must be one of",
    ),
    (
        "type asked for",
        lambda s, bad: s.bus.query_commands(command_type=bad),
        ["", "a\x00b", SURROGATE, 7],
        InvalidInputError,
        "command_type must",
    ),
    (
        "status of batches",
        lambda s, bad: s.bus.list_batches("orders", status=bad),
        ["DONE", 7, "a\x00b"],
        InvalidInputError,
        "status must be one of",
    ),
    (
        "status in batch",
        lambda s, bad: s.bus.list_batch_commands("orders", ID, status=bad),
        ["DONE", 7, "a\x00b"],
        InvalidInputError,
        "status must be one of",
    ),
    ("after", lambda s, bad: s.bus.query_commands(created_after=bad), BAD_TIMES, InvalidInputError, "created_after"),
    ("before", lambda s, bad: s.bus.query_commands(created_before=bad), BAD_TIMES, InvalidInputError, "created_before"),
    ("limit", lambda s, bad: s.bus.query_commands(limit=bad), BAD_PAGES, InvalidInputError, "limit must"),
    (
        "offset",
        lambda s, bad: s.bus.query_commands(offset=bad),
        [-1, "1", None, 2**63],
        InvalidInputError,
        "offset must",
    ),
    ("batches' limit", lambda s, bad: s.bus.list_batches("orders", limit=bad), BAD_PAGES, InvalidInputError, "limit"),
    ("tsq limit", lambda s, bad: s.tsq.list_troubleshooting(limit=bad), BAD_PAGES, InvalidInputError, "limit must"),
    ("tsq type", lambda s, bad: s.tsq.count(None, bad), BAD_TYPES[:-2], InvalidInputError, "command_type must"),
    ("operator", lambda s, bad: s.tsq.operator_retry("orders", ID, bad), BAD_TEXTS, InvalidInputError, "operator must"),
    (
        "edited data",
        lambda s, bad: s.tsq.operator_retry("orders", ID, data=bad),
        BAD_DATA,
        InvalidPayloadError,
        "data",
    ),
    (
        "result",
        lambda s, bad: s.tsq.operator_complete("orders", ID, bad),
        BAD_DATA[3:],
        InvalidPayloadError,
        "result_data",
    ),
    (
        "many ids",
        lambda s, bad: s.tsq.act("orders", bad, Action.RETRY),
        [None, [], "x"],
        InvalidInputError,
        "command_ids",
    ),
    (
        "action",
        lambda s, bad: s.tsq.act("orders", [ID], bad),
        ["EXPLODE", None, 7],
        InvalidInputError,
        "action must be",
    ),
    ("queue", lambda s, bad: s.pgmq.create_queue(bad), [*BAD_QUEUES, None], InvalidQueueError, "invalid queue name"),
    ("dropped", lambda s, bad: s.pgmq.drop_queue(bad), [*BAD_QUEUES, None], InvalidQueueError, "invalid queue name"),
    ("read", lambda s, bad: s.pgmq.read(bad), [*BAD_QUEUES, None], InvalidQueueError, "invalid queue name"),
    ("message", lambda s, bad: s.pgmq.send("orders__commands", bad), BAD_DATA[3:], InvalidPayloadError, "message"),
    (
        "messages",
        lambda s, bad: s.pgmq.send_batch("orders__commands", bad),
        [7, None],
        InvalidInputError,
        "messages must",
    ),
    (
        "lease",
        lambda s, bad: s.pgmq.read("orders__commands", bad),
        [*BAD_DELAYS, 2**40],
        MainstayError,
        "duration",
    ),
    (
        "number",
        lambda s, bad: s.pgmq.delete("orders__commands", bad),
        [0, -(2**63), "1", 2**63, None],
        InvalidInputError,
        "msg_id",
    ),
]


def cases(calls: dict[str, Any], values: list[Any]) -> list[Any]:
    return [pytest.param(call, value, id=f"{name} {value!r:.30}") for name, call in calls.items() for value in values]


@pytest.mark.parametrize(
    ("call", "bad"), cases(DOMAIN_CALLS, BAD_DOMAINS[:4]) + cases({"send": DOMAIN_CALLS["send"]}, BAD_DOMAINS)
)
async def test_a_domain_that_cannot_become_a_queue_is_refused_everywhere(memory, call, bad) -> None:
    with pytest.raises(InvalidDomainError, match="use 1 to 37 characters of a-z"):
        await call(memory, bad)


@pytest.fixture
def memory() -> Surface:
    """For arguments that are refused before any store is asked."""
    store = MemoryCommandStore()
    made = object.__new__(Surface)
    made.bus, made.tsq = CommandBus(store), TroubleshootingQueue(store)
    return made


@pytest.mark.parametrize(("call", "bad"), cases(ID_CALLS, BAD_IDS))
async def test_what_is_no_uuid_is_refused_everywhere(memory, call, bad) -> None:
    with pytest.raises(InvalidInputError, match="must be a UUID, not"):
        await call(memory, bad)


@pytest.mark.parametrize(
    ("call", "values", "error", "says"), [pytest.param(*case[1:], id=case[0]) for case in OTHER_CALLS]
)
async def test_what_cannot_be_accepted_is_refused_and_nothing_is_written(surface, call, values, error, says) -> None:
    for bad in values:
        with pytest.raises(error) as raised:
            await call(surface, bad)

        assert says in str(raised.value), repr(bad)[:80]
        assert raised.value.__cause__ is None or not isinstance(raised.value.__cause__, psycopg.Error), repr(bad)[:80]


EDGES = st.sampled_from(
    ["\x00", "\ud800", "a\udfff", math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, b"", object()]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.datetimes() | st.uuids()
)
KEYS = st.text(st.characters()) | st.integers()
PAYLOADS = st.recursive(
    SCALARS | EDGES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.dictionaries(st.text(st.characters()), PAYLOADS, max_size=4))
async def test_any_payload_is_either_stored_or_refused_with_a_reason(pool, payload) -> None:
    made, key = Surface(pool), uuid4()
    (answer,) = await asyncio.gather(made.send(command_id=key, data=payload), return_exceptions=True)
    known = await made.bus.command_exists("orders", key)

    assert known is not isinstance(answer, InvalidPayloadError)
    assert known or "data" in str(answer)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RetryPolicy(max_attempts=0), "max_attempts must"),
        (lambda: RetryPolicy(max_attempts="3"), "max_attempts must"),
        (lambda: RetryPolicy(backoff_schedule="10"), "backoff_schedule must"),
        (lambda: RetryPolicy(backoff_schedule=[1, math.nan]), "finite"),
        (lambda: RetryPolicy(backoff_schedule=[-1]), "not negative"),
        (lambda: RetryPolicy(backoff_schedule=7), "backoff_schedule must"),
        (lambda: RetryPolicy(jitter=2), "jitter must"),
        (lambda: RetryPolicy(jitter=math.nan), "jitter must"),
        (lambda: RetryPolicy.exponential(multiplier=math.inf), "multiplier must"),
        (lambda: RetryPolicy.exponential(multiplier="2"), "multiplier must"),
        (lambda: RetryPolicy.exponential(base=math.inf), "finite"),
        (lambda: Config(database_url=""), "database_url must"),
        (lambda: Config(database_url=7), "database_url must"),
        (lambda: Config("x", max_retries=0), "max_retries must"),
        (lambda: Config("x", max_retries="3"), "max_retries must"),
        (lambda: Config("x", vt_seconds=1), "vt_seconds must"),
        (lambda: Config("x", vt_seconds="30"), "vt_seconds must"),
        (lambda: Config("x", backoff_base=math.nan), "finite"),
        (lambda: Config.from_env({}), "DATABASE_URL is not set"),
        (lambda: Config.from_env({"DATABASE_URL": "x", "VT_SECONDS": "soon"}), "VT_SECONDS must"),
        (lambda: CommandBus(None), "AsyncConnectionPool"),
        (lambda: CommandBus("postgresql://x"), "AsyncConnectionPool"),
        (lambda: TroubleshootingQueue(7), "AsyncConnectionPool"),
        (lambda: Worker(7, "orders"), "AsyncConnectionPool"),
        (lambda: Worker(MemoryCommandStore(), "orders", visibility_timeout=0), "visibility_timeout must"),
        (lambda: Worker(MemoryCommandStore(), "orders", visibility_timeout="30"), "duration"),
        (lambda: Worker(MemoryCommandStore(), "orders", visibility_timeout=math.nan), "finite"),
        (lambda: Worker(MemoryCommandStore(), "orders", name="a b"), "name"),
        (lambda: HandlerRegistry().register("orders", "A", "not callable"), "a handler is a function"),
        (lambda: HandlerRegistry().register("orders", "A", print, timeout=-1), "not negative"),
        (lambda: HandlerRegistry().add(print), "not marked"),
        (lambda: HandlerRegistry().register_instance(object()), "no method marked"),
    ],
)
def test_a_setting_out_of_range_is_refused_when_it_is_made(make, says) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 0}, "concurrency must"),
        ({"concurrency": "4"}, "concurrency must"),
        ({"concurrency": True}, "concurrency must"),
        ({"poll_interval": 0}, "poll_interval must"),
        ({"poll_interval": math.nan}, "finite"),
        ({"poll_interval": "1"}, "duration"),
    ],
)
async def test_a_worker_refuses_to_run_in_a_way_that_cannot_be(options, says) -> None:
    with pytest.raises(ConfigurationError, match=says):
        await Worker(MemoryCommandStore(), "orders").run(**options)


# --- databases --------------------------------------------------------------------------------------------------------

#: One call of each kind, all of them right.
CALLS: dict[str, Call] = {
    "send": lambda s: s.send(),
    "send_batch": lambda s: s.bus.send_batch([SendRequest("orders", "CreateOrder", uuid4(), {})]),
    "create_batch": lambda s: s.batch(),
    "cancel": lambda s: s.bus.cancel("orders", ID),
    "get_command": lambda s: s.bus.get_command("orders", ID),
    "query_commands": lambda s: s.bus.query_commands(),
    "get_audit_trail": lambda s: s.bus.get_audit_trail(ID),
    "get_batch": lambda s: s.bus.get_batch("orders", ID),
    "list_batches": lambda s: s.bus.list_batches("orders"),
    "list_troubleshooting": lambda s: s.tsq.list_troubleshooting(),
    "count": lambda s: s.tsq.count(),
    "operator_retry": lambda s: s.tsq.operator_retry("orders", ID),
    "operator_cancel": lambda s: s.tsq.operator_cancel("orders", ID),
    "operator_complete": lambda s: s.tsq.operator_complete("orders", ID),
}
WRITING = ["send", "send_batch", "create_batch"]


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_database_without_the_schema_says_how_to_get_it(empty_dsn, name) -> None:
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(SchemaMissingError, match="mainstay schema upgrade"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize("name", CALLS)
async def test_a_closed_pool_says_that_it_is_closed(dsn, name) -> None:
    async with open_pool(dsn) as pool:
        pass
    with pytest.raises(StorageUnavailableError, match="keep it open"):
        await CALLS[name](Surface(pool))


@pytest.fixture
async def stranger_dsn(server, database, surface) -> AsyncIterator[str]:
    """How a role without any grants connects."""
    role = f"stranger_{uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        conn.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        yield role
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("name", every(4, CALLS))
async def test_a_role_without_grants_is_told_what_to_grant(dsn, stranger_dsn, name) -> None:
    async with open_pool(dsn, kwargs={"options": f"-c role={stranger_dsn}"}) as pool:
        with pytest.raises(PermissionDeniedError, match="grant the role usage on the schemas"):
            await CALLS[name](Surface(pool))


@pytest.mark.parametrize("name", WRITING)
async def test_a_read_only_server_says_that_it_cannot_be_used(dsn, surface, name) -> None:
    async with open_pool(dsn, kwargs={"options": "-c default_transaction_read_only=on"}) as pool:
        with pytest.raises(StorageUnavailableError, match="read-only"):
            await CALLS[name](Surface(pool))


#: Calls that join a caller's transaction.
JOINING: dict[str, Callable[[Surface, Any], Awaitable[Any]]] = {
    "send": lambda s, conn: s.send(conn=conn),
    "send_batch": lambda s, conn: s.bus.send_batch([SendRequest("orders", "A", uuid4(), {})], conn=conn),
    "create_batch": lambda s, conn: s.batch(conn=conn),
}


@pytest.mark.parametrize("name", JOINING)
async def test_a_transaction_that_has_failed_already_is_named(dsn, surface, name) -> None:
    async with await AsyncConnection.connect(dsn) as conn:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await conn.execute("select 1 / 0")
        with pytest.raises(MainstayError, match="roll it back, and begin again"):
            await JOINING[name](surface, conn)
        await conn.rollback()


@pytest.mark.parametrize("name", JOINING)
async def test_a_connection_that_is_closed_is_named(dsn, surface, name) -> None:
    conn = await AsyncConnection.connect(dsn)
    await conn.close()
    with pytest.raises(StorageUnavailableError, match="the connection is closed"):
        await JOINING[name](surface, conn)
