"""What can be asked of the memory store: read-only, from what was committed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from mainstay.commands.carried import TENANT
from mainstay.commands.command import AuditEvent, BatchMetadata, CommandMetadata, TroubleshootingItem
from mainstay.commands.lifecycle import AUDIT_PATH, TERMINAL, BatchStatus, CommandStatus
from mainstay.commands.memory_processes import process_steps, process_trails
from mainstay.commands.memory_unit import BatchRow, Key, Row, State, as_value, reply_id
from mainstay.commands.store import CommandFilter, DomainStats, Finding, FsckReport
from mainstay.message import COMMANDS_SUFFIX

_S = CommandStatus


def metadata(row: Row) -> CommandMetadata:
    """All that is known of a command."""
    return CommandMetadata(
        domain=row.new.domain,
        command_id=row.new.command_id,
        command_type=row.new.command_type,
        status=row.status,
        attempts=row.attempts,
        max_attempts=row.new.max_attempts,
        msg_id=row.msg_id,
        correlation_id=row.new.correlation_id,
        reply_to=row.new.reply_to,
        last_error_type=row.error_type,
        last_error_code=row.error_code,
        last_error_msg=row.error_message,
        created_at=row.created_at,
        updated_at=row.updated_at,
        batch_id=row.new.batch_id,
        data=as_value(row.data),
        result=as_value(row.result),
        due_at=row.due_at,
        progress=row.progress,
        key=row.new.key,
        priority=row.new.priority,
        expires_at=row.new.expires_at,
        headers=as_value(row.new.headers),
        unique_key=row.new.unique_key,
        position=row.position,
    )


def query(state: State, which: CommandFilter) -> list[CommandMetadata]:
    """Commands that pass a filter, newest first. Both times are inclusive."""

    def place(row: Row) -> tuple[float, UUID, str]:
        return (-row.created_at.timestamp(), row.new.command_id, row.new.domain)

    def passes(row: Row) -> bool:
        new = row.new
        return (
            which.domain in (None, new.domain)
            and which.status in (None, row.status)
            and which.command_type in (None, new.command_type)
            and which.batch_id in (None, new.batch_id)
            and (which.created_after is None or which.created_after <= row.created_at)
            and (which.created_before is None or row.created_at <= which.created_before)
            and (which.tenant_id is None or (as_value(new.headers) or {}).get(TENANT) == str(which.tenant_id))
            and which.correlation_id in (None, new.correlation_id)
            and (which.after is None or place(row) > (-which.after[0].timestamp(), *which.after[1:]))
        )

    return [metadata(row) for row in sorted(state.rows.values(), key=place) if passes(row)]


def troubleshooting(state: State, domain: str | None, command_type: str | None) -> list[TroubleshootingItem]:
    """Commands that wait for an operator, the longest waiting first."""
    waiting = [
        row
        for row in state.rows.values()
        if row.status is _S.IN_TROUBLESHOOTING_QUEUE
        and domain in (None, row.new.domain)
        and command_type in (None, row.new.command_type)
    ]
    return [item(row) for row in sorted(waiting, key=lambda row: (row.updated_at, row.seq))]


def item(row: Row) -> TroubleshootingItem:
    """A command that waits for an operator."""
    return TroubleshootingItem(
        domain=row.new.domain,
        command_id=row.new.command_id,
        command_type=row.new.command_type,
        attempts=row.attempts,
        max_attempts=row.new.max_attempts,
        last_error_type=row.error_type,
        last_error_code=row.error_code,
        last_error_msg=row.error_message,
        payload=as_value(row.data),
        correlation_id=row.new.correlation_id,
        reply_to=row.new.reply_to,
        created_at=row.created_at,
        updated_at=row.updated_at,
        batch_id=row.new.batch_id,
        headers=as_value(row.new.headers),
    )


def batch_metadata(state: State, batch: BatchRow) -> BatchMetadata:
    """A batch and its counts."""
    members = state.of_batch(batch.key)
    count = Counter(row.status for row in members)
    return BatchMetadata(
        domain=batch.new.domain,
        batch_id=batch.new.batch_id,
        status=batch.status,
        name=batch.new.name,
        custom_data=as_value(batch.new.custom_data),
        total_count=len(members),
        completed_count=count[_S.COMPLETED],
        failed_count=count[_S.FAILED],
        canceled_count=count[_S.CANCELED],
        in_troubleshooting_count=count[_S.IN_TROUBLESHOOTING_QUEUE],
        created_at=batch.created_at,
        started_at=batch.started_at,
        completed_at=batch.completed_at,
        sealed=batch.sealed,
        parent_id=batch.new.parent_id,
    )


def batches(state: State, domain: str | None, status: BatchStatus | None) -> list[BatchMetadata]:
    """Batches of a domain, or of all, newest first."""
    chosen = [
        batch for key, batch in state.batches.items() if domain in (None, key[0]) and status in (None, batch.status)
    ]
    newest_first = sorted(chosen, key=lambda batch: (batch.created_at, batch.seq), reverse=True)
    return [batch_metadata(state, batch) for batch in newest_first]


def stats(state: State, domain: str) -> DomainStats:
    """The numbers of one domain. An expired lease counts as ready: who asks next gets the command."""
    now = state.clock.now()
    queued = [state.rows[key] for key in state.queues.get(domain, {}).values()]
    ready = [row for row in queued if row.lease_until is None or row.lease_until <= now]
    since = [row.ready_since for row in ready if row.ready_since is not None]
    return DomainStats(
        domain=domain,
        by_status=dict(Counter(row.status for key, row in state.rows.items() if key[0] == domain)),
        ready=len(ready),
        in_flight=len(queued) - len(ready),
        deferred=len(state.deferred.get(domain, ())),
        parked=len(state.parked.get(domain, ())),
        keyed=sum(row.in_line for key, row in state.rows.items() if key[0] == domain),
        oldest_ready_seconds=max(0.0, (now - min(since)).total_seconds()) if since else None,
    )


def whose_turn(state: State, domain: str, due: Iterable[Row]) -> list[Row]:
    """Of each key's line the command that may go: its head if that waits, else, without a head, the first sent.

    Args:
        state: Everything.
        domain: Whose commands.
        due: Deferred commands whose time has come; those with a key get in line.
    """
    late = {row.key for row in due}
    line = [row for key, row in state.rows.items() if key[0] == domain and row.new.key and (row.in_line or key in late)]
    first: dict[str, Row] = {}
    for row in sorted(line, key=lambda row: row.seq):
        name = row.new.key or ""
        if state.heads.get((domain, name), row.key) == row.key:
            first.setdefault(name, row)
    return list(first.values())


def fsck(state: State, is_held: Callable[[Row], bool]) -> FsckReport:
    """Look for what must never be; ``is_held`` says whether the breaker of a command exists."""
    checks = (
        _audit_paths,
        _places,
        _heads,
        _unique_keys,
        _replies,
        _batch_ends,
        _decisions,
        process_steps,
        process_trails,
    )
    findings = [finding for check in checks for finding in check(state)]
    findings += [Finding("held", *row.key, {"by": row.held_by}) for row in state.rows.values() if not is_held(row)]
    of_commands = ("audit_path", "one_place", "one_head", "one_holder", "one_reply", "batch_end", "decision")
    checked = (*of_commands, "process_step", "process_audit", "held")
    return FsckReport(len(state.rows), checked, tuple(findings))


def walk(trail: list[AuditEvent]) -> CommandStatus | None:
    """The status that a trail leads to; None if it is empty or no legal path."""
    status: CommandStatus | None = None
    for event in trail:
        status = AUDIT_PATH.get((status, event.event_type))
        if status is None:
            return None
    return status


def _audit_paths(state: State) -> Iterator[Finding]:
    for (domain, command_id), row in state.rows.items():
        trail = [event for event in state.audit.get(command_id, []) if event.domain == domain]
        if walk(trail) is not row.status:
            told = {"status": row.status.value, "trail": [event.event_type.value for event in trail]}
            yield Finding("audit_path", domain, command_id, told)


def _places(state: State) -> Iterator[Finding]:
    """Pending: ready, deferred, parked or in line. In progress: in the queue. Otherwise: nowhere."""
    placed: Counter[Key] = Counter(key for queue in state.queues.values() for key in queue.values())
    waiting: Counter[Key] = Counter(key for keys in state.deferred.values() for key in keys)
    waiting.update(key for keys in state.parked.values() for key in keys)
    for key, row in state.rows.items():
        places = (placed[key], waiting[key], int(row.in_line))
        pending = {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
        legal = {_S.PENDING: pending, _S.IN_PROGRESS: {(1, 0, 0)}}.get(row.status, {(0, 0, 0)})
        if places not in legal:
            yield Finding("one_place", *key, {"status": row.status.value, "in_queue": places[0], "waiting": places[1]})


def _heads(state: State) -> Iterator[Finding]:
    """A head has not ended, and only a head is in the queue."""
    for (domain, key), head in state.heads.items():
        if state.rows[head].status in TERMINAL:
            yield Finding("one_head", domain, head[1], {"key": key})
    for row in state.rows.values():
        if row.new.key and row.msg_id is not None and state.heads.get((row.new.domain, row.new.key)) != row.key:
            yield Finding("one_head", *row.key, {"key": row.new.key})


def _unique_keys(state: State) -> Iterator[Finding]:
    """A live command holds its unique key, so no key has two; and a key is held by a command of that key."""
    for row in state.rows.values():
        name = row.new.domain, row.new.unique_key or ""
        if row.new.unique_key and row.status not in TERMINAL and state.unique[name].command_id != row.new.command_id:
            yield Finding("one_holder", *row.key, {"unique_key": row.new.unique_key})
    for (domain, unique_key), claim in state.unique.items():
        holder = state.rows.get((domain, claim.command_id))
        if holder is None or holder.new.unique_key != unique_key:
            yield Finding("one_holder", domain, claim.command_id, {"unique_key": unique_key})


def _replies(state: State) -> Iterator[Finding]:
    """Exactly one reply for a terminal command that asked for one, none before. Nothing takes a reply out here."""
    given = Counter((queue, reply["command_id"]) for queue, replies in state.replies.items() for reply in replies)
    given.update(
        (row.new.reply_to, str(row.new.command_id))
        for row in state.rows.values()
        if row.new.reply_to and (row.new.reply_to.removesuffix(COMMANDS_SUFFIX), reply_id(row.new)) in state.rows
    )
    asked = Counter(
        (row.new.reply_to, str(row.new.command_id))
        for row in state.rows.values()
        if row.new.reply_to is not None and row.status in TERMINAL
    )
    asked += state.answered_again
    for row in state.rows.values():
        address = (row.new.reply_to or "", str(row.new.command_id))
        if given[address] != asked[address]:
            yield Finding("one_reply", *row.key, {"expected": asked[address], "found": given[address]})


def _decisions(state: State) -> Iterator[Finding]:
    """A decision is of a command that has completed, or failed and appended nothing."""
    for key, (_, decision) in state.decisions.items():
        row = state.rows.get(key)
        status = None if row is None else row.status
        if status is not _S.COMPLETED and (status is not _S.FAILED or decision.events):
            yield Finding("decision", *key, {"status": status and status.value})


def _batch_ends(state: State) -> Iterator[Finding]:
    """A finished batch has sent its completion command, an open one has not."""
    for (domain, _), batch in state.batches.items():
        end = batch.new.on_complete
        if end is None:
            continue
        sent = (end.domain, end.command_id) in state.rows
        if sent is not (batch.completed_at is not None):
            yield Finding("batch_end", domain, end.command_id, {"batch_id": str(batch.new.batch_id), "sent": sent})
