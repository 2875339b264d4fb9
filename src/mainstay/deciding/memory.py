"""Group commit in memory: the plainest reading of `mainstay.deciding.store.GroupStore`, one command after the other."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from mainstay.commands.deciders import Fate
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.memory_unit import Unit, claimed_by
from mainstay.commands.store import Lease, Verb
from mainstay.deciding.store import HeldStreams, ToCommit
from mainstay.events.log import StreamAppend
from mainstay.events.memory import MemoryEventLog
from mainstay.events.stream import ExpectedVersion, StreamId


class MemoryGroupStore:
    """Commits groups in memory.

    Args:
        commands: Where commands live.
        log: Where events live.
    """

    def __init__(self, commands: MemoryCommandStore, log: MemoryEventLog) -> None:
        self._commands = commands
        self._log = log

    @asynccontextmanager
    async def holding(
        self, streams: Sequence[StreamId], after: Mapping[StreamId, int] | None = None
    ) -> AsyncIterator[HeldStreams]:
        """A transaction that holds streams, as far as nobody else does; if others hold all, it waits for one."""
        del after  # there are no round trips
        free = [each for each in streams if not self._log.is_held(each)] or list(streams[:1])
        async with self._commands.transaction() as unit, self._log.transaction() as mine:
            await self._log.hold(free, conn=mine)
            yield HeldStreams(free, mine, unit)

    async def commit(self, domain: str, group: Sequence[ToCommit], *, held: HeldStreams | None = None) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing."""
        if held is not None:
            return await self._commit(domain, group, held.commands, held.conn)
        async with self._commands.transaction() as unit, self._log.transaction() as mine:
            return await self._commit(domain, group, unit, mine)

    async def _commit(self, domain: str, group: Sequence[ToCommit], unit: Unit, mine: Any) -> list[Fate]:
        ids = ((domain, each.outcome.lease.command_id) for each in group)
        await unit.claim([*ids, *claimed_by(new for each in group for new in each.outcome.sends)])
        leases = {each.outcome.lease for each in group if _is_held(unit, domain, each.outcome.lease)}
        streams = {
            stream: await self._fate(stream, group, leases, mine) for stream in {e.consequence.stream_id for e in group}
        }
        lost: set[StreamId] = set()
        fates: list[Fate] = []
        for each in group:
            outcome, found = each.outcome, each.consequence
            if outcome.lease not in leases:
                lost.add(found.stream_id)
            elif found.stream_id in lost:
                fates.append(Fate.BEHIND)
                continue
            elif streams[found.stream_id] is not Fate.APPLIED:
                fates.append(streams[found.stream_id])
                continue
            else:
                answer = {"version": found.version}
                if found.written:
                    expected = ExpectedVersion.exact(found.version_read)
                    (done,) = await self._log.append(
                        [StreamAppend(found.stream_id, found.written, expected)], conn=mine
                    )
                    answer["position"] = done.position or 0
                    outcome = outcome._replace(position=done.position)
                if outcome.verb is Verb.COMPLETE and outcome.result is None:
                    outcome = outcome._replace(result=orjson.dumps(answer))
            (verdict,) = await self._commands.complete(domain, [outcome], conn=unit)
            fates.append(Fate(verdict.value))
        return fates

    async def _fate(self, stream: StreamId, group: Sequence[ToCommit], leases: set[Lease], mine: Any) -> Fate:
        """What a stream is: APPLIED, if it is as expected."""
        of_stream = [each for each in group if each.consequence.stream_id == stream]
        first_lost = next((n for n, each in enumerate(of_stream) if each.outcome.lease not in leases), len(of_stream))
        appends = any(each.consequence.written for each in of_stream[:first_lost])
        state = await self._log.stream_state(stream)
        if appends and self._log.is_held(stream, but=mine):
            return Fate.LOCKED
        if appends and state is not None and (state.archived or state.tombstoned):
            return Fate.CLOSED
        return Fate.APPLIED if (state.version if state else 0) == of_stream[0].consequence.version_read else Fate.MOVED

    async def close(self) -> None:
        """Nothing is held."""


def _is_held(unit: Unit, domain: str, lease: Lease) -> bool:
    row = unit.row((domain, lease.command_id))
    return row is not None and row.status is CommandStatus.IN_PROGRESS and row.lease_no == lease.lease_no
