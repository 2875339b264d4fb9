"""README, "Using Batches"."""

import asyncio
from uuid import UUID, uuid4

import pytest

from commandbus import BatchCommand, BatchMetadata, CommandBus, HandlerRegistry, Worker
from commandbus.exceptions import PermanentCommandError
from tests.support.waiting import eventually

printed: list[str] = []


def say(line: str) -> None:
    """The README prints."""
    printed.append(line)


async def process_monthly_billing(bus: CommandBus, accounts: list[dict]) -> UUID:
    """Create a batch of billing commands with completion callback."""

    # Define callback for when batch completes
    async def on_batch_complete(batch: BatchMetadata) -> None:
        say(f"Batch {batch.batch_id} finished:")
        say(f"  - Completed: {batch.completed_count}/{batch.total_count}")
        say(f"  - Failed: {batch.in_troubleshooting_count}")
        say(f"  - Status: {batch.status.value}")

    # Create batch with commands
    result = await bus.create_batch(
        domain="billing",
        commands=[
            BatchCommand(
                command_type="ProcessPayment",
                command_id=uuid4(),
                data={"account_id": acc["id"], "amount": acc["balance"]},
            )
            for acc in accounts
        ],
        name="Monthly billing - January 2026",
        on_complete=on_batch_complete,  # Called when all commands finish
    )

    say(f"Created batch {result.batch_id} with {result.total_commands} commands")
    return result.batch_id


async def monitor_batch(bus: CommandBus, batch_id: UUID) -> None:
    """Poll batch status for progress monitoring."""
    batch = await bus.get_batch("billing", batch_id)
    if batch:
        progress = (batch.completed_count + batch.in_troubleshooting_count) / batch.total_count
        say(f"Batch progress: {progress:.1%}")
        say(f"  Status: {batch.status.value}")
        say(f"  Completed: {batch.completed_count}")
        say(f"  In TSQ: {batch.in_troubleshooting_count}")


@pytest.fixture
async def bus(pool):
    printed.clear()
    bus = CommandBus(pool)
    yield bus
    await bus.close()


async def test_a_batch_tells_when_it_is_finished_and_how_it_stands(pool, bus):
    registry = HandlerRegistry()

    @registry.decorator("billing", "ProcessPayment")
    async def pay(cmd, ctx):
        if cmd.data["amount"] < 0:
            raise PermanentCommandError(code="NEGATIVE", message="nothing to pay")

    batch_id = await process_monthly_billing(bus, [{"id": n, "balance": n - 1} for n in range(4)])
    await monitor_batch(bus, batch_id)
    worker = Worker(pool=pool, domain="billing", registry=registry)
    running = asyncio.create_task(worker.run(concurrency=2))
    await eventually(lambda: f"Batch {batch_id} finished:" in printed)
    await monitor_batch(bus, batch_id)
    await worker.stop(timeout=10)
    await running

    assert printed == [
        f"Created batch {batch_id} with 4 commands",
        "Batch progress: 0.0%",
        "  Status: PENDING",
        "  Completed: 0",
        "  In TSQ: 0",
        f"Batch {batch_id} finished:",
        "  - Completed: 3/4",
        "  - Failed: 1",
        "  - Status: COMPLETED_WITH_FAILURES",
        "Batch progress: 100.0%",
        "  Status: COMPLETED_WITH_FAILURES",
        "  Completed: 3",
        "  In TSQ: 1",
    ]
