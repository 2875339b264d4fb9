"""What this room asks of a database.

One suite, `mainstay.testing.contracts.commands`, says whether an engine keeps it. `memory.MemoryCommandStore` is its
plainest reading; `mainstay.storage.postgres.commands` is the one that counts.

Every method is one transaction unless a caller's connection is given. Methods that take many commands treat each on its
own: one that cannot be served never spoils the rest, and the answer says so.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from mainstay.commands.actions import ActionStore
from mainstay.commands.batch_store import BatchStore
from mainstay.commands.breakers import BreakerStore
from mainstay.commands.command import AuditEvent, Command, CommandMetadata, OnConflict, SendResult, TroubleshootingItem
from mainstay.commands.conversation import ConversationStore
from mainstay.commands.failures import FailureStore
from mainstay.commands.gates import GateStore
from mainstay.commands.keys import KeyStore
from mainstay.commands.ledger import NewDecision
from mainstay.commands.lending import HandlingStore
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.replies import ReplyStore
from mainstay.errors import MainstayError, PoolExhaustedError

if TYPE_CHECKING:
    from mainstay.commands.process_store import ProcessStore
    from mainstay.commands.schedule import ScheduleStore

LONGEST_SLEEP = 30.0
"""Seconds after which a sleeping worker looks by itself and says again that it sleeps; stores remember it longer."""


@dataclass(slots=True)
class NewCommand:
    """A checked command on its way in. ``data`` and ``headers`` are JSON documents.

    Nobody changes it; it is not frozen only because that would make it five times as dear, and each send makes one.
    """

    domain: str
    command_type: str
    command_id: UUID
    data: bytes
    correlation_id: UUID
    max_attempts: int
    reply_to: str | None = None
    batch_id: UUID | None = None
    delay: float | None = None
    not_before: datetime | None = None
    headers: bytes | None = None
    skip_known: bool = False
    """A known id is no mistake: it was derived from what the command follows from. `Outcome.sends` regards it."""
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    on_conflict: OnConflict = OnConflict.REFUSE
    successor_of: UUID | None = None
    """The command being handled: it ends in the transaction that sends this, and its unique key may pass to this."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A checked batch on its way in. ``on_complete`` is sent, once, when every command has had its turn.

    One that is not ``sealed`` does not end before `CommandStore.seal_batch`, and takes chunks of a stream until then.
    """

    domain: str
    batch_id: UUID
    name: str | None
    custom_data: bytes | None
    on_complete: NewCommand | None
    parent_id: UUID | None = None
    sealed: bool = True


class WouldWaitError(MainstayError):
    """A command's id or unique key was sent by a transaction that is still open; nothing was stored."""


class NotBegunError(PoolExhaustedError):
    """No connection for a handler's transaction became free in time: nothing of the handler has run."""


class Refusal(StrEnum):
    """Why one command of a send was not taken."""

    DUPLICATE = "DUPLICATE"
    BATCH_NOT_FOUND = "BATCH_NOT_FOUND"
    QUEUE_NOT_FOUND = "QUEUE_NOT_FOUND"
    REPLY_QUEUE_NOT_FOUND = "REPLY_QUEUE_NOT_FOUND"


class NotUnique(NamedTuple):
    """Why one command of a send was not taken: this one holds its unique key."""

    holder_id: UUID


Answer: TypeAlias = SendResult | Refusal | NotUnique
"""What came of one command of a send. Of one that was skipped it is a result."""


class Lease(NamedTuple):
    """The right to finish a command: only the holder of the newest ``lease_no`` may.

    ``is_limited``: it passed a limit, so when it is finished another command may start. ``in_batch``: it belongs to a
    batch, which may be finished with it.
    """

    command_id: UUID
    msg_id: int
    lease_no: int
    is_limited: bool = False
    in_batch: bool = False


class Received(NamedTuple):
    """A command in a worker's hand.

    ``start_within``: a rate limit wants it started in so many seconds after it was asked for, or else given back.
    """

    command: Command[Any]
    lease: Lease
    attempt: int
    max_attempts: int
    start_within: float | None = None


class Loss(NamedTuple):
    """A command that its worker must stop handling: the lease went to another, or somebody asked for its end."""

    command_id: UUID
    is_canceled: bool
    """It is still the worker's: to be stopped and given back, and then it ends CANCELED."""


class Verb(StrEnum):
    """What a worker says of a command."""

    COMPLETE = "COMPLETE"
    FAIL = "FAIL"
    RETRY = "RETRY"
    TROUBLESHOOT = "TROUBLESHOOT"
    GIVE_BACK = "GIVE_BACK"


class Outcome(NamedTuple):
    """What became of a received command.

    Args:
        lease: As received.
        verb: COMPLETE with ``result``; FAIL: a business rule, final; RETRY after ``delay``; TROUBLESHOOT: an operator
            must look; GIVE_BACK: not started, the attempt is not counted.
        result: JSON document.
        error_type: TRANSIENT, PERMANENT or BUSINESS_RULE.
        error_code: Short, for grouping.
        error_message: For people.
        details: JSON document for the audit trail.
        delay: Seconds until a retry is due.
        exhausted: TROUBLESHOOT because the attempts are used up.
        sends: Sent with a COMPLETE that is applied, in its transaction.
        answers: The domain in which the reply to this command arrives as a command.
        decision: What was decided on an aggregate; kept with a COMPLETE or FAIL that is applied.
        position: Of the last event that the handler is known to have appended.
    """

    lease: Lease
    verb: Verb
    result: bytes | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    details: bytes | None = None
    delay: float = 0.0
    exhausted: bool = False
    sends: tuple[NewCommand, ...] = ()
    answers: str | None = None
    decision: NewDecision | None = None
    position: int | None = None


class Verdict(StrEnum):
    """What the store did with an outcome."""

    APPLIED = "APPLIED"
    REPEATED = "REPEATED"
    """This lease had finished the command already: the answer to a flush repeated after an unknown COMMIT."""
    STALE = "STALE"
    """Another lease holds the command; nothing changed but a STALE_REFUSED in its audit trail."""


class Action(StrEnum):
    """What an operator can do with a command in the troubleshooting queue."""

    RETRY = "RETRY"
    CANCEL = "CANCEL"
    COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """An operator's decision.

    ``data`` replaces the payload on RETRY, if it is still ``base`` (None: whatever it is); ``diff`` tells the audit
    trail what was edited; ``result`` is what COMPLETE replies; all JSON documents.
    """

    action: Action
    operator: str | None = None
    reason: str | None = None
    data: bytes | None = None
    result: bytes | None = None
    base: bytes | None = None
    diff: bytes | None = None


class ActionVerdict(NamedTuple):
    """What an operator's action came to.

    The status found, whether it was applied, the new message's id on RETRY, and under which id it was written down.
    """

    command_id: UUID
    applied: bool
    status: CommandStatus | None
    msg_id: int | None
    action_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands to list; None means any."""

    domain: str | None = None
    status: CommandStatus | None = None
    command_type: str | None = None
    batch_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    tenant_id: UUID | str | None = None
    correlation_id: UUID | None = None
    after: tuple[datetime, UUID, str] | None = None


@dataclass(frozen=True, slots=True)
class DomainStats:
    """The numbers of one domain."""

    domain: str
    by_status: dict[CommandStatus, int]
    ready: int
    in_flight: int
    deferred: int
    oldest_ready_seconds: float | None
    parked: int = 0
    breakers: int = 0
    keyed: int = 0
    """Commands that wait for the turn of their key."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something `fsck` found that must never be."""

    invariant: str
    domain: str | None
    command_id: UUID | None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in one domain: in the queue, for an operator, and for what a breaker holds to work again."""

    ready: int
    in_flight: int
    oldest_ready_seconds: float | None
    troubleshooting: int
    open_breakers: int = 0


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What `fsck` looked at and found, all in one snapshot."""

    commands: int
    checked: tuple[str, ...]
    findings: tuple[Finding, ...]
    events: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Wakeups(Protocol):
    """A worker's ear: told when there may be something to receive."""

    async def wait(self, timeout: float) -> bool:
        """Wait for a wake-up, at most ``timeout`` seconds; True if there was one."""
        ...

    def heard(self, payload: str) -> bool:
        """Whether one of the wake-ups since the last call said this: ``cancel``, there is something to stop."""
        ...


class LeaseKeeper(Protocol):
    """Renews leases from a thread of its own, so that a handler that blocks the event loop does not lose its lease."""

    def start(self) -> None:
        """Begin; does nothing if begun."""
        ...

    def stop(self) -> None:
        """End and wait; does nothing if not begun."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether it has begun and is at work."""
        ...

    def hurry(self) -> None:
        """Renew now: there may be something to stop."""
        ...


@runtime_checkable
class CommandStore(BatchStore, HandlingStore, FailureStore, ActionStore, ReplyStore, ConversationStore, Protocol):
    """Everything that commands ask of a database."""

    @property
    def gates(self) -> GateStore:
        """Pauses and limits of the same database."""
        ...

    @property
    def breakers(self) -> BreakerStore:
        """Breakers of the same database."""
        ...

    @property
    def keys(self) -> KeyStore:
        """The keys that commands share."""
        ...

    @property
    def schedules(self) -> "ScheduleStore":
        """The schedules of the same database."""
        ...

    @property
    def processes(self) -> "ProcessStore":
        """The same for processes."""
        ...

    # -- sending ------------------------------------------------------------------------------------------------------
    async def ensure_queue(self, domain: str) -> None:
        """Create the domain's queue if it is missing, on a connection of its own."""
        ...

    async def send(
        self, commands: Sequence[NewCommand], *, atomic: bool = False, patient: bool = True, conn: Any = None
    ) -> list[Answer]:
        """Put commands in, each PENDING with a SENT in its audit trail. Answers in the order given.

        Without a connection, sleeping workers are woken after the commit; with one, that is the caller's, see `wake`.
        With ``atomic``, if any is refused none is stored; the answers of the others then mean nothing. Without
        ``patient`` it may raise `WouldWaitError`, having stored nothing, instead of waiting for a transaction that
        sent one of the ids and is still open.
        """
        ...

    async def wake(self, domains: Sequence[str]) -> int:
        """Wake a sleeping worker for each time a domain is named.

        Call it after the commit. Returns how many were woken.
        """
        ...

    async def cancel(
        self, domain: str, command_id: UUID, *, reason: str | None, running: bool = False
    ) -> CommandStatus | None:
        """Cancel a pending command; with ``running`` ask for the end of one in progress, see `renew`.

        Returns the status found (PENDING: it was canceled), None if there is no such command.
        """
        ...

    # -- receiving ----------------------------------------------------------------------------------------------------
    async def receive(
        self, domain: str, *, limit: int, lease_seconds: float, worker: str, at_once: int | None = None
    ) -> list[Received]:
        """Lease up to ``limit`` commands, by priority, oldest first.

        On the way, those that are due, and those whose turn it is, are made ready.
        Of commands with limits at most ``at_once`` come, what can be started without waiting; those that may not
        start are parked. Where there are gates, an empty answer does not say that nothing is ready: `about_to_sleep`
        then says soon.
        """
        ...

    async def complete(self, domain: str, outcomes: Sequence[Outcome], *, conn: Any = None) -> list[Verdict]:
        """Write what became of commands, and send what goes with it; all of it in one transaction.

        Answers in the order given. Raises the error of a command to send that is refused, having written nothing;
        and may raise `WouldWaitError` instead of waiting for a transaction that takes the unique key of one.
        """
        ...

    async def report(self, domain: str, reports: Sequence[tuple[Lease, bytes]]) -> None:
        """Note how far commands are, each a JSON document; one whose lease is lost, or whose row is busy, is left."""
        ...

    async def renew(self, domain: str, leases: Sequence[Lease], lease_seconds: float) -> list[Loss]:
        """Extend leases. Returns the commands to stop."""
        ...

    def dedicated(self) -> AbstractAsyncContextManager[None]:
        """While a worker runs: it will receive and complete without pause, so connections may be kept for it."""
        ...

    async def about_to_sleep(self, domain: str, worker: str) -> float | None:
        """Ask to be woken. Returns seconds until there may be more to receive, None if only a wake-up can tell."""
        ...

    def wakeups(self, domain: str, worker: str) -> AbstractAsyncContextManager[Wakeups]:
        """Listen for wake-ups for this worker."""
        ...

    def lease_keeper(
        self,
        domain: str,
        leases: Callable[[], Sequence[Lease]],
        lost: Callable[[Sequence[Loss]], None],
        lease_seconds: float,
    ) -> LeaseKeeper:
        """What renews the leases that ``leases()`` names; ``lost`` is called from its thread."""
        ...

    # -- asking -------------------------------------------------------------------------------------------------------
    async def get(self, domain: str, command_id: UUID) -> CommandMetadata | None:
        """One command."""
        ...

    async def query(self, which: CommandFilter, *, limit: int, offset: int) -> list[CommandMetadata]:
        """Commands, newest first."""
        ...

    async def audit_trail(self, command_id: UUID, domain: str | None) -> list[AuditEvent]:
        """What happened to a command, in order."""
        ...

    async def stats(self, domain: str | None) -> list[DomainStats]:
        """Numbers by domain."""
        ...

    async def backlog(self, domain: str) -> Backlog:
        """What waits in a domain; quick, whatever has ended there."""
        ...

    async def fsck(self) -> FsckReport:
        """Look for what must never be, in one snapshot."""
        ...

    # -- troubleshooting ----------------------------------------------------------------------------------------------
    async def list_troubleshooting(
        self, domain: str | None, command_type: str | None, *, limit: int, offset: int
    ) -> list[TroubleshootingItem]:
        """Commands that wait for an operator, oldest first."""
        ...

    async def count_troubleshooting(self, domain: str | None, command_type: str | None) -> int:
        """How many there are."""
        ...

    async def act(self, domain: str, command_ids: Sequence[UUID], request: OperatorRequest) -> list[ActionVerdict]:
        """Carry out an operator's decision on commands in the troubleshooting queue; on the others nothing.

        Raises:
            ReasonRequiredError: The rules ask for one.
            ApprovalRequiredError: The rules ask for a second operator.
        """
        ...
