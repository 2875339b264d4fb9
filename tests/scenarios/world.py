"""A small world for tests of workers: a store, a bus, handlers, workers, and what became of commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AuditEventType,
    CommandBus,
    CommandMetadata,
    CommandStatus,
    HandlerRegistry,
    RetryPolicy,
    TroubleshootingQueue,
    Worker,
)
from mainstay.commands.lifecycle import AUDIT_PATH, TERMINAL
from mainstay.commands.store import CommandFilter, CommandStore
from tests.support.waiting import eventually

DOMAIN = "orders"
REPLIES = "order_replies"
AT_ONCE = RetryPolicy(backoff_schedule=[0.01], jitter=0)
SETTLED = TERMINAL | {CommandStatus.IN_TROUBLESHOOTING_QUEUE}
PATIENCE = 90.0
"""Seconds that something may take which takes milliseconds on an idle machine."""


class World:
    """Everything that a test of workers needs.

    Args:
        store: Where commands live.
    """

    def __init__(self, store: CommandStore) -> None:
        self.store = store
        self.bus = CommandBus(store)
        self.tsq = TroubleshootingQueue(store)
        self.registry = HandlerRegistry()
        self.handles = self.registry.decorator

    def worker(self, domain: str = DOMAIN, **options: Any) -> Worker:
        return Worker(
            self.store, domain, self.registry, **{"retry_policy": AT_ONCE, "visibility_timeout": 30, **options}
        )

    @asynccontextmanager
    async def working(
        self, worker: Worker | None = None, *, concurrency: int = 4, poll_interval: float = 0.2, **options: Any
    ) -> AsyncIterator[Worker]:
        """A worker that runs for the length of a block, and must end well."""
        worker = worker or self.worker(**options)
        task = asyncio.create_task(worker.run(concurrency, poll_interval))
        try:
            await eventually(lambda: worker.is_running or task.done())
            yield worker
        finally:
            async with asyncio.timeout(PATIENCE):
                await worker.stop(timeout=10)
                await task

    async def send(self, command_type: str = "Do", data: dict[str, Any] | None = None, **options: Any) -> UUID:
        command_id = options.pop("command_id", None) or uuid4()
        domain = options.pop("domain", DOMAIN)
        result = await self.bus.send(domain, command_type, command_id, data or {}, **options)
        return result.command_id

    async def known(self, command_id: UUID, domain: str = DOMAIN) -> CommandMetadata:
        found = await self.bus.get_command(domain, command_id)

        assert found is not None
        return found

    async def settled(self, *command_ids: UUID, domain: str = DOMAIN, timeout: float = PATIENCE) -> CommandMetadata:
        """Wait until the commands have ended or wait for an operator; the last of them."""
        found: list[CommandMetadata] = []

        async def look() -> bool:
            found[:] = [await self.known(command_id, domain) for command_id in command_ids]
            return all(one.status in SETTLED for one in found)

        await eventually(look, timeout=timeout, what="commands are settled")
        return found[-1]

    async def settled_after(self, *command_ids: UUID) -> CommandMetadata:
        """Work until the commands have ended or wait for an operator; the last of them."""
        async with self.working():
            return await self.settled(*command_ids)

    async def status(self, command_id: UUID) -> CommandStatus:
        return (await self.known(command_id)).status

    async def events(self, command_id: UUID) -> list[AuditEventType]:
        return [event.event_type for event in await self.bus.get_audit_trail(command_id, DOMAIN)]

    async def is_sound(self) -> None:
        """Nothing is as it must never be."""
        report = await self.store.fsck()

        assert report.findings == ()
        for command in await self.store.query(CommandFilter(), limit=10_000, offset=0):
            status: CommandStatus | None = None
            for event in await self.store.audit_trail(command.command_id, command.domain):
                status = AUDIT_PATH[status, event.event_type]
            assert status is command.status


class WorldSuite:
    """What every suite on a `World` needs: a store, and soundness at the end."""

    @pytest.fixture
    async def store(self) -> CommandStore:
        raise NotImplementedError

    async def create_queue(self, store: Any, name: str) -> None:
        raise NotImplementedError

    async def replies(self, store: Any, queue: str) -> list[dict[str, Any]]:
        """The messages in a reply queue, oldest first."""
        raise NotImplementedError

    @pytest.fixture
    async def world(self, store: CommandStore) -> AsyncIterator[World]:
        world = World(store)
        await store.ensure_queue(DOMAIN)
        await self.create_queue(store, REPLIES)
        yield world
        await world.bus.close()
        await world.is_sound()
