"""A bus with one of everything that a console shows, in whatever words a test likes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from mainstay import (
    BatchCommand,
    BusinessRuleException,
    CommandStatus,
    HandlerRegistry,
    PermanentCommandError,
    PostgreSQLEventStore,
    SendRequest,
    StreamId,
    SubscriptionManager,
    Worker,
)
from mainstay.commands.failures import Selection
from mainstay.commands.store import Action
from mainstay.operations.operator import Operator
from mainstay.projections.store import ShardStatus
from tests.scenarios.processes import Buy, Purchase
from tests.support.projected_accounts import QUICK, TABLES, AmountPaid, Apart, Strict
from tests.support.waiting import eventually

DOMAIN, QUIET = "shop", "quiet"
FINGERPRINT = "0123456789ab"


@dataclass(frozen=True, slots=True)
class Words:
    """What things are called, and what they say.

    Args:
        name: Where a name is wanted: printable, 50 characters at most.
        text: Where any text will do.
        data: More of a payload.
    """

    name: str = "Plain"
    text: str = "it is broken"
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ConsoleWorld:
    """What there is.

    Args:
        broken: A command that waits for an operator.
        done: One that is completed.
        refused: One that a business rule refused.
        waiting: One that nobody handles.
        batch: A batch of two.
        process: A process that waits for a reply.
        schedule: A schedule's name.
        command_type: Of `broken`; it has a limit and a breaker, and is paused.
        account: The id of a stream of `PaidAccount`, whose events two projections could not handle.
        tenant: Whose `done` is.
        event_id: An event of the stream.
        action: A decision of an operator on one command.
    """

    broken: UUID
    done: UUID
    refused: UUID
    waiting: UUID
    batch: UUID
    process: UUID
    schedule: str
    command_type: str
    account: str
    tenant: str
    event_id: UUID
    action: UUID

    def values(self) -> dict[str, Any]:
        """What is there, by the names that paths and operations have for it."""
        return {
            "domain": DOMAIN,
            "command_type": self.command_type,
            "command_id": self.broken,
            "command_ids": [str(self.broken)],
            "asked": self.broken,
            "batch_id": self.batch,
            "process_id": self.process,
            "name": self.schedule,
            "subscription": "apart",
            "category": "PaidAccount",
            "stream_id": self.account,
            "tenant_id": self.tenant,
            "event_id": self.event_id,
            "position": 1,
            "action_id": self.action,
            "fingerprint": FINGERPRINT,
            "decision": "retry",
            "part": "dashboard",
            "reason": "why not",
        }


async def settle(pool: Any, words: Words | None = None, *, project: bool = True) -> ConsoleWorld:
    """Make one of everything; without projections, which would go through all events, if told so."""
    said = words or Words()
    operator = Operator(pool)
    try:
        made = await _settled(pool, operator, said)
    finally:
        await operator.bus.close()
    if project:
        await _projected(pool)
    return made


async def _settled(pool: Any, operator: Operator, said: Words) -> ConsoleWorld:
    account, tenant, bus = f"ann {said.name}", f"tenant {said.name}", operator.bus
    types = {each: f"{each} {said.name}" for each in ("Bad", "Good", "Refused", "Later")}
    data = {said.text: said.text, "mail": "secret@example.org", **(said.data or {})}
    ids = {each: uuid4() for each in types}
    await operator.send(
        [
            SendRequest(DOMAIN, types["Bad"], ids["Bad"], data, tenant_id=tenant, actor_id=f"actor {said.name}"),
            SendRequest(DOMAIN, types["Good"], ids["Good"], data, tenant_id=tenant, headers={"said": said.text}),
            SendRequest(DOMAIN, types["Refused"], ids["Refused"], data, key=f"key {said.name}"),
            SendRequest(QUIET, types["Later"], ids["Later"], data, unique_key=f"unique {said.name}", priority=3),
            SendRequest(QUIET, types["Later"], uuid4(), data, delay=3600.0),
            SendRequest(QUIET, types["Bad"], uuid4(), data),  # a limit, a pause and a breaker are of its type
        ]
    )
    given_up = await bus.send(DOMAIN, types["Bad"], uuid4(), data)
    batch = await bus.create_batch(
        DOMAIN,
        [BatchCommand(types["Good"], uuid4(), data), BatchCommand(types["Bad"], uuid4(), data)],
        name=f"batch {said.name}",
        custom_data=data,
    )
    await _handled(pool, operator, said)
    one = Selection(domain=DOMAIN, command_ids=(given_up.command_id,))
    decided = await operator.resolve(Action.CANCEL, one, operator="Olga", reason=said.text)
    schedule = f"nightly {said.name}"
    await operator.schedules.set(schedule, QUIET, types["Later"], data, cron="30 2 * * *")
    await operator.limits.set(QUIET, types["Bad"], max_running=5)
    await operator.breakers.set(QUIET, types["Bad"], operator="Olga")
    await operator.breakers.force_open(QUIET, types["Bad"], FINGERPRINT, operator="Olga", reason=said.text)
    await operator.pause(QUIET, types["Bad"], operator="Olga", reason=said.text)
    process = await operator.processes.start(Buy(), Purchase(article=said.text))
    store = PostgreSQLEventStore(pool)
    events = [AmountPaid(amount=1), AmountPaid(amount=-2), AmountPaid(amount=3)]
    await store.append(StreamId("PaidAccount", account), events)
    await store.append(StreamId("PaidAccount", account, tenant), [AmountPaid(amount=1)])
    return ConsoleWorld(
        ids["Bad"], ids["Good"], ids["Refused"], ids["Later"], batch.batch_id, process, schedule, types["Bad"],
        account, tenant, events[0].event_id, decided.action.action_id,
    )  # fmt: skip


def handlers(said: Words) -> HandlerRegistry:
    """Of the commands in `DOMAIN`: one fails for good, one is refused, one is completed."""
    registry = HandlerRegistry()

    @registry.handler(DOMAIN, f"Bad {said.name}")
    async def bad(_command: Any, _context: Any) -> None:
        raise PermanentCommandError(f"BROKEN {said.name}", said.text)

    @registry.handler(DOMAIN, f"Good {said.name}")
    async def good(_command: Any, _context: Any) -> dict[str, Any]:
        return {"mail": "x@example.org", "said": said.text}

    @registry.handler(DOMAIN, f"Refused {said.name}")
    async def refused(_command: Any, _context: Any) -> None:
        raise BusinessRuleException(f"REFUSED {said.name}", said.text)

    return registry


async def _handled(pool: Any, operator: Operator, said: Words) -> None:
    """Let a worker come to the end of what can be handled."""

    async def ended() -> bool:
        by_status = (await operator.stats(DOMAIN))[0].by_status
        return by_status.get(CommandStatus.IN_TROUBLESHOOTING_QUEUE) == 3 and by_status[CommandStatus.COMPLETED] == 2

    worker = Worker(pool, DOMAIN, handlers(said))
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05))
    try:
        await eventually(ended)
    finally:
        await worker.stop()
        await running


async def _projected(pool: Any) -> None:
    """Run two projections until one has dead letters and the other has stopped."""
    async with pool.connection() as conn:
        await conn.execute(TABLES)
    manager = SubscriptionManager(PostgreSQLEventStore(pool))
    await manager.subscribe(Apart(), QUICK)
    await manager.subscribe(Strict(), QUICK)
    store = Operator(pool).projections.store
    end = (await PostgreSQLEventStore(pool).horizon()).position

    async def done() -> bool:
        states = await store.states()
        ended = [each.checkpoint.position == end or each.status is ShardStatus.STOPPED for each in states]
        return len(ended) == 2 and all(ended)

    async with manager:
        await eventually(done)
