"""README, "Developer Guide": handlers, errors, registry and worker, sending."""

# ruff: noqa: B904, N818, TRY300 - written as the README writes it

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from commandbus import Command, CommandBus, HandlerContext, HandlerRegistry, RetryPolicy, Worker, handler
from commandbus.exceptions import PermanentCommandError, TransientCommandError
from tests.support.waiting import eventually

#: The README constructs pools the old way.
pytestmark = pytest.mark.filterwarnings("ignore:opening the async pool")

# -- 1. Define Command Handlers ----------------------------------------------------------------------------------------


class OrderHandlers:
    """Handlers for order domain commands."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        """Inject dependencies via constructor."""
        self._pool = pool

    @handler(domain="orders", command_type="CreateOrder")
    async def handle_create_order(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        """Handle CreateOrder command.

        Args:
            cmd: The command with command_id and data
            ctx: Handler context (currently provides metadata)

        Returns:
            Result dict stored in command record
        """
        order_data = cmd.data
        # Process the order...
        assert order_data
        return {"status": "created", "order_id": str(cmd.command_id)}

    @handler(domain="orders", command_type="CancelOrder")
    async def handle_cancel_order(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        """Handle CancelOrder command."""
        # Cancel logic...
        return {"status": "cancelled"}


# -- 2. Handle Errors --------------------------------------------------------------------------------------------------


class PaymentDeclined(Exception):
    pass


class GatewayTimeout(Exception):
    pass


@dataclass
class PaymentResult:
    id: str


class PaymentGateway:
    """What the README leaves to its reader."""

    def __init__(self) -> None:
        self.calls = 0

    async def process(self, data: dict[str, Any]) -> PaymentResult:
        self.calls += 1
        if data["card"] == "declined":
            raise PaymentDeclined("card declined")
        if data["card"] == "slow" and self.calls < 3:
            raise GatewayTimeout("no answer")
        return PaymentResult(id="tx-1")


payment_gateway = PaymentGateway()


class InventoryHandlers:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    @handler(domain="orders", command_type="ProcessPayment")
    async def handle_payment(self, cmd: Command, ctx: HandlerContext) -> dict[str, Any]:
        try:
            result = await payment_gateway.process(cmd.data)
            return {"status": "paid", "transaction_id": result.id}
        except PaymentDeclined as e:
            # Permanent failure - no retry, moves to troubleshooting queue
            raise PermanentCommandError(code="PAYMENT_DECLINED", message=str(e))
        except GatewayTimeout as e:
            # Transient failure - will be retried according to policy
            raise TransientCommandError(code="GATEWAY_TIMEOUT", message=str(e))


# -- 3. Register Handlers and Create Worker ----------------------------------------------------------------------------


async def create_pool(conninfo: str) -> AsyncConnectionPool:
    pool = AsyncConnectionPool(
        conninfo=conninfo,
        min_size=2,
        max_size=10,
    )
    await pool.open()
    return pool


def create_registry(pool: AsyncConnectionPool) -> HandlerRegistry:
    """Create registry and register all handlers."""
    # Create handler instances with dependencies
    order_handlers = OrderHandlers(pool)
    inventory_handlers = InventoryHandlers(pool)

    # Register handlers - decorator metadata is used for routing
    registry = HandlerRegistry()
    registry.register_instance(order_handlers)
    registry.register_instance(inventory_handlers)

    return registry


def create_worker(pool: AsyncConnectionPool, backoff: list[float]) -> Worker:
    """Create worker with retry policy."""
    registry = create_registry(pool)

    retry_policy = RetryPolicy(
        max_attempts=3,
        backoff_schedule=backoff,  # seconds between retries
    )

    return Worker(
        pool=pool,
        domain="orders",
        registry=registry,
        retry_policy=retry_policy,
        visibility_timeout=30,  # seconds before message redelivery
    )


async def run_worker(conninfo: str) -> None:
    """Main entry point."""
    pool = await create_pool(conninfo)
    try:
        worker = create_worker(pool, [10, 60, 300])
        await worker.run(
            concurrency=4,  # concurrent command handlers
            poll_interval=1.0,  # seconds between queue polls
        )
    finally:
        await pool.close()


# -- 4. Send Commands --------------------------------------------------------------------------------------------------


async def create_order(bus: CommandBus, order_data: dict) -> UUID:
    command_id = uuid4()

    await bus.send(
        domain="orders",
        command_type="CreateOrder",
        command_id=command_id,
        data=order_data,
        max_attempts=3,  # optional, overrides retry policy
    )

    return command_id


# -- and the rules it states -------------------------------------------------------------------------------------------


@pytest.fixture
async def bus(pool):
    bus = CommandBus(pool)
    yield bus
    await bus.close()


async def settled(bus, command_id):
    command = await bus.get_command("orders", command_id)
    return command if command.status not in ("PENDING", "IN_PROGRESS") else None


async def test_the_main_entry_point_handles_what_is_sent_until_it_is_cancelled(dsn, bus):
    command_id = await create_order(bus, {"total": 10})
    main = asyncio.create_task(run_worker(dsn))

    command = await eventually(lambda: settled(bus, command_id))
    main.cancel()
    with pytest.raises(asyncio.CancelledError):
        await main

    assert command.status.value == "COMPLETED"
    assert command.result == {"status": "created", "order_id": str(command_id)}


async def test_errors_decide_between_retry_and_troubleshooting(pool, bus):
    worker = create_worker(pool, [0.1])
    running = asyncio.create_task(worker.run(concurrency=4, poll_interval=1.0))
    declined, slow, cancelled = uuid4(), uuid4(), uuid4()
    await bus.send("orders", "ProcessPayment", declined, {"card": "declined"})
    await bus.send("orders", "ProcessPayment", slow, {"card": "slow"})
    await bus.send("orders", "CancelOrder", cancelled, {})

    first = await eventually(lambda: settled(bus, declined))
    second = await eventually(lambda: settled(bus, slow))
    third = await eventually(lambda: settled(bus, cancelled))
    await worker.stop(timeout=10)
    await running

    assert (first.status.value, first.attempts) == ("IN_TROUBLESHOOTING_QUEUE", 1)
    assert (first.last_error_code, first.last_error_msg) == ("PAYMENT_DECLINED", "card declined")
    assert (second.status.value, second.result) == ("COMPLETED", {"status": "paid", "transaction_id": "tx-1"})
    assert second.attempts > 1
    assert third.result == {"status": "cancelled"}
