"""Projections: which stand still, which lag, and what they could not handle."""

from collections.abc import Iterator
from shlex import quote

from psycopg.rows import DictRow

from mainstay.projections.checks import REBUILD
from mainstay.storage.postgres.doctor.check import Check, Limits, fault, ok, span, warning

_NAME = "projections"
_MUCH_WORSE = 10
_SAID = 200
"""Characters of a reason that are shown."""


def projections(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """Every projection runs, keeps up, and handles what it is given."""
    for row in rows:
        name = row["name"]
        if name.endswith(REBUILD):
            yield _rebuild(row, name.removesuffix(REBUILD))
            continue
        found = [*_standing(row), *_behind(row, limits), *_apart(row)]
        yield from found or [ok(_NAME, f"Projection {name} runs, and is {span(row['seconds'])} behind.")]


def _rebuild(row: DictRow, name: str) -> Check:
    if row["stopped"]:
        seen = f"The rebuild of projection {name} is stopped by an error: {(row['stopped_reason'] or '')[:_SAID]}."
    elif row["unowned"] == row["shards"]:
        seen = f"A rebuild of projection {name} was begun, and no process goes on with it."
    else:
        return ok(_NAME, f"Projection {name} is being rebuilt.")
    command = f"mainstay projections rebuild MODULE:NAME {name}"
    return warning(_NAME, seen, f"Go on with it: `{command}`; or drop it: `{command} --cancel`", row["name"])


def _standing(row: DictRow) -> Iterator[Check]:
    name, reason = row["name"], (row["stopped_reason"] or "")[:_SAID]
    if row["stopped"]:
        yield fault(
            _NAME,
            f"Projection {name} is stopped by an error ({_of(row, 'stopped')}): {reason}.",
            f"Mend the cause, then go on with this very event: `mainstay projections resume {quote(name)}`",
            name,
        )
    if row["paused"]:
        yield warning(
            _NAME,
            f"Projection {name} is paused by {row['paused_by'] or 'somebody'} ({_of(row, 'paused')}): "
            f"{(row['paused_reason'] or 'no reason was given')[:_SAID]}.",
            f"Let it go on: `mainstay projections resume {quote(name)}`",
            name,
        )


def _behind(row: DictRow, limits: Limits) -> Iterator[Check]:
    name, seconds = row["name"], row["seconds"]
    make = fault if seconds >= _MUCH_WORSE * limits.projection_lag else warning
    if row["unowned"]:
        yield make(
            _NAME,
            f"Projection {name} is nobody's ({_of(row, 'unowned')}) and {span(seconds)} behind: no process runs it.",
            "Start one: `mainstay projections run MODULE:NAME`; if it is no longer wanted: `mainstay projections "
            f"forget {quote(name)}`",
            name,
        )
    elif row["stopped"] + row["paused"] == 0 and seconds >= limits.projection_lag:
        yield make(
            _NAME,
            f"Projection {name} runs, and is {span(seconds)} behind.",
            "See whether it catches up: `mainstay projections lag --watch`; if not, give it larger batches, more "
            "shards or more processes.",
            name,
        )


def _apart(row: DictRow) -> Iterator[Check]:
    if row["dead_letters"]:
        name, count = row["name"], row["dead_letters"]
        yield warning(
            _NAME,
            f"Projection {name} could not handle {count:,} event{'' if count == 1 else 's'}, or laid "
            f"{'it' if count == 1 else 'them'} apart behind such a one.",
            f"`mainstay projections dead-letters groups {quote(name)}` says why; mend that, then `mainstay projections "
            f"replay MODULE:NAME {quote(name)}`",
            name,
        )


def _of(row: DictRow, which: str) -> str:
    """How many of its shards."""
    return f"{row[which]} of {row['shards']} shard{'' if row['shards'] == 1 else 's'}"
