"""Conversations: from any id in them, the whole tree of causes and effects, of commands and events alike.

What belongs to a conversation carries its correlation id, so one question to the commands and one to the events finds
all of it, however it is spread over domains and streams. Each command and each event says what caused it, so the tree
is made here, from what was found. A cause in another conversation is shown above what it led to: the way up goes on,
one by one, to the root. What that conversation did besides is not: it is its own.

How it fails. What was pruned no longer says its cause; ids that are derived from what caused them (of commands that a
handler sent, of replies that arrive as commands) say it still, and the rest stands at the top, marked. A cause that is
nowhere stands there by its id: it was forgotten, or is another system's. Causes cannot go in a circle, but anybody can
write anything into a header: where they do, the circle is cut.

More than ``limit`` commands or events are not read; `Conversation.more` says so.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from mainstay.commands.command import BatchMetadata, CommandMetadata
from mainstay.commands.conversation import TracedCommand
from mainstay.commands.lifecycle import TERMINAL
from mainstay.commands.process import ProcessMetadata
from mainstay.commands.sends import derived_id
from mainstay.commands.store import CommandFilter, CommandStore
from mainstay.errors import ConversationNotFoundError, InvalidInputError, shown
from mainstay.events.log import EventLog, RecordedEvent
from mainstay.message import checked_id

DEFAULT_LIMIT = 1_000
"""Commands, and events, that are read of a conversation."""
MOST = 10_000
_MOST_CONVERSATIONS = 20
"""Of a batch, whose commands may each begin one."""
_MOST_CAUSES = 50
"""That are looked for one by one, outside of the conversation."""
_MOST_SENDS = 20
"""Of a handler, whose derived ids are tried on what was pruned."""


class Kind(StrEnum):
    """What a step of a conversation is."""

    COMMAND = "COMMAND"
    EVENT = "EVENT"
    BATCH = "BATCH"
    PROCESS = "PROCESS"
    MISSING = "MISSING"
    """A cause of which only the id is known."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened in a conversation.

    Args:
        kind: What it is.
        id: Of the command, event, batch or process.
        name: Its type; the name of a batch.
        at: When it was sent, recorded or created; None if only its id is known.
        correlation_id: Its conversation.
        cause: The id of what led to it; None of a root, or if that was pruned.
        depth: How far below its root it stands.
        place: The domain of a command, a batch or a process, the stream of an event.
        command: All that is known of a command.
        event: All that is known of an event.
        batch: All that is known of a batch.
        process: All that is known of a process.
    """

    kind: Kind
    id: UUID
    name: str
    at: datetime | None = None
    correlation_id: UUID | None = None
    cause: UUID | None = None
    depth: int = 0
    place: str | None = None
    command: TracedCommand | None = None
    event: RecordedEvent | None = None
    batch: BatchMetadata | None = None
    process: ProcessMetadata | None = None

    @property
    def status(self) -> str | None:
        """Where a command, a batch or a process stands."""
        if self.command is not None:
            return self.command.command.status.value
        if self.batch is not None:
            return self.batch.status.value
        return None if self.process is None else self.process.status.value

    @property
    def waited(self) -> float | None:
        """Seconds from when a command was sent until a worker first had it."""
        if self.command is None or self.command.first_received is None:
            return None
        return (self.command.first_received - self.command.command.created_at).total_seconds()

    @property
    def took(self) -> float | None:
        """Seconds from when a worker last had a command to its end."""
        if self.command is None or self.command.last_received is None or self.ended_at is None:
            return None
        return (self.ended_at - self.command.last_received).total_seconds()

    @property
    def ended_at(self) -> datetime | None:
        """When a command, a batch or a process ended; None if it has not."""
        if self.command is not None:
            known = self.command.command
            return known.updated_at if known.status in TERMINAL else None
        if self.batch is not None:
            return self.batch.completed_at
        return None if self.process is None else self.process.completed_at

    @property
    def is_pruned(self) -> bool:
        """Whether what it said is no longer kept: payload and cause of a command, the payload of an event."""
        if self.command is not None:
            return self.command.command.data is None
        return self.event is not None and self.event.tombstoned


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that follows from each other.

    Args:
        asked: The id that it was found by.
        correlation_ids: Of the conversation; of several, if that is a batch whose commands began one each.
        steps: Each with its effects below it, the earliest first: the tree, read from top to bottom.
        more: Whether there is more than was read.
    """

    asked: UUID
    correlation_ids: tuple[UUID, ...]
    steps: tuple[Step, ...]
    more: bool = False

    def count(self, kind: Kind) -> int:
        """How many steps are of a kind."""
        return sum(step.kind is kind for step in self.steps)


_Key: TypeAlias = tuple[Kind, str | None, UUID]


class Conversations:
    """Finds conversations.

    Args:
        commands: Where commands live.
        log: Where events live.
    """

    def __init__(self, commands: CommandStore, log: EventLog) -> None:
        self._commands = commands
        self._log = log

    async def find(self, asked: UUID | str, *, limit: int = DEFAULT_LIMIT) -> Conversation:
        """The conversation that something belongs to.

        Args:
            asked: The id of a command, an event, a batch or a process, or a correlation id.
            limit: So many commands, and so many events, at most.

        Raises:
            ConversationNotFoundError: Nothing has this id.
            InvalidInputError: Not an id, or a limit out of range.
            StorageError: The database cannot say.
        """
        wanted = checked_id(asked, "id")
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
            raise InvalidInputError(f"limit must be a whole number from 1 to {MOST:,}, not {shown(limit)}")
        first = await self._named(wanted, limit)
        names = dict.fromkeys(step.correlation_id for step in first if step.correlation_id is not None)
        ids = (wanted, *(name for name in names if name != wanted))[:_MOST_CONVERSATIONS]
        commands = [_of_command(each) for each in await self._commands.conversation(ids, limit=limit + 1)]
        events = [_of_event(each) for each in await self._log.conversation(ids, limit=limit + 1)]
        more = len(names) >= _MOST_CONVERSATIONS or max(len(commands), len(events)) > limit
        more = more or any(step.batch is not None and step.batch.total_count > limit for step in first)
        found = {_key(step): step for step in (*commands[:limit], *events[:limit])}
        for step in first:
            found.setdefault(_key(step), step)
        if not found:
            raise ConversationNotFoundError(wanted)
        await self._go_up(found)
        _guess_causes(found)
        said = tuple(dict.fromkeys(step.correlation_id for step in found.values() if step.correlation_id in {*ids}))
        return Conversation(wanted, tuple(each for each in said if each is not None), _tree(found), more)

    async def _named(self, wanted: UUID, limit: int) -> list[Step]:
        """What has this very id, and what is in the batch or process that has it."""
        found = [_of_command(each) for each in await self._commands.commands_known_as(wanted)]
        if (event := await self._log.event_known_as(wanted)) is not None:
            found.append(_of_event(event))
        for batch in await self._commands.batches_known_as(wanted):
            found.append(_of_batch(batch))
            which = CommandFilter(domain=batch.domain, batch_id=wanted)
            found += [
                _of_command(TracedCommand(each)) for each in await self._commands.query(which, limit=limit, offset=0)
            ]
        if (process := await self._commands.processes.get(wanted)) is not None:
            found.append(_of_process(process))
        return found

    async def _go_up(self, found: dict[_Key, Step]) -> None:
        """Add the causes that are elsewhere, and theirs, up to the roots."""
        known = {step.id for step in found.values()}
        missing = list(dict.fromkeys(step.cause for step in found.values() if step.cause and step.cause not in known))
        for cause in missing:  # it grows
            if len(missing) > _MOST_CAUSES:
                break
            above = [_of_command(each) for each in await self._commands.commands_known_as(cause)]
            if not above and (event := await self._log.event_known_as(cause)) is not None:
                above = [_of_event(event)]
            known.add(cause)
            for step in above or [Step(Kind.MISSING, cause, "")]:
                found[_key(step)] = step
                if step.cause is not None and step.cause not in known and step.cause not in missing:
                    missing.append(step.cause)


def _of_command(traced: TracedCommand) -> Step:
    command = traced.command
    return Step(
        Kind.COMMAND,
        command.command_id,
        command.command_type,
        command.created_at,
        command.correlation_id,
        command.causation_id,
        place=command.domain,
        command=traced,
    )


def _of_event(recorded: RecordedEvent) -> Step:
    event = recorded.event
    return Step(
        Kind.EVENT,
        event.event_id,
        event.event_type,
        recorded.recorded_at,
        event.correlation_id or event.event_id,
        event.causation_id,
        place=str(recorded.stream),
        event=recorded,
    )


def _of_batch(batch: BatchMetadata) -> Step:
    return Step(Kind.BATCH, batch.batch_id, batch.name or "", batch.created_at, place=batch.domain, batch=batch)


def _of_process(process: ProcessMetadata) -> Step:
    return Step(
        Kind.PROCESS,
        process.process_id,
        process.process_type,
        process.created_at,
        process.correlation_id,
        place=process.domain,
        process=process,
    )


def _key(step: Step) -> _Key:
    return step.kind, step.place if step.kind in {Kind.COMMAND, Kind.BATCH} else None, step.id


def _guess_causes(found: dict[_Key, Step]) -> None:
    """Let derived ids say the causes of what was pruned; and put what a batch or process began under it."""
    derived: dict[UUID, UUID] = {}
    if any(step.is_pruned and step.cause is None and step.kind is Kind.COMMAND for step in found.values()):
        for step in found.values():
            if step.command is not None:
                derived |= dict.fromkeys(_ids_after(step.command.command), step.id)
    groups = {step.id for step in found.values() if step.kind in {Kind.BATCH, Kind.PROCESS}}
    known = {step.id for step in found.values() if step.kind is not Kind.MISSING}
    for key, step in found.items():
        if step.command is None or step.cause in known:
            continue
        command = step.command.command
        group = command.batch_id if command.batch_id in groups else _process_of(command)
        if group in groups:
            found[key] = replace(step, cause=group)
        elif step.cause is None and step.is_pruned:
            found[key] = replace(step, cause=derived.get(step.id))


def _ids_after(command: CommandMetadata) -> Iterable[UUID]:
    """The ids that what follows from a command has, where they are derived from its own."""
    for number in range(1, _MOST_SENDS + 1):
        yield derived_id(command, f"#{number}")
    for what in ("Reply", "Reply again"):  # as commandbus.reply_ids does
        yield UUID(hashlib.md5(f"{what}/{command.command_id}".encode(), usedforsecurity=False).hexdigest())


def _process_of(command: CommandMetadata) -> UUID | None:
    said = (command.headers or {}).get("process_id")
    try:
        return None if said is None else checked_id(said, "process_id")
    except InvalidInputError:
        return None


def _tree(found: dict[_Key, Step]) -> tuple[Step, ...]:
    """All steps, each with its effects below it, without recursion: a conversation may be deeper than the stack."""
    steps = {_key(step): step for step in sorted(found.values(), key=_order)}
    by_id: dict[UUID, _Key] = {}
    for key, step in steps.items():
        by_id.setdefault(step.id, key)
    above = {key: by_id[step.cause] for key, step in steps.items() if step.cause is not None and step.cause in by_id}
    for key in _cuts(above, {key: place for place, key in enumerate(steps)}):
        del above[key]
    below: dict[_Key, list[_Key]] = {}
    for key, cause in above.items():
        below.setdefault(cause, []).append(key)
    told: list[Step] = []
    waiting = [(key, 0) for key in reversed(steps) if key not in above]
    while waiting:
        key, depth = waiting.pop()
        told.append(replace(steps[key], depth=depth))
        waiting += [(each, depth + 1) for each in reversed(below.get(key, ()))]
    return tuple(told)


def _cuts(above: Mapping[_Key, _Key], places: Mapping[_Key, int]) -> list[_Key]:
    """Of each circle that the causes go in, the earliest."""
    cuts: list[_Key] = []
    seen: dict[_Key, _Key] = {}
    for first in above:
        way: list[_Key] = []
        key: _Key | None = first
        while key is not None and key not in seen:
            seen[key] = first
            way.append(key)
            key = above.get(key)
        if key is not None and seen[key] == first:
            cuts.append(min(way[way.index(key) :], key=places.__getitem__))
    return cuts


def _order(step: Step) -> tuple[object, ...]:
    """By time; commands sent at once as they were sent; events of one transaction by position; a lost cause first."""
    position = 0 if step.event is None else step.event.position
    return step.at is not None, step.at or 0, step.kind is Kind.EVENT, position
