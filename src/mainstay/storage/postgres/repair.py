"""Mending what fsck found, one thing at a time: what `commandbus.repair` says of itself, for Python."""

from dataclasses import dataclass
from typing import Final

import orjson
import psycopg

from mainstay.commands.store import Finding
from mainstay.errors import MainstayError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, fetch_value, transaction

#: What is left to a person, and what that person does.
BY_HAND: Final = {
    "attempts stay within max_attempts": "find out who changed the command; nothing can be undone",
    "an audit trail is a legal path that ends at the status": "see `mainstay commands audit ID`: what happened "
    "cannot be made up; if the status itself is wrong, decide the command by hand",
    "a terminal command has answered who asked": "it has answered and is not terminal: tell whoever got the reply",
    "a command with a key is ready or in progress only as its head": "another command of its key is the head: let "
    "them end one by one",
    "a step under way has a command or a reply on its way": "its command is gone, or two replies were taken and it "
    "stands still all the same: answer it by hand with a command of type Reply in the process's domain, "
    '{"command_id": ..., "outcome": "CANCELED"}',
    "a process is under way as long as one of its steps": "see `mainstay processes show ID`: if it waits for nothing, "
    "cancel it, which undoes what was done",
    "a process knows how many of its steps are under way": "find out who wrote to the tables; then set open_steps of "
    "commandbus.process to the number of its steps that are SENT",
    "what was done in a process is undone in turn, each step once": "find out who wrote to the tables; steps that "
    "last_done and done_after do not lead to are not undone: undo them by hand if it comes to that",
    "steps belong to a process, are numbered from one and undo an earlier one": "find out who wrote to the tables; "
    "nothing can be made up",
    "the audit trail of a process tells each step and ends at its status": "see `mainstay processes show ID`: what "
    "happened cannot be made up",
    "a command that has not ended holds its unique key": "another command that has not ended holds it: cancel one of "
    "the two",
    "the counts of an action recount": "items are missing, or were changed: see `mainstay tsq actions`",
    "an action that is done came to its last item, and says when": "find out who changed the action; if it is not "
    "carried out, stop it and begin another",
    "deltas and parts belong to a batch": "the batch is gone and one of its parts is not: find out who deleted it",
    "the events of a stream are numbered from one, in the order of their positions": "find out who wrote to the tables "
    "past their triggers; restore the stream from a backup into another database, and compare",
    "an event is of a kind, in the category of its stream": "find out who wrote to the tables",
    "an event is found by its tags, and by no others": "find out who wrote to the tables",
    "the events of a tombstoned stream are empty, and no others": "tombstone the stream again",
    "positions are drawn before they are used or published": "the sequence is behind the events: renew the epoch "
    "and rebuild the projections that have read beyond",
    "a subscription has the shards that it says it has": "find out who wrote to the tables; forget the subscription, "
    "and rebuild the projection",
    "a checkpoint stands on its event, and not beyond the last": "rebuild the projection, or reset the subscription to "
    "a position that you know to be right",
    "a shard that rests is nobody's, and one that is somebody's has a lease": "find out who wrote to the tables; pause "
    "and resume the projection",
    "a dead letter that waits lies behind the checkpoint of its shard": "the projection comes to this event again: "
    "discard the letter",
    "a dead letter that waits has its event": "it can never be handled: discard it",
    "a decision is of a command that has completed or failed": "find out who changed the command",
    "a command answered with the version and position of its own event has its decision": "restore the row of "
    "commandbus.decision from a backup, or leave it: only the ledger and rehearsals miss it",
    "the events of a decision are in its stream, and of no other decision": "events and decisions are of different "
    "backups, or somebody wrote to the tables: compare the stream with the command, `mainstay commands show ID`",
    "what is parked waits before a gate": "set a limit for its type again, and remove it: that starts what waits",
}
_GONE = "nothing is wrong any more, or somebody moved it meanwhile: look again"


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a finding.

    Args:
        finding: What was wrong.
        did: What was done, in words; None if nothing.
        left: What to do instead, or why nothing was done; None if it was mended.
    """

    finding: Finding
    did: str | None
    left: str | None


async def mend(pool: Pool, finding: Finding, *, dry_run: bool, operator: str | None) -> Repair:
    """Mend one finding in a transaction of its own, or only see whether that would work.

    Args:
        pool: Open.
        finding: What fsck found.
        dry_run: Roll back what was done.
        operator: For the audit trail.

    Raises:
        StorageUnavailableError: The database cannot be reached.
    """
    try:
        did = await _repair(pool, finding, dry_run=dry_run, operator=operator)
    except MainstayError:
        raise
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise
        return Repair(finding, None, f"it could not be mended now: {_text(error)}")
    except psycopg.Error as error:
        return Repair(finding, None, f"it could not be mended: {_text(error)}")
    return Repair(finding, did, None if did else BY_HAND.get(finding.invariant, _GONE))


async def _repair(pool: Pool, finding: Finding, *, dry_run: bool, operator: str | None) -> str | None:
    """What was done, or, with ``dry_run``, what would be."""
    asked = {
        "invariant": finding.invariant,
        "domain": finding.domain,
        "command_id": finding.command_id,
        "details": orjson.dumps(finding.details, default=str).decode(),
        "operator": operator,
    }
    did: str | None = None
    async with transaction(pool, translate_body=False) as conn:
        did = await fetch_value(conn, queries.load("operations")["repair"], asked)
        if dry_run:
            raise psycopg.Rollback
    return did


def _text(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
