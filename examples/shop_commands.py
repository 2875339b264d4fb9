"""A shop: orders, payments and shipping by commands, on any PostgreSQL.

    python examples/shop_commands.py                     on an embedded PostgreSQL of its own
    python examples/shop_commands.py postgresql://...    on a database of yours, where it makes a schema `shop`

It shows, in this order: orders that are sent in the transaction of their rows, as one batch with an end; a
transactional handler, whose money moves exactly once; a transient failure that is retried; a refusal by the business;
a payment that only an operator can mend; and the JSON replies. At the end the books are checked, and all invariants.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from mainstay import (
    BatchCommand,
    Command,
    CommandStatus,
    Failure,
    HandlerContext,
    HandlerRegistry,
    Mainstay,
    PermanentCommandError,
    PgmqClient,
    Reply,
    Result,
    RetryPolicy,
    SendRequest,
    Success,
    TransientCommandError,
    handler,
    setup_database,
)
from mainstay.operations.operator import Operator

REPLIES = "shop__replies"
SOON = RetryPolicy(max_attempts=3, backoff_schedule=[0.2], jitter=0)

TABLES = """
    create schema if not exists shop;
    create table if not exists shop.account (name text primary key, balance integer not null check (balance >= 0));
    create table if not exists shop.orders (order_id uuid primary key, account text not null, amount integer not null);
    create table if not exists shop.payment (order_id uuid not null, account text not null, amount integer not null);
    truncate shop.account, shop.orders, shop.payment;
    insert into shop.account values ('ada', 100), ('bob', 10), ('cleo', 100);
"""

#: Who orders for how much: one is too expensive, one has a mistake in its account, one needs two attempts.
ORDERS = [("ada", 30), ("cleo", 20), ("bob", 40), ("adda", 25), ("cleo", 15)]


class Payments:
    """Moves money. Everything here is one transaction: the effect, the completion, the reply, the audit."""

    @handler("payments", "PayOrder", transactional=True, retry_policy=SOON)
    async def pay_order(self, command: Command, ctx: HandlerContext) -> Result[dict[str, int]]:
        """Take the money from the account; refuse if there is too little."""
        order = command.data
        cursor = await ctx.conn.execute(
            "select balance from shop.account where name = %s for update", (order["account"],)
        )
        row = await cursor.fetchone()
        if row is None:
            raise PermanentCommandError("NO_ACCOUNT", f"there is no account {order['account']!r}")
        if row[0] < order["amount"]:
            return Failure("INSUFFICIENT_FUNDS", "the balance is too low", {"balance": row[0]})
        await ctx.conn.execute(
            "update shop.account set balance = balance - %s where name = %s", (order["amount"], order["account"])
        )
        await ctx.conn.execute(
            "insert into shop.payment values (%s, %s, %s)", (order["order_id"], order["account"], order["amount"])
        )
        if order["amount"] == 15 and ctx.attempt == 1:  # noqa: PLR2004  # the order that needs two attempts
            raise TransientCommandError("BANK_BUSY", "the bank is busy; all of the above rolls back")
        return Success({"balance": row[0] - order["amount"]})


class Shipping:
    """Plain functions are handlers, too: they run in threads."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []

    @handler("shipping", "ShipPaidOrders")
    def ship_paid_orders(self, command: Command, ctx: HandlerContext) -> dict[str, Any]:
        """Sent by the database when every payment of the batch has had its turn."""
        self.rounds.append(command.data)
        return {"attempt": ctx.attempt}


async def run(dsn: str) -> None:
    """Run the shop once.

    Args:
        dsn: Where; the schema `shop` there is emptied.
    """
    async with Mainstay.connect(dsn, check_schema=False, max_size=20) as app:
        await setup_database(app.pool)
        async with app.pool.connection() as conn:
            await conn.execute(TABLES)
        await PgmqClient(app.pool).create_queue(REPLIES)

        shipping = Shipping()
        registry = HandlerRegistry()
        registry.register_instance(Payments())
        registry.register_instance(shipping)
        workers = [app.worker(domain, registry) for domain in ("payments", "shipping")]
        running = [asyncio.create_task(worker.run(concurrency=8)) for worker in workers]
        try:
            batch_id = await order(app)
            await until(lambda: _ended(app, batch_id), running)
            await until(lambda: _shipped(shipping), running)
            await mend(app)
            await until(lambda: _ended(app, batch_id, completed=4), running)
        finally:
            await asyncio.gather(*(worker.stop() for worker in workers))
            await asyncio.gather(*running)
        await show(app, batch_id)


async def order(app: Mainstay) -> UUID:
    """Write the orders and send their payments, as one batch, in one transaction."""
    ids = [uuid4() for _ in ORDERS]
    async with app.pool.connection() as conn:
        for key, (account, amount) in zip(ids, ORDERS, strict=True):
            await conn.execute("insert into shop.orders values (%s, %s, %s)", (key, account, amount))
        batch = await app.bus.create_batch(
            "payments",
            [
                BatchCommand("PayOrder", key, {"order_id": key, "account": account, "amount": amount}, reply_to=REPLIES)
                for key, (account, amount) in zip(ids, ORDERS, strict=True)
            ],
            name="Orders of today",
            on_complete=SendRequest("shipping", "ShipPaidOrders", uuid4(), {"orders": len(ids)}),
            conn=conn,
        )
    await app.bus.wake()
    print(f"{len(ids)} orders are written and their payments sent, in one transaction.")
    return batch.batch_id


async def mend(app: Mainstay) -> None:
    """What an operator does: look at what waits, and retry it with the mistake corrected."""
    for item in await app.troubleshooting.list_troubleshooting("payments"):
        print(f"An operator sees {item.last_error_code}: {item.last_error_msg}.")
        corrected = {**(item.payload or {}), "account": "ada"}
        await app.troubleshooting.operator_retry(
            item.domain, item.command_id, "grace", data=corrected, reason="misspelled"
        )


async def until(condition: Callable[[], Awaitable[bool]], running: list["asyncio.Task[None]"]) -> None:
    """Wait for a condition, at most 30 seconds; a worker that ended with an error raises it here."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.wait(running, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                if task.done():
                    task.result()


async def _ended(app: Mainstay, batch_id: UUID, completed: int = 0) -> bool:
    batch = await app.bus.get_batch("payments", batch_id)
    return batch is not None and batch.is_complete and batch.completed_count >= completed


async def _shipped(shipping: Shipping) -> bool:
    return bool(shipping.rounds)


async def show(app: Mainstay, batch_id: UUID) -> None:
    """Print what became of it all, and check it.

    Raises:
        SystemExit: Something is not as it must be.
    """
    batch = await app.bus.get_batch("payments", batch_id)
    commands = await app.bus.list_batch_commands("payments", batch_id)
    keys = {command.command_id for command in commands}
    queue = PgmqClient(app.pool)
    replies = [Reply.from_message(message.message) for message in await queue.read(REPLIES, batch_size=100)]
    outcomes = Counter(reply.outcome.value for reply in replies if reply.command_id in keys)
    async with app.pool.connection() as conn:
        cursor = await conn.execute("select sum(balance) from shop.account")
        left = (await cursor.fetchone() or (0,))[0]
        cursor = await conn.execute("select sum(amount), count(*), count(distinct order_id) from shop.payment")
        paid, payments, orders_paid = await cursor.fetchone() or (0, 0, 0)
    report = await Operator(app.pool).fsck()
    statuses = Counter(command.status for command in commands)

    print(f"Batch {batch.name!r}: {batch.status}." if batch else "There is no batch.")
    print(f"Payments: {statuses[CommandStatus.COMPLETED]} completed, {statuses[CommandStatus.FAILED]} refused.")
    print(f"Replies: {', '.join(f'{number} {outcome}' for outcome, number in sorted(outcomes.items()))}.")
    print(f"Money: 210 before, {left} on the accounts and {paid} paid now; {payments} payments, each once.")
    print(f"fsck: {'clean' if report.clean else report.findings}")
    if left + paid != 210 or payments != orders_paid or not report.clean or outcomes != {"SUCCESS": 4, "FAILED": 1}:  # noqa: PLR2004  # the sum above
        sys.exit("The books are wrong.")


def main() -> None:
    """Run on the database that the command line names, or on an embedded one."""
    with ExitStack() as stack:
        if len(sys.argv) > 1:
            dsn = sys.argv[1]
        else:
            from mainstay.storage.postgres.embedded import EmbeddedServer  # noqa: PLC0415  # an extra

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mainstay-example-")))
            folder.chmod(0o755)  # if root runs this, the server runs as another account
            dsn = stack.enter_context(EmbeddedServer(folder / "data")).dsn("shop")
        asyncio.run(run(dsn))


if __name__ == "__main__":
    main()
