"""Failure groups in memory: computed when asked for, from what was committed."""

from collections.abc import Iterator

from mainstay.commands.failures import FailureGroup, Kind, Selection, fingerprint, group_id
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory_unit import Row, State, as_value
from mainstay.commands.model import VERSION_HEADER


class MemoryFailures:
    """`FailureStore` in memory."""

    _state: State

    async def list_kinds(self, which: Selection) -> list[Kind]:
        """The forms of payload that a selection has, by domain, type and version."""
        found: dict[str, Kind] = {}
        for row in troubled(self._state, which):
            headers = as_value(row.new.headers) or {}
            said = {VERSION_HEADER: headers[VERSION_HEADER]} if VERSION_HEADER in headers else {}
            kind = Kind(row.new.domain, row.new.command_type, said)
            found.setdefault(repr((kind.domain, kind.command_type, said)), kind)
        return sorted(
            found.values(), key=lambda kind: (kind.domain, kind.command_type, len(kind.headers), str(kind.headers))
        )

    async def list_groups(self, which: Selection) -> list[FailureGroup]:
        """What waits for an operator, by what went wrong, the largest group first."""
        alike: dict[str, list[Row]] = {}
        for row in troubled(self._state, which):
            alike.setdefault(group_of(row), []).append(row)
        return sorted(
            (_group(found, rows) for found, rows in alike.items()),
            key=lambda group: (
                -group.commands,
                group.domain,
                group.command_type,
                group.error_code or "",
                group.group_id,
            ),
        )


def troubled(state: State, which: Selection) -> Iterator[Row]:
    """What waits for an operator and meets all conditions, the longest waiting first."""
    waiting = [row for row in state.rows.values() if row.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE]
    for row in sorted(waiting, key=lambda row: (row.updated_at, row.seq)):
        if (
            which.domain in (None, row.new.domain)
            and which.command_type in (None, row.new.command_type)
            and which.error_code in (None, row.error_code)
            and which.group_id in (None, group_of(row))
            and which.batch_id in (None, row.new.batch_id)
            and (which.command_ids is None or row.new.command_id in which.command_ids)
        ):
            yield row


def group_of(row: Row) -> str:
    """The id of the failure group that a command belongs to."""
    return group_id(
        row.new.domain, row.new.command_type, row.error_type, row.error_code, fingerprint(row.error_message)
    )


def _group(found: str, rows: list[Row]) -> FailureGroup:
    first, last = rows[0], rows[-1]
    return FailureGroup(
        group_id=found,
        domain=last.new.domain,
        command_type=last.new.command_type,
        error_type=last.error_type,
        error_code=last.error_code,
        fingerprint=fingerprint(last.error_message),
        commands=len(rows),
        first_seen=first.updated_at,
        last_seen=last.updated_at,
        example_id=last.new.command_id,
        example_message=last.error_message,
    )
