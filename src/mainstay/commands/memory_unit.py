"""What the memory store holds, and how one transaction changes it.

A `Unit` is a transaction: it works on copies, nothing shows outside before `Unit.commit`, and a commit is one step of
the event loop, so it happens wholly or not at all. What a unit has touched it claims; others wait for its end, as they
would for a row lock, and whoever receives or renews passes claimed commands by, as ``SKIP LOCKED`` does. Two units that
wait for each other wait for ever: there is no deadlock detector here, so commands are claimed in one sorted order.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID, uuid5

import orjson

from mainstay.clock import Clock
from mainstay.commands.actions import OperatorRules
from mainstay.commands.carried import ACTOR, CAUSATION, TENANT
from mainstay.commands.command import AuditEvent
from mainstay.commands.ledger import NewDecision
from mainstay.commands.lifecycle import TERMINAL, AuditEventType, BatchStatus, CommandStatus, ReplyOutcome
from mainstay.commands.process import ProcessEvent, ProcessMetadata
from mainstay.commands.store import NewBatch, NewCommand
from mainstay.message import COMMANDS_SUFFIX

Key: TypeAlias = tuple[str, UUID]
"""Domain and id, of a command or of a batch."""
Claimable: TypeAlias = Key | tuple[str, str]
"""What a unit can claim: a command or a batch, or, as `claimed_by` names it, a unique key."""


def as_value(document: bytes | None) -> Any:
    """The value of a JSON document; None for none. A new one each time: nobody can change what is stored."""
    return None if document is None else orjson.loads(document)


def reply_id(answered: NewCommand) -> UUID:
    """The id of the command that a reply is."""
    return uuid5(answered.command_id, "Reply")


def headers_after(answered: NewCommand) -> dict[str, Any]:
    """The headers of a command that follows from another: that is its cause, and it is in the same name."""
    said = as_value(answered.headers) or {}
    carried = {name: said[name] for name in (TENANT, ACTOR) if said.get(name) is not None}
    return {CAUSATION: str(answered.command_id)} | carried


def claimed_by(commands: Iterable[NewCommand]) -> Iterable[Claimable]:
    """What must be claimed to send commands: their ids and their unique keys."""
    for new in commands:
        yield new.domain, new.command_id
        if new.unique_key is not None:
            yield f"{new.domain}/unique", new.unique_key  # no domain has a slash


class UniqueClaim(NamedTuple):
    """Who holds a unique key, and until when though completed."""

    command_id: UUID
    held_until: datetime | None


@dataclass(slots=True)
class Row:
    """A command. In its queue by ``msg_id``, deferred by ``due_at``, ``parked``; else, if PENDING, in line."""

    new: NewCommand
    seq: int
    created_at: datetime
    updated_at: datetime
    data: bytes = b"{}"
    status: CommandStatus = CommandStatus.PENDING
    attempts: int = 0
    msg_id: int | None = None
    ready_since: datetime | None = None
    due_at: datetime | None = None
    parked: str | None = None
    held_by: str | None = None
    place: int = 0
    lease_no: int = 0
    lease_until: datetime | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    result: bytes | None = None
    cancel_request: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    position: int | None = None

    @property
    def key(self) -> Key:
        """Domain and id."""
        return self.new.domain, self.new.command_id

    @property
    def in_line(self) -> bool:
        """Whether it waits for the turn of its key."""
        waits = self.status is CommandStatus.PENDING and self.msg_id is None and self.due_at is None
        return waits and self.new.key is not None and self.parked is None

    def message(self) -> dict[str, Any]:
        """What stands in the queue."""
        message: dict[str, Any] = {
            "domain": self.new.domain,
            "command_type": self.new.command_type,
            "command_id": str(self.new.command_id),
            "correlation_id": str(self.new.correlation_id),
            "data": as_value(self.data),
        }
        return message | ({"reply_to": self.new.reply_to} if self.new.reply_to else {})

    def move(self, status: CommandStatus) -> None:
        """Change the status, and leave the queue if it says so."""
        self.status = status
        self.lease_until = None
        if status in TERMINAL or status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
            self.msg_id = self.ready_since = self.due_at = self.parked = self.held_by = None


@dataclass(slots=True)
class Item:
    """One command of an operator's action, and what is needed to take its retry back."""

    domain: str
    command_id: UUID
    state: str = "WAITING"
    before: Row | None = None
    lease_no: int | None = None

    @property
    def key(self) -> Key:
        """Domain and id."""
        return self.domain, self.command_id


@dataclass(slots=True)
class BatchRow:
    """A batch; its counts are counted when asked for."""

    new: NewBatch
    seq: int
    created_at: datetime
    status: BatchStatus = BatchStatus.PENDING
    started_at: datetime | None = None
    completed_at: datetime | None = None
    sealed: bool = True

    @property
    def key(self) -> Key:
        """Domain and id."""
        return self.new.domain, self.new.batch_id


@dataclass(slots=True)
class State:
    """Everything that was committed."""

    clock: Clock
    domains: set[str] = field(default_factory=set)
    replies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rows: dict[Key, Row] = field(default_factory=dict)
    batches: dict[Key, BatchRow] = field(default_factory=dict)
    members: dict[Key, list[Key]] = field(default_factory=dict)
    queues: dict[str, dict[int, Key]] = field(default_factory=dict)
    deferred: dict[str, set[Key]] = field(default_factory=dict)
    heads: dict[tuple[str, str], Key] = field(default_factory=dict)
    parked: dict[str, set[Key]] = field(default_factory=dict)
    audit: dict[UUID, list[AuditEvent]] = field(default_factory=dict)
    claims: dict[Claimable, "Unit"] = field(default_factory=dict)
    processes: dict[UUID, ProcessMetadata] = field(default_factory=dict)
    process_done: dict[UUID, tuple[int, ...]] = field(default_factory=dict)
    process_audit: list[ProcessEvent] = field(default_factory=list)
    unique: dict[tuple[str, str], UniqueClaim] = field(default_factory=dict)
    actions: dict[UUID, Any] = field(default_factory=dict)
    decisions: dict[Key, tuple[datetime, NewDecision]] = field(default_factory=dict)
    rules: OperatorRules = field(default_factory=OperatorRules)
    answered_again: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiters: dict[Key, set[str]] = field(default_factory=dict)
    bells: dict[str, Callable[[], None]] = field(default_factory=dict)
    audit_count: int = 0
    sequence: int = 0

    def takes_replies(self, queue: str) -> bool:
        """Whether a queue takes replies: one made for them, or that of a domain's commands."""
        return queue in self.replies or queue.removesuffix(COMMANDS_SUFFIX) in self.domains

    def next(self) -> int:
        """A number that only grows; like a sequence's, not given back by a rollback."""
        self.sequence += 1
        return self.sequence

    def tell(self, ended: Key) -> None:
        """Ring those who wait for a command's end."""
        for waiter in self.waiters.pop(ended, ()):
            if waiter in self.bells:
                self.bells[waiter]()

    def of_batch(self, batch: Key) -> list[Row]:
        """The commands of a batch."""
        return [self.rows[key] for key in self.members.get(batch, [])]


class Unit:
    """One transaction."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.now = state.clock.now()
        self.ended = asyncio.Event()
        self._rows: dict[Key, Row] = {}
        self._batches: dict[Key, BatchRow] = {}
        self._audit: list[AuditEvent] = []
        self._unique: dict[tuple[str, str], UniqueClaim] = {}
        self._claimed: set[Claimable] = set()
        self.at_commit: list[Callable[[], None]] = []
        """What else becomes visible with it."""

    # -- reading and writing ------------------------------------------------------------------------------------------
    async def claim(self, keys: Iterable[Claimable]) -> None:
        """Wait until no other unit holds these, and hold them until the end."""
        for key in sorted(set(keys), key=str):
            while (holder := self.state.claims.get(key, self)) is not self:
                await holder.ended.wait()
            self.state.claims[key] = self
            self._claimed.add(key)
        self.now = max(self.now, self.state.clock.now())

    def claimed_elsewhere(self, key: Key) -> bool:
        """Whether another unit holds it."""
        return self.state.claims.get(key, self) is not self

    def row(self, key: Key) -> Row | None:
        """A command as this unit sees it, to read."""
        return self._rows.get(key) or self.state.rows.get(key)

    def written(self) -> Iterable[Key]:
        """The commands that this unit has written to."""
        return self._rows.keys()

    def write(self, row: Row) -> Row:
        """A command to write to: a copy of this unit's own until the commit."""
        mine = self._rows.setdefault(row.key, replace(row))
        mine.updated_at = self.now
        return mine

    def add(self, row: Row) -> None:
        """A new command."""
        self._rows[row.key] = row

    def unique(self, name: tuple[str, str]) -> UniqueClaim | None:
        """Who last took a unique key of a domain."""
        return self._unique.get(name) or self.state.unique.get(name)

    def take_unique(self, name: tuple[str, str], claim: UniqueClaim) -> None:
        """Give a unique key to a command."""
        self._unique[name] = claim

    def batch(self, key: Key) -> BatchRow | None:
        """A batch as this unit sees it, to read."""
        return self._batches.get(key) or self.state.batches.get(key)

    def write_batch(self, batch: BatchRow) -> BatchRow:
        """A batch to write to: a copy of this unit's own until the commit."""
        return self._batches.setdefault(batch.key, replace(batch))

    def add_batch(self, batch: BatchRow) -> None:
        """A new batch."""
        self._batches[batch.key] = batch

    def audit(self, key: Key, event: AuditEventType, **details: Any) -> None:
        """A line of the audit trail, numbered at the commit."""
        told = {name: value for name, value in details.items() if value is not None}
        self._audit.append(AuditEvent(0, key[0], key[1], event, self.now, told or None))

    def decide(self, key: Key, decision: NewDecision) -> None:
        """What was decided on a command that ends here."""
        entry = self.now, decision
        self.at_commit.append(lambda: self.state.decisions.update({key: entry}))

    def reply_again(self, row: Row, reply_to: str) -> None:
        """The answer to a command that has ended, for somebody who sent it again."""
        asked = replace(row, new=replace(row.new, reply_to=reply_to))
        success = row.status is CommandStatus.COMPLETED
        if not reply_to.endswith(COMMANDS_SUFFIX):
            self.state.answered_again.update([(reply_to, str(row.new.command_id))])
        elif self.row((reply_to.removesuffix(COMMANDS_SUFFIX), reply_id(row.new))) is not None:
            return
        self.reply(asked, ReplyOutcome.SUCCESS if success else ReplyOutcome(row.status.value))

    def reply(self, row: Row, outcome: ReplyOutcome) -> None:
        """The answer to a command, if it asked for one."""
        if row.new.reply_to is None:
            return
        failed = outcome is not ReplyOutcome.SUCCESS
        message = {
            "command_id": str(row.new.command_id),
            "correlation_id": str(row.new.correlation_id),
            "outcome": outcome.value,
            "data": as_value(row.result),
            "error_code": row.error_code if failed else None,
            "error_message": row.error_message if failed else None,
        } | ({} if row.position is None else {"position": row.position})
        if row.new.reply_to.endswith(COMMANDS_SUFFIX):
            self._reply_as_command(row, orjson.dumps(message))
        else:
            queue = self.state.replies[row.new.reply_to]
            self.at_commit.append(lambda: queue.append(message))

    def _reply_as_command(self, row: Row, message: bytes) -> None:
        new = NewCommand(
            domain=(row.new.reply_to or "").removesuffix(COMMANDS_SUFFIX),
            command_type="Reply",
            command_id=reply_id(row.new),
            data=message,
            correlation_id=row.new.correlation_id,
            max_attempts=10,
            headers=orjson.dumps(headers_after(row.new)),
        )
        answer = Row(new, self.state.next(), created_at=self.now, updated_at=self.now, data=message)
        self.enqueue(answer)
        self.add(answer)
        self.audit(answer.key, AuditEventType.SENT, command_type="Reply")

    def enqueue(self, row: Row) -> None:
        """Give a command a place in its queue; one that was parked has its old place again."""
        row.msg_id = row.place if row.parked else self.draw(row)
        row.ready_since, row.due_at, row.parked = self.now, None, None

    def draw(self, row: Row) -> int:
        """The place that a command gets in its queue: by its priority, behind what is there."""
        return self.state.next() - row.new.priority * 10**15

    # -- ending -------------------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Make it all visible at once."""
        state = self.state
        for key, row in self._rows.items():
            before = state.rows.get(key)
            queue, deferred = state.queues.setdefault(key[0], {}), state.deferred.setdefault(key[0], set())
            if before is not None and before.msg_id is not None:
                queue.pop(before.msg_id, None)
            if row.msg_id is not None:
                queue[row.msg_id] = key
            if row.due_at is None:
                deferred.discard(key)
            else:
                deferred.add(key)
            parked = state.parked.setdefault(key[0], set())
            if row.parked is None:
                parked.discard(key)
            else:
                parked.add(key)
            if before is None and row.new.batch_id is not None:
                state.members.setdefault((key[0], row.new.batch_id), []).append(key)
            state.rows[key] = row
            if row.status in TERMINAL:
                state.tell(key)
            self._turn(row)
        state.batches.update(self._batches)
        state.unique.update(self._unique)
        for event in self._audit:
            state.audit_count += 1
            trail = state.audit.setdefault(event.command_id, [])
            trail.append(replace(event, audit_id=state.audit_count))
        for also in self.at_commit:
            also()
        self.end()

    def _turn(self, row: Row) -> None:
        """A command with a key is its head from its first message, or from when it was parked, until it ends."""
        if row.new.key is None:
            return
        name = (row.new.domain, row.new.key)
        if row.msg_id is not None or row.parked:
            self.state.heads[name] = row.key
        elif row.status in TERMINAL and self.state.heads.get(name) == row.key:
            del self.state.heads[name]

    def end(self) -> None:
        """Let go of what was claimed; without a commit before, nothing has happened."""
        for key in self._claimed:
            del self.state.claims[key]
        self._claimed.clear()
        self.ended.set()
