"""A state machine of aggregates: whatever is appended, saved, refused and rolled back, folds are what the model says.

The model holds, for each stored event, what it must become after upcasting, and folds that anew each time. Loads go
through snapshots, true and wrong ones, and past them; all must give the same. The fold depends on the order of events.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import BaseModel

from mainstay import (
    AggregateRepository,
    DeciderAggregate,
    DeclarativeAggregate,
    DomainEvent,
    EventRegistry,
    EventStore,
    RawEvent,
    Snapshot,
    SnapshotPolicy,
    StreamId,
    handles,
)
from mainstay.errors import (
    AggregateNotFoundError,
    BusinessRuleException,
    OptimisticLockError,
    StreamTombstonedError,
)
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion

IDS = ["1", "2", "3"]
WHICH = st.sampled_from(IDS)
AMOUNT = st.integers(-9, 9)
AMOUNTS = st.lists(AMOUNT, min_size=1, max_size=4)
PRIME = 1_000_003


class Moved(DomainEvent, event_type="FoldMoved", event_version=2):
    amount: int


class Cleared(DomainEvent, event_type="FoldCleared"):
    pass


class State(BaseModel):
    value: int = 0
    events: int = 0


def folded(state: State, part: int | None) -> State:
    """After one event: an amount that was moved, or None for a clearing."""
    value = 0 if part is None else (state.value * 31 + part) % PRIME
    return State(value=value, events=state.events + 1)


class Chain(DeclarativeAggregate[State]):
    aggregate_type = "FoldChain"

    def move(self, amounts: Iterable[int]) -> None:
        for amount in amounts:
            self.raise_event(Moved, amount=amount)

    @handles(Moved)
    def _moved(self, event: Moved) -> None:
        self._state = folded(self._state or State(), event.amount)

    @handles(Cleared)
    def _cleared(self, event: Cleared) -> None:
        self._state = folded(self._state or State(), None)


class Purse(DeciderAggregate[State, int]):
    aggregate_type = "FoldPurse"

    @staticmethod
    def initial_state() -> State:
        return State()

    @staticmethod
    def decide(state: State, command: int) -> Iterable[DomainEvent]:
        if command < 0:
            raise BusinessRuleException("NEGATIVE", "nothing can be taken out")
        return [Moved(amount=command), Cleared()] if command > 7 else [Moved(amount=command)]

    @staticmethod
    def evolve(state: State, event: DomainEvent) -> State:
        return folded(state, event.amount if isinstance(event, Moved) else None)


def registry() -> EventRegistry:
    made = EventRegistry([Moved, Cleared])
    made.upcast(Moved, from_version=1)(lambda data: {"amount": data["sum"]})
    made.upcast("FoldBoth", from_version=1, into=[Moved, Cleared])(_split)
    made.upcast("FoldNoise", from_version=1)(lambda _: None)
    return made


def _split(data: dict[str, Any]) -> list[RawEvent]:
    return [RawEvent("FoldCleared", {}), RawEvent("FoldMoved", {"amount": data["amount"]}, version=2)]


#: Old forms: what is stored, and what it is now.
OLD = {
    "FoldMoved": (lambda n: b'{"sum": %d}' % n, lambda n: [n]),
    "FoldBoth": (lambda n: b'{"amount": %d}' % n, lambda n: [None, n]),
    "FoldNoise": (lambda n: b'{"any": %d}' % n, lambda n: []),
}


class FoldMachine(RuleBasedStateMachine):
    """Aggregates on an engine; a subclass opens it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store: EventStore = self.run(self.open())
        snapshots = SnapshotPolicy.every(3)
        self.chains = AggregateRepository(self.store, Chain, snapshots=snapshots, attempts=50)
        self.purses = AggregateRepository(self.store, Purse, snapshots=snapshots, attempts=50)
        self.model: dict[tuple[str, str], list[list[int | None]]] = {}
        """For each stored event of a stream, what it is after upcasting."""
        self.gone: set[tuple[str, str]] = set()

    async def open(self) -> EventStore:
        raise NotImplementedError

    async def close(self) -> None:
        """Put the engine away."""

    def run(self, action: Any) -> Any:
        return self.loop.run_until_complete(action)

    def teardown(self) -> None:
        try:
            self.run(self.close())
        finally:
            self.loop.close()

    def stored(self, kind: str, which: str) -> list[list[int | None]]:
        return self.model.setdefault((kind, which), [])

    def is_gone(self, kind: str, which: str) -> bool:
        return (kind, which) in self.gone

    # -- appends ------------------------------------------------------------------------------------------------------
    @rule(which=WHICH, amounts=AMOUNTS)
    def move(self, which: str, amounts: list[int]) -> None:
        if self.is_gone("FoldChain", which):
            return
        chain = self.run(self.chains.execute(which, lambda chain: chain.move(amounts)))
        self.stored("FoldChain", which).extend([amount] for amount in amounts)
        assert chain.version == len(self.stored("FoldChain", which))

    @rule(which=WHICH, amount=AMOUNT)
    def decide(self, which: str, amount: int) -> None:
        """A decider accepts, with one event or two, or refuses and leaves nothing."""
        if self.is_gone("FoldPurse", which):
            return
        try:
            self.run(self.purses.execute(which, amount))
        except BusinessRuleException:
            assert amount < 0
        else:
            self.stored("FoldPurse", which).extend([[amount], [None]] if amount > 7 else [[amount]])

    @rule(which=WHICH, kind=st.sampled_from(sorted(OLD)), amount=AMOUNT)
    def old_form(self, which: str, kind: str, amount: int) -> None:
        """An event as an older program wrote it, which becomes another one, several, or none."""
        if self.is_gone("FoldChain", which):
            return
        write, becomes = OLD[kind]
        event = NewEvent(uuid4(), kind, write(amount), datetime.now(UTC))
        expected = ExpectedVersion.exact(len(self.stored("FoldChain", which)))
        self.run(self.store.log.append([StreamAppend(StreamId("FoldChain", which), (event,), expected)]))
        self.stored("FoldChain", which).append(becomes(amount))

    @rule(which=WHICH, many=st.integers(2, 5))
    def many_at_once(self, which: str, many: int) -> None:
        """All of them, each once, in whatever order."""
        if self.is_gone("FoldChain", which):
            return

        async def all_of_them() -> None:
            await asyncio.gather(*(self.chains.execute(which, lambda chain: chain.move([1])) for _ in range(many)))

        self.run(all_of_them())
        self.stored("FoldChain", which).extend([1] for _ in range(many))

    @rule(which=WHICH, first=AMOUNTS, second=AMOUNTS)
    def two_copies(self, which: str, first: list[int], second: list[int]) -> None:
        """Who saves second is refused, keeps its events, and has written nothing."""
        if self.is_gone("FoldChain", which):
            return
        quick, slow = (self.run(self.chains.load_or_create(which)) for _ in range(2))
        quick.move(first)
        slow.move(second)
        self.run(self.chains.save(quick))
        self.stored("FoldChain", which).extend([amount] for amount in first)
        with pytest.raises(OptimisticLockError) as refused:
            self.run(self.chains.save(slow))
        assert refused.value.actual == len(self.stored("FoldChain", which))
        assert len(slow.uncommitted_events) == len(second)

    @rule(which=WHICH, amounts=AMOUNTS, commits=st.booleans())
    def in_a_transaction(self, which: str, amounts: list[int], *, commits: bool) -> None:
        if self.is_gone("FoldChain", which):
            return

        async def act() -> None:
            async with self.store.transaction() as conn:
                chain = await self.chains.load_or_create(which, conn=conn)
                chain.move(amounts)
                await self.chains.save(chain, conn=conn)
                again = await self.chains.load(which, conn=conn)
                assert (again.version, again.state) == (chain.version, chain.state)
                if not commits:
                    raise ZeroDivisionError

        try:
            self.run(act())
        except ZeroDivisionError:
            return
        self.stored("FoldChain", which).extend([amount] for amount in amounts)

    @rule(which=WHICH, amount=st.integers(0, 5))
    def tombstone(self, which: str, amount: int) -> None:
        """Seldom: the purse with this amount in its first event is gone for good."""
        stored = self.stored("FoldPurse", which)
        if stored and stored[0] == [amount] and not self.is_gone("FoldPurse", which):
            self.run(self.store.tombstone(StreamId("FoldPurse", which), reason="asked for", actor="ada"))
            self.gone.add(("FoldPurse", which))

    # -- snapshots ----------------------------------------------------------------------------------------------------
    @rule(which=WHICH, wrong=st.sampled_from(["event", "ahead", "state", "schema"]))
    def a_wrong_snapshot(self, which: str, wrong: str) -> None:
        """Of another event, of a version that is not there, of another form, or of another schema."""
        snapshots = self.store.snapshots
        assert snapshots is not None
        found: Snapshot | None = self.run(snapshots.load(StreamId("FoldChain", which)))
        if found is None:
            return
        changed = {
            "event": replace(found, event_id=uuid4(), state=b'{"value": 7, "events": 7}'),
            "ahead": replace(found, version=found.version + 1_000, state=b'{"value": 7, "events": 7}'),
            "state": replace(found, state=b'{"value": "seven"}'),
            "schema": replace(found, schema="0-another", state=b'{"value": 7, "events": 7}'),
        }[wrong]
        self.run(snapshots.save(changed))

    # -- folds --------------------------------------------------------------------------------------------------------
    def expected(self, kind: str, which: str, version: int | None = None) -> State:
        state = State()
        for parts in self.stored(kind, which)[:version]:
            for part in parts:
                state = folded(state, part)
        return state

    @rule(which=WHICH, version=st.integers(1, 12))
    def as_it_was(self, which: str, version: int) -> None:
        """Loaded as of a version."""
        stored = self.stored("FoldChain", which)
        if not stored or self.is_gone("FoldChain", which):
            return
        chain = self.run(self.chains.load(which, version=version))
        assert chain.version == min(version, len(stored))
        assert (chain.state_or_none or State()) == self.expected("FoldChain", which, version)

    @invariant()
    def folds_are_what_the_model_says(self) -> None:
        for which in IDS:
            for kind, aggregate, through_snapshots in (
                ("FoldChain", Chain, self.chains),
                ("FoldPurse", Purse, self.purses),
            ):
                past_them = AggregateRepository(self.store, aggregate, snapshots=SnapshotPolicy.never())
                for repository in (through_snapshots, past_them):
                    self._is_as_expected(repository, kind, which)

    def _is_as_expected(self, repository: AggregateRepository[Any], kind: str, which: str) -> None:
        stored = self.stored(kind, which)
        try:
            found = self.run(repository.load(which))
        except AggregateNotFoundError:
            assert not stored
        except StreamTombstonedError:
            assert self.is_gone(kind, which)
        else:
            assert not self.is_gone(kind, which)
            assert (found.version, found.state_or_none or State()) == (len(stored), self.expected(kind, which))

    @invariant()
    def the_feed_has_the_same_parts(self) -> None:
        """Read as classes, through upcasters, the feed has for each stream what the model has."""
        met: dict[tuple[str, str], list[int | None]] = {}

        async def read() -> None:
            async for envelope in self.store.read_all():
                event = envelope.event
                if isinstance(event, Moved | Cleared):
                    part = event.amount if isinstance(event, Moved) else None
                    met.setdefault((envelope.stream.category, str(envelope.stream.id)), []).append(part)

        self.run(read())
        for (kind, which), stored in self.model.items():
            if not self.is_gone(kind, which):
                assert met.get((kind, which), []) == [part for parts in stored for part in parts]
