"""What the parts of the suite share.

The hooks that a subclass gives, the words that the tests are written in, and the check after each test.
"""

# ruff: noqa: S101 - asserts are what a contract is made of

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from mainstay.commands.command import CommandMetadata, SendResult
from mainstay.commands.lifecycle import AUDIT_PATH, AuditEventType, CommandStatus
from mainstay.commands.store import (
    Action,
    CommandFilter,
    CommandStore,
    NewCommand,
    OperatorRequest,
    Outcome,
    Received,
    Verb,
    Verdict,
)
from mainstay.serialization import to_json
from mainstay.testing.waiting import pause

T = TypeVar("T")

DOMAIN = "orders"
REPLIES = "order_replies"
LEASE = 30.0
EVERYTHING = 10_000
PATIENCE = 90.0
"""Seconds, by the real clock, to wait for something."""

#: What a worker says with each verb, as `Outcome` fields.
SAYING: dict[Verb, dict[str, Any]] = {
    Verb.COMPLETE: {"result": b'{"ok":true}'},
    Verb.FAIL: {"error_type": "BUSINESS_RULE", "error_code": "NO_CREDIT", "error_message": "the limit is reached"},
    Verb.RETRY: {"error_type": "TRANSIENT", "error_code": "TIMEOUT", "error_message": "no answer", "delay": 60.0},
    Verb.TROUBLESHOOT: {"error_type": "PERMANENT", "error_code": "BAD_DATA", "error_message": "no such customer"},
    Verb.GIVE_BACK: {},
}


def new(**changes: Any) -> NewCommand:
    """A command as the bus would hand it over. ``data`` may be a value; everything else as in `NewCommand`."""
    fields: dict[str, Any] = {
        "domain": DOMAIN,
        "command_type": "CreateOrder",
        "command_id": uuid4(),
        "data": {"n": 1},
        "correlation_id": uuid4(),
        "max_attempts": 3,
    }
    fields |= changes
    return NewCommand(**fields | {"data": to_json(fields["data"])})


def saying(received: Received, verb: Verb, **changes: Any) -> Outcome:
    """What a worker says of a command."""
    return Outcome(received.lease, verb, **SAYING[verb] | changes)


class _OnPurposeError(Exception):
    """Ends a transaction."""


@asynccontextmanager
async def rolled_back(store: CommandStore) -> AsyncIterator[Any]:
    """A transaction whose block, at its end, raises."""
    with suppress(_OnPurposeError):
        async with store.transaction() as tx:
            yield tx
            raise _OnPurposeError


class CommandStoreSuite:
    """Hooks, words and the check after each test."""

    # -- hooks --------------------------------------------------------------------------------------------------------
    @pytest.fixture
    async def store(self) -> CommandStore:
        """The store under test, with nothing in it."""
        raise NotImplementedError

    async def create_queue(self, store: Any, name: str) -> None:
        """Create a queue for replies."""
        raise NotImplementedError

    async def replies(self, store: Any, queue: str) -> list[dict[str, Any]]:
        """The messages in a reply queue, oldest first, without taking them out."""
        raise NotImplementedError

    async def messages(self, store: Any, domain: str) -> list[dict[str, Any]]:
        """The messages in a domain's queue, oldest first, leased or not, without taking them out."""
        raise NotImplementedError

    async def expire_leases(self, store: Any) -> None:
        """Let every lease that is held now be over."""
        raise NotImplementedError

    async def make_due(self, store: Any) -> None:
        """Let every deferred command be due."""
        raise NotImplementedError

    def pass_time(self, store: Any) -> None:
        """Let some time pass, less than a second. A server's clock moves by itself while it is asked."""

    # -- around each test ---------------------------------------------------------------------------------------------
    @pytest.fixture(autouse=True)
    async def sound(self, store: CommandStore) -> AsyncIterator[None]:
        """A domain and a reply queue before; after it, nothing that must never be."""
        await store.ensure_queue(DOMAIN)
        await self.create_queue(store, REPLIES)
        yield
        report = await store.fsck()
        commands = await store.query(CommandFilter(), limit=EVERYTHING, offset=0)

        assert report.findings == ()
        assert report.checked
        assert report.commands == len(commands)
        for command in commands:
            await self._check_trail(store, command)

    async def _check_trail(self, store: CommandStore, command: CommandMetadata) -> None:
        trail = await store.audit_trail(command.command_id, command.domain)
        status: CommandStatus | None = None
        for event in trail:
            status = AUDIT_PATH[status, event.event_type]

        assert status is command.status
        assert [event.audit_id for event in trail] == sorted({event.audit_id for event in trail})

    # -- words --------------------------------------------------------------------------------------------------------
    async def eventually(self, store: CommandStore, ask: Callable[[], Awaitable[T]]) -> T:
        """The first answer that is not empty; fails if there is none for too long."""
        async with asyncio.timeout(PATIENCE):
            while not (answer := await ask()):
                self.pass_time(store)
                await pause()
        return answer

    async def sent(self, store: CommandStore, *commands: NewCommand) -> list[UUID]:
        """Send commands that must be taken; their ids."""
        answers = await store.send(commands or [new()])

        assert all(isinstance(answer, SendResult) for answer in answers), answers
        return [answer.command_id for answer in answers if isinstance(answer, SendResult)]

    async def received(
        self, store: CommandStore, *, limit: int = 100, lease: float = LEASE, worker: str = "w1"
    ) -> list[Received]:
        """Receive from the usual domain."""
        return await store.receive(DOMAIN, limit=limit, lease_seconds=lease, worker=worker)

    async def in_hand(self, store: CommandStore, **changes: Any) -> Received:
        """Send a command and receive it; the queue must be empty before."""
        (command_id,) = await self.sent(store, new(**changes))
        (received,) = await self.received(store)

        assert received.command.command_id == command_id
        return received

    async def say(self, store: CommandStore, received: Received, verb: Verb, **changes: Any) -> Verdict:
        """Complete one command."""
        (verdict,) = await store.complete(DOMAIN, [saying(received, verb, **changes)])
        return verdict

    async def troubled(self, store: CommandStore, **changes: Any) -> UUID:
        """Bring a new command into the troubleshooting queue; the queue must be empty before."""
        received = await self.in_hand(store, **changes)

        assert await self.say(store, received, Verb.TROUBLESHOOT) is Verdict.APPLIED
        return received.command.command_id

    async def operate(self, store: CommandStore, action: Action, command_id: UUID, **request: Any) -> bool:
        """An operator's action on one command; whether it was applied."""
        asked = OperatorRequest(action, **{"operator": "ada", "reason": "seen to"} | request)
        (verdict,) = await store.act(DOMAIN, [command_id], asked)
        return verdict.applied

    async def known(self, store: CommandStore, command_id: UUID) -> CommandMetadata:
        """What the store knows of a command that must exist."""
        found = await store.get(DOMAIN, command_id)

        assert found is not None
        return found

    async def status(self, store: CommandStore, command_id: UUID) -> CommandStatus:
        """Where a command stands."""
        return (await self.known(store, command_id)).status

    async def events(self, store: CommandStore, command_id: UUID) -> list[AuditEventType]:
        """The kinds of events in an audit trail, in order."""
        return [event.event_type for event in await store.audit_trail(command_id, DOMAIN)]

    async def told(self, store: CommandStore, command_id: UUID, event_type: AuditEventType) -> dict[str, Any]:
        """The details of the last event of a kind."""
        found = [event for event in await store.audit_trail(command_id, DOMAIN) if event.event_type is event_type]
        return found[-1].details or {}
