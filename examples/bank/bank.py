"""The bank, put together: who handles commands, who moves transfers, who keeps the views.

In production these would be processes of their own, `mainstay worker` and `mainstay projections run` among them, as
many of each as you like. Here they are tasks of one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from examples.bank import compliance, transfers, views
from examples.bank.domain import Account
from examples.bank.transfers import Transfer
from examples.bank.views import Accounts, Ledger
from mainstay import (
    HandlerRegistry,
    Mainstay,
    PostgreSQLEventStore,
    SubscriptionConfig,
    SubscriptionManager,
    register_processes,
    setup_database,
)

DOMAINS = "accounts", "transfers", "compliance"
LEASE = 3.0
"""Seconds after which others go on with what a process had in hand that was killed; 30 unless given."""


@dataclass(frozen=True)
class Bank:
    """What the story and the interface work with."""

    app: Mainstay
    views: SubscriptionManager
    transfer: Transfer


def handlers(transfer: Transfer) -> HandlerRegistry:
    """Who handles what: the decider its commands, the process the replies to its steps, a function the reports."""
    registry = HandlerRegistry()
    registry.register_decider(domain="accounts", decider=Account)
    register_processes(registry, transfer)
    registry.add(compliance.report)
    return registry


@asynccontextmanager
async def open_bank(dsn: str, *, patience: timedelta = timedelta(minutes=1)) -> AsyncIterator[Bank]:
    """A bank at work, until the end of the block.

    Args:
        dsn: Of any PostgreSQL; mainstay's schema and the bank's tables are made there if they are missing.
        patience: How long a transfer waits for its money to be taken.
    """
    transfer = Transfer(patience)
    registry = handlers(transfer)
    async with Mainstay.connect(dsn, check_schema=False, max_size=20) as app:
        await setup_database(app.pool)
        async with app.pool.connection() as conn:
            for tables in (transfers.TABLES, compliance.TABLES, views.TABLES):
                await conn.execute(tables)
        shown = SubscriptionManager(PostgreSQLEventStore(app.pool))
        for projection in (Accounts(), Ledger()):
            await shown.subscribe(projection, SubscriptionConfig(lease=LEASE))
        workers = [app.worker(domain, registry, visibility_timeout=LEASE) for domain in DOMAINS]
        async with shown, asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(worker.run())
            try:
                yield Bank(app, shown, transfer)
            finally:
                for worker in workers:
                    await worker.stop()
