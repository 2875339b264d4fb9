"""What becomes of commands in the memory store: one function per decision, each on one command or batch of one `Unit`.

Nothing here waits: what a decision reads cannot change before it has written.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from mainstay.commands.command import Command, OnConflict, SendResult
from mainstay.commands.lifecycle import TERMINAL, AuditEventType, BatchStatus, CommandStatus, ReplyOutcome
from mainstay.commands.memory_breakers import MemoryBreakerStore
from mainstay.commands.memory_gates import MemoryGateStore
from mainstay.commands.memory_unit import BatchRow, Key, Row, UniqueClaim, Unit, as_value
from mainstay.commands.store import (
    Action,
    ActionVerdict,
    Answer,
    Lease,
    NewCommand,
    NotUnique,
    OperatorRequest,
    Outcome,
    Received,
    Refusal,
    Verb,
    Verdict,
)

_S, _A = CommandStatus, AuditEventType
UNDO = _A.OPERATOR_UNDO


def refusal(unit: Unit, new: NewCommand) -> Refusal | NotUnique | None:
    """Why a command cannot be sent."""
    is_known = unit.row((new.domain, new.command_id)) is not None
    if new.domain not in unit.state.domains:
        return Refusal.QUEUE_NOT_FOUND
    if not is_known and (holder := _holder(unit, new)):
        return NotUnique(holder)
    if new.batch_id is not None and unit.batch((new.domain, new.batch_id)) is None:
        return Refusal.BATCH_NOT_FOUND
    if new.reply_to is not None and not unit.state.takes_replies(new.reply_to):
        return Refusal.REPLY_QUEUE_NOT_FOUND
    return Refusal.DUPLICATE if is_known else None


def answer(new: NewCommand, refused: Refusal | NotUnique) -> Answer:
    """What a sender is told of a command that is not sent: it was refused, or, as he asked, left out."""
    if isinstance(refused, NotUnique) and new.on_conflict is OnConflict.SKIP:
        return SendResult(refused.holder_id, None, skipped=True)
    return refused


def send_unless_refused(unit: Unit, new: NewCommand) -> Answer:
    """Put a command in, if it can be sent."""
    refused = refusal(unit, new)
    return send(unit, new) if refused is None else answer(new, refused)


def _holder(unit: Unit, new: NewCommand) -> UUID | None:
    """The command that holds a unique key; None if it is free."""
    claim = unit.unique((new.domain, new.unique_key)) if new.unique_key else None
    row = unit.row((new.domain, claim.command_id)) if claim else None
    if claim is None or row is None:
        return None
    if row.status is _S.COMPLETED:
        is_held = claim.held_until is not None and claim.held_until > unit.now
    else:
        is_held = row.status not in TERMINAL and claim.command_id != new.successor_of
    return claim.command_id if is_held else None


def send(unit: Unit, new: NewCommand) -> SendResult:
    """Put a command in: ready, deferred, or in its key's line."""
    row = Row(new, unit.state.next(), created_at=unit.now, updated_at=unit.now, data=new.data)
    if new.delay is not None:
        row.due_at = unit.now + timedelta(seconds=new.delay)
    elif new.not_before is not None and new.not_before > unit.now:
        row.due_at = new.not_before
    elif new.key is None:
        unit.enqueue(row)
    unit.add(row)
    if new.unique_key is not None:
        until = None if new.unique_for is None else unit.now + timedelta(seconds=new.unique_for)
        unit.take_unique((new.domain, new.unique_key), UniqueClaim(new.command_id, until))
    unit.audit(row.key, _A.SENT, command_type=new.command_type, correlation_id=str(new.correlation_id))
    return SendResult(new.command_id, row.msg_id)


def cancel(unit: Unit, found: Row, reason: str | None, **told: Any) -> None:
    """Cancel a pending command."""
    row = unit.write(found)
    _cancel(row, reason)
    unit.audit(row.key, _A.CANCELED, reason=reason, **told)
    unit.reply(row, ReplyOutcome.CANCELED)


def ask_for_end(unit: Unit, found: Row, reason: str | None, **told: Any) -> None:
    """Note that a command in progress is to be canceled."""
    if found.cancel_request is None:
        unit.write(found).cancel_request = {"reason": reason}
        unit.audit(found.key, _A.CANCEL_REQUESTED, reason=reason, **told)


def _is_over(unit: Unit, row: Row) -> bool:
    """End a command that shall not be handled any more: somebody asked for its end, or it expired."""
    if row.cancel_request is not None:
        cancel(unit, row, row.cancel_request["reason"])
        return True
    if row.new.expires_at is None or row.new.expires_at > unit.now:
        return False
    row.move(_S.CANCELED)
    row.error_code, row.error_message = "EXPIRED", "it was not handled in time"
    unit.audit(row.key, _A.EXPIRED, expires_at=row.new.expires_at.isoformat())
    unit.reply(row, ReplyOutcome.CANCELED)
    return True


def expire_parked(unit: Unit, domain: str) -> None:
    """End parked commands whose time is over, whatever holds them."""
    for key in list(unit.state.parked.get(domain, ())):
        row = unit.state.rows[key]
        if row.new.expires_at is not None and row.new.expires_at <= unit.now and not unit.claimed_elsewhere(key):
            _is_over(unit, unit.write(row))


def has_ended(unit: Unit, found: Row) -> bool:
    """Whether a command has come to its end in this unit."""
    row = unit.row(found.key)
    return row is not None and row.status in TERMINAL


def receive(
    unit: Unit,
    found: Row,
    lease_seconds: float,
    worker: str,
    gates: MemoryGateStore,
    *,
    is_full: bool,
    is_probe: bool,
) -> Received | None:
    """Lease a command.

    None if its lease expired in its last attempt and it went to the troubleshooting queue, if its gate is shut, or if
    it is over.
    """
    gate = gates.find(found)
    if gate is not None and found.parked and (is_full or gates.held_up(unit, gate, found)):
        return None
    row = unit.write(found)
    if row.status is _S.IN_PROGRESS:
        row.lease_no += 1
        row.error_type, row.error_code = "TRANSIENT", "LEASE_EXPIRED"
        row.error_message = "the worker stopped or lost its lease before it finished"
        unit.audit(row.key, _A.LEASE_EXPIRED)
        if row.attempts >= row.new.max_attempts and row.cancel_request is None:
            row.move(_S.IN_TROUBLESHOOTING_QUEUE)
            unit.audit(row.key, _A.RETRY_EXHAUSTED)
            unit.audit(row.key, _A.MOVED_TO_TSQ, reason="EXHAUSTED", error_code="LEASE_EXPIRED")
            return None
        row.move(_S.PENDING)
    if _is_over(unit, row):
        return None
    if gate is not None and (reason := gates.held_up(unit, gate, row) or ("LIMIT" if is_full and gate.limit else None)):
        row.place = unit.draw(row) if row.msg_id is None else row.msg_id
        row.msg_id = row.ready_since = row.due_at = None
        row.parked = reason
        unit.audit(row.key, _A.PARKED, reason=reason)
        return None
    if row.parked:
        unit.audit(row.key, _A.RELEASED)
    start_within = None if gate is None else gates.start(unit, gate)
    if row.msg_id is None:
        unit.enqueue(row)
    row.status = _S.IN_PROGRESS
    row.attempts += 1
    row.lease_no += 1
    row.lease_until = unit.now + timedelta(seconds=lease_seconds)
    unit.audit(row.key, _A.RECEIVED, worker=worker, attempt=row.attempts)
    _start_batch(unit, row)
    return _received(row, start_within, is_limited=is_probe or (gate is not None and gate.limit is not None))


def complete(unit: Unit, key: Key, outcome: Outcome, breakers: MemoryBreakerStore) -> Verdict:
    """Write what became of a command, if the lease is its newest."""
    found, lease_no = unit.row(key), outcome.lease.lease_no
    if found is None:
        return Verdict.STALE
    if found.status is _S.IN_PROGRESS and found.lease_no == lease_no:
        row = unit.write(found)
        row.position = max((each for each in (row.position, outcome.position) if each is not None), default=None)
        _apply(unit, row, outcome, breakers)
        if row.status not in TERMINAL and row.cancel_request is not None:
            cancel(unit, row, row.cancel_request["reason"])
        return Verdict.APPLIED
    if found.lease_no == lease_no:
        return Verdict.REPEATED
    unit.audit(key, _A.STALE_REFUSED, verb=outcome.verb.value)
    return Verdict.STALE


def act(
    unit: Unit, key: Key, request: OperatorRequest, *, action_id: UUID, due_at: datetime | None = None
) -> ActionVerdict:
    """Carry out an operator's decision on a command, if it waits for one."""
    found = unit.row(key)
    other = found is not None and request.base is not None and as_value(found.data) != as_value(request.base)
    if found is None or found.status is not _S.IN_TROUBLESHOOTING_QUEUE or other:
        return ActionVerdict(key[1], applied=False, status=found.status if found else None, msg_id=None)
    status, row = found.status, unit.write(found)
    row.lease_no += 1
    told = {"operator": request.operator, "reason": request.reason, "action_id": str(action_id)}
    if request.action is Action.RETRY:
        row.move(_S.PENDING)
        row.attempts = 0
        row.error_type = row.error_code = row.error_message = None
        row.data = request.data or row.data
        if due_at is None and row.new.key is None:
            unit.enqueue(row)
        row.due_at = due_at
        edit = {"edited": True if request.data else None, "diff": as_value(request.diff)}
        unit.audit(key, _A.OPERATOR_RETRY, **told, **edit, due_at=due_at and due_at.isoformat())
    elif request.action is Action.CANCEL:
        _cancel(row, request.reason)
        unit.audit(key, _A.OPERATOR_CANCEL, **told)
        unit.reply(row, ReplyOutcome.CANCELED)
    else:
        row.move(_S.COMPLETED)
        row.result = request.result
        unit.audit(key, _A.OPERATOR_COMPLETE, **told, result=as_value(request.result))
        unit.reply(row, ReplyOutcome.SUCCESS)
    return ActionVerdict(key[1], applied=True, status=status, msg_id=row.msg_id)


def fold(unit: Unit, found: BatchRow) -> bool:
    """Finish a batch whose commands are all terminal or in troubleshooting. Returns whether that was now."""
    count = Counter(row.status for row in unit.state.of_batch(found.key))
    parts = [each for each in unit.state.batches.values() if (each.new.domain, each.new.parent_id) == found.key]
    if found.completed_at is not None or not found.sealed or count[_S.PENDING] or count[_S.IN_PROGRESS]:
        return False
    if any(part.completed_at is None for part in parts):
        return False
    batch = unit.write_batch(found)
    well = count[_S.COMPLETED] == count.total() and all(part.status is BatchStatus.COMPLETED for part in parts)
    batch.status = BatchStatus.COMPLETED if well else BatchStatus.COMPLETED_WITH_FAILURES
    batch.started_at, batch.completed_at = batch.started_at or unit.now, unit.now
    told = {"completed": _S.COMPLETED, "failed": _S.FAILED, "canceled": _S.CANCELED}
    told["in_troubleshooting"] = _S.IN_TROUBLESHOOTING_QUEUE
    numbers = {name: count[status] for name, status in told.items()}
    unit.audit(batch.key, _A.BATCH_COMPLETED, total=count.total(), **numbers)
    on_complete = batch.new.on_complete
    if on_complete is not None and refusal(unit, on_complete) is None:
        send(unit, on_complete)
    return True


def _cancel(row: Row, reason: str | None) -> None:
    row.move(_S.CANCELED)
    row.error_code, row.error_message = "CANCELED", reason


def _start_batch(unit: Unit, row: Row) -> None:
    found = unit.batch((row.new.domain, row.new.batch_id)) if row.new.batch_id else None
    if found is not None and found.started_at is None:
        batch = unit.write_batch(found)
        batch.status, batch.started_at = BatchStatus.IN_PROGRESS, unit.now
        unit.audit(batch.key, _A.BATCH_STARTED)


def _received(row: Row, start_within: float | None, *, is_limited: bool) -> Received:
    new, msg_id = row.new, row.msg_id or 0
    command = Command(
        domain=new.domain,
        command_type=new.command_type,
        command_id=new.command_id,
        data=as_value(row.data),
        correlation_id=new.correlation_id,
        reply_to=new.reply_to,
        created_at=row.created_at,
        headers=as_value(new.headers) or {},
        key=new.key,
    )
    lease = Lease(new.command_id, msg_id, row.lease_no, is_limited, new.batch_id is not None)
    return Received(command, lease, row.attempts, new.max_attempts, start_within)


def _apply(unit: Unit, row: Row, outcome: Outcome, breakers: MemoryBreakerStore) -> None:
    told = _told(row, outcome)
    if outcome.decision is not None and outcome.verb in (Verb.COMPLETE, Verb.FAIL):
        unit.decide(row.key, outcome.decision)
    is_transient = outcome.verb is Verb.RETRY or (outcome.verb is Verb.TROUBLESHOOT and outcome.exhausted)
    if is_transient and breakers.holds(unit, row, outcome.error_message):
        row.move(_S.PENDING)
        row.attempts -= 1
        unit.audit(row.key, _A.FAILED, **told)
        breakers.park(unit, row)
        return
    match outcome.verb:
        case Verb.COMPLETE:
            row.move(_S.COMPLETED)
            row.result = outcome.result
            unit.audit(row.key, _A.COMPLETED, **told)
            unit.reply(row, ReplyOutcome.SUCCESS)
        case Verb.FAIL:
            row.move(_S.FAILED)
            unit.audit(row.key, _A.BUSINESS_RULE_FAILED, **told)
            unit.reply(row, ReplyOutcome.FAILED)
        case Verb.RETRY:
            row.move(_S.PENDING)
            row.msg_id = row.ready_since = None
            row.due_at = unit.now + timedelta(seconds=outcome.delay)
            unit.audit(row.key, _A.FAILED, **told)
            unit.audit(row.key, _A.RETRY_SCHEDULED, delay=outcome.delay, due_at=row.due_at.isoformat())
        case Verb.TROUBLESHOOT:
            row.move(_S.IN_TROUBLESHOOTING_QUEUE)
            unit.audit(row.key, _A.FAILED, **told)
            if outcome.exhausted:
                unit.audit(row.key, _A.RETRY_EXHAUSTED)
            reason = "EXHAUSTED" if outcome.exhausted else outcome.error_type
            unit.audit(row.key, _A.MOVED_TO_TSQ, reason=reason, error_code=outcome.error_code)
        case Verb.GIVE_BACK:
            row.move(_S.PENDING)
            row.attempts -= 1
            row.lease_no += 1
            unit.audit(row.key, _A.GIVEN_BACK, **told)


def _told(row: Row, outcome: Outcome) -> dict[str, Any]:
    """What the audit trail tells of an outcome; an error stays on the command, too."""
    details = as_value(outcome.details)
    if outcome.verb in (Verb.COMPLETE, Verb.GIVE_BACK):
        return details or {}
    row.error_type, row.error_code, row.error_message = outcome.error_type, outcome.error_code, outcome.error_message
    return {
        "attempt": row.attempts,
        "error_type": outcome.error_type,
        "error_code": outcome.error_code,
        "error_message": outcome.error_message,
        "details": details,
    }
