"""The idempotency certifier: five handlers that are wrong, each in its own way, and five that are right."""

from collections.abc import Callable
from typing import Any

import pytest

from mainstay import HandlerRegistry
from mainstay.errors import ConfigurationError
from mainstay.testing.certifier import Certificate, IdempotencyCertifier
from tests.support.thorough import thorough

DOMAIN = "billing"
DATA = {"amount": 5}
POST: list[str] = []
"""What was posted: an effect outside of the database."""

Handle = Callable[[Any, Any, Any], Any]


async def prepare(conn):
    POST.clear()
    await conn.execute("create table if not exists account (id integer primary key, balance integer not null)")
    await conn.execute("create table if not exists charge (id serial, command_id uuid, amount integer)")
    await conn.execute("create table if not exists keyed (command_id uuid primary key, amount integer)")
    await conn.execute("insert into account values (1, 100)")


async def rows_and_post(conn):
    balance = await (await conn.execute("select balance from account")).fetchall()
    keyed = await (await conn.execute("select command_id from keyed")).fetchall()
    return {"balance": balance, "keyed": keyed, "post": sorted(POST)}


def made(handle: Handle, *, transactional: bool) -> Callable[[Any], HandlerRegistry]:
    def make(pool):
        registry = HandlerRegistry()

        @registry.handler(DOMAIN, "Charge", transactional=transactional)
        async def charge(command, ctx):
            return await handle(pool, command, ctx)

        return registry

    return make


async def certified(dsn: str, handle: Handle, *, transactional: bool = False, **options: Any) -> Certificate:
    certifier = IdempotencyCertifier(dsn, prepare=prepare, **options)
    found = await certifier.certify(made(handle, transactional=transactional), DOMAIN, "Charge", DATA)
    print(found)
    return found


# --- wrong ------------------------------------------------------------------------------------------------------------


async def counts_without_a_guard(pool, command, ctx):
    """Read, add, write: what is delivered again is added again."""
    async with pool.connection() as conn:
        cursor = await conn.execute("select balance from account where id = 1")
        (balance,) = await cursor.fetchone()
        await conn.execute("update account set balance = %s where id = 1", (balance - command.data["amount"],))


async def inserts_without_a_key(pool, command, ctx):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into charge (command_id, amount) values (%s, %s)", (command.command_id, command.data["amount"])
        )


async def writes_on_a_connection_of_its_own(pool, command, ctx):
    """Transactional, but the effect is not in the transaction."""
    await ctx.conn.execute("insert into keyed values (%s, 1)", (command.command_id,))
    async with pool.connection() as conn:
        await conn.execute("update account set balance = balance - 5 where id = 1")


async def checks_then_acts(pool, command, ctx):
    """Right if deliveries come one after another; but a stalled one goes on after its check."""
    async with pool.connection() as conn:
        cursor = await conn.execute("select 1 from charge where command_id = %s", (command.command_id,))
        if await cursor.fetchone() is None:
            await conn.execute("insert into charge (command_id, amount) values (%s, 5)", (command.command_id,))


async def records_before_it_posts(pool, command, ctx):
    """Notes that the letter was posted, and then posts it: who dies in between never posts it."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "insert into keyed values (%s, 1) on conflict do nothing returning 1", (command.command_id,)
        )
        is_first = await cursor.fetchone() is not None
    if is_first:
        POST.append(str(command.command_id))


# --- right ------------------------------------------------------------------------------------------------------------


async def counts_in_the_transaction(pool, command, ctx):
    await ctx.conn.execute("update account set balance = balance - %s where id = 1", (command.data["amount"],))


async def inserts_once_by_its_id(pool, command, ctx):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into keyed values (%s, %s) on conflict do nothing", (command.command_id, command.data["amount"])
        )


async def sets_what_shall_be(pool, command, ctx):
    async with pool.connection() as conn:
        await conn.execute("update account set balance = %s where id = 1", (command.data["amount"],))


async def guards_its_counting(pool, command, ctx):
    """The note that it was done and what was done are one transaction."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "insert into keyed values (%s, 1) on conflict do nothing returning 1", (command.command_id,)
        )
        if await cursor.fetchone() is not None:
            await conn.execute("update account set balance = balance - 5 where id = 1")


async def posts_under_a_key_and_then_records(pool, command, ctx):
    """The post knows its letters by their keys, as a payment service does; the record comes last."""
    if str(command.command_id) not in POST:
        POST.append(str(command.command_id))
    await ctx.conn.execute("insert into keyed values (%s, 1)", (command.command_id,))
    await ctx.send("letters", "Archive", {"letter": str(command.command_id)})


@pytest.mark.parametrize(
    ("handle", "options", "fault", "what"),
    [
        (counts_without_a_guard, {}, "the process dies", "account"),
        thorough(inserts_without_a_key, {}, "the process dies", "charge: 1 too many"),
        thorough(writes_on_a_connection_of_its_own, {"transactional": True}, "the process dies", "account"),
        thorough(checks_then_acts, {}, "it stalls", "charge: 1 too many"),
        thorough(records_before_it_posts, {"state": rows_and_post}, "the process dies", "post: 1 missing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_wrong_handler_is_found(dsn, handle, options, fault, what) -> None:
    found = await certified(dsn, handle, **options)
    table = str(found)

    assert not found.passed
    assert any(one.fault.startswith(fault) and what in one.what for one in found.differences)
    assert table.splitlines()[2].split() == ["when", "fault", "what", "differs"]
    assert len(table.splitlines()) == len(found.differences) + 4


@pytest.mark.parametrize(
    ("handle", "options"),
    [
        (counts_in_the_transaction, {"transactional": True}),
        thorough(inserts_once_by_its_id, {}),
        thorough(sets_what_shall_be, {}),
        thorough(guards_its_counting, {}),
        thorough(posts_under_a_key_and_then_records, {"transactional": True, "state": rows_and_post}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_right_handler_passes(dsn, handle, options) -> None:
    found = await certified(dsn, handle, **options)

    assert str(found.differences) == "()"
    assert found.passed
    assert found.runs >= 6


@pytest.mark.thorough
async def test_a_handler_that_never_ends_the_same_way_cannot_be_judged(dsn) -> None:
    async def draws(pool, command, ctx):
        async with pool.connection() as conn:
            await conn.execute("insert into charge (amount) select 1000000000 * random()")

    with pytest.raises(ConfigurationError, match="two undisturbed runs end differently"):
        await certified(dsn, draws)

    assert not (await certified(dsn, draws, ignore=["amount"])).passed
