"""Ten thousand wrong arguments: each a typed error, or a value that is allowed after all; nothing half-written.

`MAINSTAY_TEST_INPUTS` says how many (1,500 unless given), `MAINSTAY_TEST_SEED` which.
"""

import asyncio
import inspect
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BatchCommand,
    Command,
    CommandBus,
    Config,
    HandlerContext,
    HandlerRegistry,
    MemoryCommandStore,
    PgmqClient,
    RetryPolicy,
    SendRequest,
    TroubleshootingQueue,
    Worker,
    handler,
)
from mainstay.commands.store import Action, CommandFilter, NewCommand, Outcome, Verb
from mainstay.errors import MainstayError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.garbage import Call, Good

HOW_MANY = int(os.environ.get("MAINSTAY_TEST_INPUTS", "1500"))
SEED = int(os.environ.get("MAINSTAY_TEST_SEED", "20"))
AN_INSTANT = 0.02
MANY = 2**31 - 1


def always(value: Any) -> Good:
    return lambda _: value


def new_id(draw: random.Random) -> UUID:
    return UUID(int=draw.getrandbits(128), version=4)


DOMAIN: dict[str, Good] = {"domain": always("orders")}
KIND: dict[str, Good] = {"command_type": always("Do")}
ID: dict[str, Good] = {"command_id": new_id}
NONE = always(None)
CHOICES: dict[str, Good] = {
    "data": always({}),
    "correlation_id": NONE,
    "reply_to": NONE,
    "max_attempts": NONE,
    "key": NONE,
    "priority": always(0),
    "expires_at": NONE,
}
SENDING = DOMAIN | KIND | ID | CHOICES | {"batch_id": NONE, "delay": NONE, "not_before": NONE, "headers": NONE}
BATCHED = KIND | ID | CHOICES
PAGE: dict[str, Good] = {"limit": always(10), "offset": always(0)}
OPERATOR: dict[str, Good] = {"operator": always("ada"), "reason": always("seen to")}
PRINT: dict[str, Good] = {"fingerprint": always("0123456789ab")}
HANDLING: dict[str, Good] = {"retry_policy": NONE, "timeout": NONE, "transactional": always(value=False)}


async def work(_: Any, __: Any) -> None:
    """A handler."""


def calls(bus: CommandBus, tsq: TroubleshootingQueue, waiting: UUID) -> list[Call]:  # noqa: C901 - a table
    """Every public call that takes what a user wrote."""
    store = MemoryCommandStore()
    troubled: dict[str, Good] = {"command_id": always(waiting)}

    async def send_many(**given: Any) -> Any:
        size = given.pop("chunk_size")
        return await bus.send_batch([SendRequest("orders", "Do", uuid4(), {}), SendRequest(**given)], size)

    async def create_batch(**given: Any) -> Any:
        options = {name: given.pop(name) for name in ("domain", "batch_id", "name", "custom_data", "on_complete")}
        return await bus.create_batch(commands=[BatchCommand(**given)], **options)

    async def finish(**given: Any) -> Any:
        return await bus.create_batch("orders", [BatchCommand("Do", uuid4(), {})], on_complete=SendRequest(**given))

    async def run(**given: Any) -> Any:
        task = asyncio.create_task(Worker(store, "orders").run(**given))
        await asyncio.wait({task}, timeout=AN_INSTANT)
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return None

    def context() -> HandlerContext:
        return HandlerContext(Command("orders", "Do", uuid4(), {}), 1, 3, 1)

    async def extend(**given: Any) -> Any:
        return await context().extend_visibility(**given)

    async def send_on(**given: Any) -> Any:
        return await context().send(**given)

    def register(**given: Any) -> None:
        HandlerRegistry().register(given.pop("domain"), given.pop("command_type"), given.pop("handler"), **given)

    def decorate(**given: Any) -> Any:
        return HandlerRegistry().decorator(**given)(work)

    return [
        Call(
            "bus",
            lambda **given: CommandBus(store, **given),
            {"default_max_attempts": always(3), "payload_limit": always(99)},
        ),
        Call("bus", CommandBus, {"pool": always(store)}),
        Call("bus.send", bus.send, SENDING | {"idempotent": always(value=False)}),
        Call("bus.send", bus.send, SENDING),
        Call("bus.send", bus.send, SENDING | {"conn": NONE}),
        Call("bus.send_batch", send_many, SENDING | {"chunk_size": always(10)}),
        Call("bus.send_batch", bus.send_batch, {"requests": always([]), "chunk_size": always(10)}),
        Call("bus.wake", bus.wake, DOMAIN),
        Call("bus.cancel", bus.cancel, DOMAIN | ID | {"reason": NONE}),
        Call(
            "bus.create_batch",
            create_batch,
            DOMAIN | BATCHED | {"batch_id": new_id, "name": NONE, "custom_data": NONE, "on_complete": NONE},
        ),
        Call("bus.create_batch", finish, SENDING),
        Call("bus.create_batch", bus.create_batch, DOMAIN | {"commands": always([])}),
        Call("bus.get_batch", bus.get_batch, DOMAIN | {"batch_id": new_id}),
        Call("bus.list_batches", bus.list_batches, DOMAIN | PAGE | {"status": NONE}),
        Call("bus.list_batch_commands", bus.list_batch_commands, DOMAIN | PAGE | {"batch_id": new_id, "status": NONE}),
        Call("bus.get_command", bus.get_command, DOMAIN | ID),
        Call("bus.command_exists", bus.command_exists, DOMAIN | ID),
        Call(
            "bus.query_commands",
            bus.query_commands,
            DOMAIN | KIND | PAGE | {"status": NONE, "created_after": NONE, "created_before": always(datetime.now(UTC))},
        ),
        Call("bus.get_audit_trail", bus.get_audit_trail, DOMAIN | ID),
        Call("bus.pause", bus.pause, {"domain": always("held"), "command_type": NONE} | OPERATOR),
        Call("bus.resume", bus.resume, {"domain": always("held"), "command_type": NONE}),
        Call("bus.paused", bus.paused, DOMAIN),
        Call(
            "limits.set",
            bus.limits.set,
            {"domain": always("held")}
            | KIND
            | {
                "max_running": always(5),
                "per": NONE,
                "max_running_per": NONE,
                "rate": NONE,
                "per_seconds": always(1.0),
                "burst": NONE,
            },
        ),
        Call(
            "breakers.set",
            bus.breakers.set,
            {"domain": always("held"), "operator": NONE}
            | KIND
            | {"failures": always(5), "within": always(60.0), "probe_after": always(30.0), "drip": always(10.0)},
        ),
        Call("breakers.remove", bus.breakers.remove, {"domain": always("held"), "operator": NONE} | KIND),
        Call("breakers.force_open", bus.breakers.force_open, {"domain": always("held")} | KIND | PRINT | OPERATOR),
        Call("breakers.force_close", bus.breakers.force_close, {"domain": always("held")} | KIND | PRINT | OPERATOR),
        Call("breakers.list", bus.breakers.list, DOMAIN),
        Call("breakers.rules", bus.breakers.rules, DOMAIN),
        Call("breakers.history", bus.breakers.history, DOMAIN | {"limit": always(5)}),
        Call("limits.remove", bus.limits.remove, {"domain": always("held")} | KIND),
        Call("limits.list", bus.limits.list, DOMAIN),
        Call("tsq.list", tsq.list_troubleshooting, DOMAIN | KIND | PAGE),
        Call("tsq.count", tsq.count_troubleshooting, DOMAIN | KIND),
        Call("tsq.list_groups", tsq.list_groups, DOMAIN | KIND | {"error_code": NONE}),
        Call("tsq.get", tsq.get, DOMAIN | ID),
        Call("tsq.retry", tsq.operator_retry, DOMAIN | troubled | OPERATOR | {"data": NONE}),
        Call("tsq.cancel", tsq.operator_cancel, DOMAIN | troubled | OPERATOR),
        Call("tsq.complete", tsq.operator_complete, DOMAIN | troubled | OPERATOR | {"result_data": NONE}),
        Call(
            "tsq.act",
            tsq.act,
            DOMAIN
            | OPERATOR
            | {
                "command_ids": lambda draw: [new_id(draw)],
                "action": always(Action.CANCEL),
                "result_data": NONE,
            },
        ),
        Call("tsq", TroubleshootingQueue, {"pool": always(store)}),
        Call(
            "worker",
            Worker,
            {"pool": always(store)}
            | DOMAIN
            | {
                "registry": NONE,
                "visibility_timeout": always(30),
                "retry_policy": NONE,
                "use_notify": always(value=True),
                "name": NONE,
            },
        ),
        Call("worker.run", run, {"concurrency": always(0), "poll_interval": always(1.0)}),
        Call("worker.stop", Worker(store, "orders").stop, {"timeout": NONE}),
        Call("registry.register", register, DOMAIN | KIND | HANDLING | {"handler": always(work)}),
        Call("registry.decorator", decorate, DOMAIN | KIND | HANDLING),
        Call("handler", handler, DOMAIN | KIND | HANDLING),
        Call("registry.add", HandlerRegistry().add, {"function": always(work)}),
        Call("registry.register_instance", HandlerRegistry().register_instance, {"instance": always(object())}),
        Call("registry.get", HandlerRegistry().get, DOMAIN | KIND),
        Call("registry.get_or_raise", HandlerRegistry().get_or_raise, DOMAIN | KIND),
        Call("registry.has_handler", HandlerRegistry().has_handler, DOMAIN | KIND),
        Call("ctx.send", send_on, DOMAIN | KIND | {"data": always({}), "name": NONE, "command_id": NONE}),
        Call("ctx.extend_visibility", extend, {"seconds": always(1)}),
        Call(
            "ctx.progress",
            lambda **given: context().progress(**given),
            {"done": always(1), "total": always(2), "note": NONE},
        ),
        Call(
            "RetryPolicy",
            RetryPolicy,
            {"max_attempts": always(3), "backoff_schedule": always([1]), "jitter": always(0.1)},
        ),
        Call(
            "RetryPolicy.exponential",
            RetryPolicy.exponential,
            {
                "max_attempts": always(3),
                "base": always(1),
                "multiplier": always(2),
                "maximum": always(9),
                "jitter": always(0),
            },
        ),
        Call(
            "Config",
            Config,
            {
                "database_url": always("postgresql://"),
                "max_retries": always(3),
                "vt_seconds": always(30),
                "backoff_base": always(1),
                "backoff_multiplier": always(2),
                "max_backoff": always(9),
            },
        ),
        Call(
            "Config.from_env",
            lambda **given: Config.from_env(given),
            {
                "DATABASE_URL": always("postgresql://"),
                "MAX_RETRIES": always("3"),
                "VT_SECONDS": always("30"),
                "BACKOFF_BASE": always("1"),
                "BACKOFF_MULTIPLIER": always("2"),
                "MAX_BACKOFF": always("9"),
            },
        ),
    ]


def told(value: Any) -> str:
    """A value for the report, whatever it says of itself."""
    try:
        return f"{value!r:.70}"
    except Exception as error:  # noqa: BLE001 - some values are made to raise
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


Count = Callable[[], Awaitable[Any]]


async def throw(
    store: Any, written: Count, how_many: int, bus: type[CommandBus] = CommandBus
) -> tuple[Counter[str], list[str]]:
    """Make so many calls; what came of them, and which broke the rule.

    Args:
        store: Where commands live.
        written: Says how many rows there are of every kind.
        how_many: Calls.
        bus: What sends.
    """
    draw = random.Random(SEED)
    made = calls(bus(store), TroubleshootingQueue(store), await troubled(store))
    came: Counter[str] = Counter()
    broken: list[str] = []
    before = await written()
    for _ in range(how_many):
        one = draw.choice(made)
        given = one.arguments(draw)
        try:
            answer = one.call(**given)
            if inspect.isawaitable(answer):
                await answer
        except MainstayError as error:
            came[type(error).__name__] += 1
            wrong = "" if str(error).strip() else f"{type(error).__name__} says nothing"
            if one.writes and (after := await written()) != before:
                wrong = f"{type(error).__name__}, and rows were written: {before} -> {after}"
                before = after
        except BaseException as error:  # noqa: BLE001 - this is what the test is about
            wrong = f"{type(error).__name__}: {told(str(error))}"
        else:
            came["accepted"] += 1
            wrong = ""
            if one.writes:
                before = await written()
        if wrong:
            broken.append(
                f"{one.name}: {wrong}: " + ", ".join(f"{name}={told(value)}" for name, value in given.items())
            )
    return came, broken


async def counted_tables(pool: AsyncConnectionPool[Any]) -> sql.Composed:
    """The question how many rows every table of commands has."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('commandbus', 'pgmq') order by 1, 2"
        )
        names = await cursor.fetchall()
    one = sql.SQL("(select count(*) from {})")
    return sql.SQL("select {}").format(sql.SQL(", ").join(one.format(sql.Identifier(*name)) for name in names))


async def troubled(store: Any) -> UUID:
    """A command that waits for an operator."""
    result = await CommandBus(store).send("orders", "Do", uuid4(), {})
    (received,) = await store.receive("orders", limit=1, lease_seconds=30, worker="w")
    await store.complete("orders", [Outcome(received.lease, Verb.TROUBLESHOOT, None, "PERMANENT", "X", "x")])
    return result.command_id


def report(came: Counter[str], broken: list[str]) -> None:
    print(f"seed {SEED}: {came.total()} calls, {dict(came.most_common())}")
    for line in broken[:100]:
        print(line)


async def test_generated_arguments_get_typed_errors_and_write_nothing(pool: AsyncConnectionPool[Any]) -> None:
    store = PostgresCommandStore(pool)
    await PgmqClient(pool).create_queue("orders_replies")
    counting = await counted_tables(pool)

    async def written() -> Any:
        async with pool.connection() as conn:
            return await (await conn.execute(counting)).fetchone()

    await store.ensure_queue("orders")
    came, broken = await throw(store, written, HOW_MANY)
    report(came, broken)

    assert broken == []
    assert came.total() == HOW_MANY
    assert came["accepted"] < HOW_MANY / 2
    assert (await store.fsck()).findings == ()


async def test_generated_arguments_get_typed_errors_in_memory() -> None:
    store = MemoryCommandStore()
    await store.ensure_queue("orders")

    async def written() -> int:
        return len(await store.query(CommandFilter(), limit=MANY, offset=0))

    came, broken = await throw(store, written, 500)
    report(came, broken)

    assert broken == []
    assert (await store.fsck()).findings == ()


class TrustingBus(CommandBus):
    """Checks nothing."""

    async def send(self, **given: Any) -> Any:
        given.pop("conn", None)
        given.pop("idempotent", None)
        return await self._store.send([NewCommand(**given)])


async def test_a_bus_that_checks_nothing_is_caught(pool: AsyncConnectionPool[Any]) -> None:
    store = PostgresCommandStore(pool)
    await store.ensure_queue("orders")

    _, broken = await throw(store, _nothing, 400, TrustingBus)

    assert {line.split(":")[0] for line in broken} == {"bus.send"}
    assert len(broken) > 2


async def _nothing() -> None:
    """Counts no rows."""
