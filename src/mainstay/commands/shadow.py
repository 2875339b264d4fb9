"""Shadow runs: deciding again on what was decided, with other code, and telling what comes out otherwise.

Promises. Each decision of the ledger is made again by the handlers given: on the payload as it was sent, in the name in
which it was sent, with the aggregate as it was at the version that was read. Compared are the outcome, the stream, the
events (type, form and payload), the next commands (domain, type and payload), the reply, and of a refusal its code; ids
and times that mainstay draws are not. Recorded events of an older form are upcast first, so a new form alone is no
difference. Nothing is written: what a handler asks of its connection, it asks in a transaction that is read only.

What cannot be compared is counted by its reason: it is not taken for equal.

What it cost. A decision for a decision: one question for its command, one for the events of its stream, one for those
that followed, and one for each next command. Of deciders the last states are kept, so a stream is not read from its
beginning each time. In memory there is one page of the ledger, and the differences that are kept.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mainstay.commands.aggregates import Aggregates, RaisedEvent
from mainstay.commands.carried import TENANT
from mainstay.commands.dry_run import DryRun
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.ledger import Decision, DecisionFilter
from mainstay.commands.lifecycle import ReplyOutcome
from mainstay.commands.recorded import recorded_command
from mainstay.commands.store import CommandStore, Verb
from mainstay.commands.trying import Trial
from mainstay.errors import EventError, HandlerNotFoundError, StreamTombstonedError

PAGE = 100
"""Decisions that are fetched at once."""
_DEFAULT_REPLY = {"version", "position"}
_WRITES = "ReadOnlySqlTransaction"


class ShadowVerdict(StrEnum):
    """What deciding again on a command came to."""

    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    NOT_COMPARABLE = "NOT_COMPARABLE"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that came out otherwise.

    Args:
        what: ``outcome``, ``stream``, ``events``, ``sends`` or ``reply``.
        before: As it was recorded.
        after: As it came out now.
    """

    what: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Shadowed:
    """One command that was decided on again.

    Args:
        decision: As it was recorded.
        verdict: What came of it.
        reason: Why it is not comparable.
        differences: What came out otherwise.
    """

    decision: Decision
    verdict: ShadowVerdict
    reason: str | None = None
    differences: tuple[Difference, ...] = ()


@dataclass(slots=True)
class ShadowReport:
    """What a shadow run came to.

    Args:
        equal: How many came out as before.
        different: How many did not.
        not_comparable: How many could not be compared, by the reason.
        differences: The first of those that came out otherwise.
        last: The number of the last decision; where another run may go on.
    """

    equal: int = 0
    different: int = 0
    not_comparable: dict[str, int] = field(default_factory=dict)
    differences: list[Shadowed] = field(default_factory=list)
    last: int = 0

    @property
    def checked(self) -> int:
        """How many decisions were looked at."""
        return self.equal + self.different + sum(self.not_comparable.values())

    @property
    def agrees(self) -> bool:
        """Whether nothing came out otherwise."""
        return not self.different

    def take(self, found: Shadowed, keep: int) -> None:
        """Count one.

        Args:
            found: Which.
            keep: How many differences to keep in all.
        """
        self.last = found.decision.number
        if found.verdict is ShadowVerdict.EQUAL:
            self.equal += 1
        elif found.reason is not None:
            self.not_comparable[found.reason] = self.not_comparable.get(found.reason, 0) + 1
        else:
            self.different += 1
            if len(self.differences) < keep:
                self.differences.append(found)


class _NotComparable(Exception):  # noqa: N818 - says why, to the one who counts
    pass


class Shadow:
    """Decides again, and compares.

    Args:
        store: Where commands live.
        registry: The code to decide with.
        aggregates: Where aggregates are loaded.
        ignore: Fields of payloads and replies that may differ, such as those with times or drawn ids.
    """

    def __init__(
        self, store: CommandStore, registry: HandlerRegistry, aggregates: Aggregates | None, ignore: Collection[str]
    ) -> None:
        self._store = store
        self._registry = registry
        self._aggregates = aggregates
        self._ignore = frozenset(ignore)

    async def run(self, which: DecisionFilter, *, after: int, limit: int | None) -> AsyncIterator[Shadowed]:
        """Decisions one by one, in the order in which their commands were sent.

        Raises:
            StorageUnavailableError: The database cannot be reached.
        """
        while limit is None or limit > 0:
            page = await self._store.ledger.list(which, after=after, limit=PAGE if limit is None else min(PAGE, limit))
            for decision in page:
                yield await self.compare(decision)
            if not page:
                return
            after = page[-1].number
            limit = None if limit is None else limit - len(page)

    async def compare(self, decision: Decision) -> Shadowed:
        """Decide again on one command."""
        try:
            differences = await self._differences(decision)
        except _NotComparable as error:
            return Shadowed(decision, ShadowVerdict.NOT_COMPARABLE, str(error))
        except StreamTombstonedError:
            return Shadowed(decision, ShadowVerdict.NOT_COMPARABLE, "its stream is tombstoned")
        except EventError as error:  # this code cannot read what it once wrote
            differences = (Difference("events", "readable", f"{type(error).__name__}: {error}"),)
        verdict = ShadowVerdict.DIFFERENT if differences else ShadowVerdict.EQUAL
        return Shadowed(decision, verdict, None, differences)

    async def _differences(self, decision: Decision) -> tuple[Difference, ...]:
        aggregates = self._aggregates
        if aggregates is None:
            raise _NotComparable("its handler is not on an aggregate")
        try:
            handler = self._registry.find(decision.domain, decision.command_type)
        except HandlerNotFoundError:
            raise _NotComparable("it has no handler any more") from None
        if handler.options.target is None:
            raise _NotComparable("its handler is not on an aggregate")
        known = await self._store.get(decision.domain, decision.command_id)
        if known is None or known.data is None or decision.reply is None:
            raise _NotComparable("its payload was pruned")
        events: tuple[RaisedEvent, ...] = ()
        if decision.events:
            events = await aggregates.recorded(decision.stream, decision.version_read, decision.version)
        sends = await self._recorded_sends(decision)
        command = recorded_command(known)
        if decision.stream.tenant_id is not None:
            command = replace(command, headers=command.headers | {TENANT: decision.stream.tenant_id})
        trial = Trial(self._store, decision.domain, self._registry, aggregates, version=decision.version_read)
        found = await trial.run_dry(command)
        if found.error_code == StreamTombstonedError.__name__:
            raise _NotComparable("its stream is tombstoned")
        if found.error_code == _WRITES:
            raise _NotComparable("its handler writes in its transaction")
        return tuple(self._compared(decision, found, events, sends))

    def _compared(
        self,
        decision: Decision,
        found: DryRun,
        events: Sequence[RaisedEvent],
        sends: Sequence[dict[str, Any]],
    ) -> Sequence[Difference]:
        reply = decision.reply
        was_done = reply is not None and reply.outcome is ReplyOutcome.SUCCESS
        before: dict[str, Any] = {"outcome": "COMPLETE"} if was_done else {"outcome": "FAIL"}
        after: dict[str, Any] = {"outcome": found.verb.value}
        if not was_done and reply is not None:
            before["error_code"] = reply.error_code
        if found.verb is not Verb.COMPLETE:
            after["error_code"] = found.error_code
        if before != after:
            if found.error_message is not None:
                after["error_message"] = found.error_message
            return [Difference("outcome", before, after)]
        if not was_done:
            return []
        replied = reply.data if reply is not None else None
        if found.replies_itself or not isinstance(replied, dict) or not replied.keys() <= _DEFAULT_REPLY:
            replies = (self._left(replied), self._left(found.reply))
        else:
            replies = ({"version": replied.get("version")}, found.reply)
        unknown = [each for each in sends if "data" not in each]
        now = [{"domain": s.domain, "command_type": s.command_type, "data": self._left(s.data)} for s in found.sends]
        if unknown:  # of one that was pruned, or forgotten, the payload is not compared
            now = [
                {name: value for name, value in each.items() if name in there}
                for each, there in zip(now, sends, strict=False)
            ] + now[len(sends) :]
        pairs: list[tuple[str, Any, Any]] = [
            ("stream", decision.stream._asdict(), found.stream and found.stream._asdict()),
            ("events", [self._event(each) for each in events], [self._event(each) for each in found.events]),
            ("sends", [each | ({"data": self._left(each["data"])} if "data" in each else {}) for each in sends], now),
            ("reply", *replies),
        ]
        return [Difference(what, was, now) for what, was, now in pairs if was != now]

    def _event(self, event: RaisedEvent) -> dict[str, Any]:
        payload = self._left(event.payload)
        return {"event_type": event.event_type, "event_version": event.event_version, "payload": payload}

    def _left(self, value: Any) -> Any:
        """A value without what is to be ignored."""
        if not self._ignore or not isinstance(value, dict):
            return value
        return {name: part for name, part in value.items() if name not in self._ignore}

    async def _recorded_sends(self, decision: Decision) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for domain, command_id in decision.sends:
            known = await self._store.get(domain, command_id)
            told: dict[str, Any] = {"domain": domain}
            if known is not None:
                told["command_type"] = known.command_type
                if known.data is not None:
                    told["data"] = known.data
            found.append(told)
        return found
