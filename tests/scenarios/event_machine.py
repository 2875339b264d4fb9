"""A state machine of writers, readers and transactions against a small model of a log of events.

Whatever is done, in whatever order, the log says what the model says. The model holds lists, and knows nothing of how a
log does it. Where the log decides something that nobody can foretell (positions; who of several at the same time is
first), the model takes what the log says, if that is one of the ways in which it could have come.

Up to two transactions are open at a time, where the engine lets two write side by side. The machine has one hand only:
it ends a transaction before it does what would wait for that. As in the machine of commands no rule has a precondition;
a rule that finds nothing to do does nothing.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstay.errors import (
    EventError,
    OptimisticLockError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
)
from mainstay.events.log import Condition, EventLog, FeedFilter, NewEvent, Query, QueryItem, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.testing.contracts.events.base import OnPurposeError, given, ids, new, positions, versions
from tests.scenarios.event_model import EventModel, Known, Open, Refused, fits

STREAMS = [StreamId("A", "1"), StreamId("A", "1", "t"), StreamId("A", "2"), StreamId("B", "1", "t")]
EVERYTHING = 100_000
WHICH = st.integers(0, len(STREAMS) - 1)
USE = st.integers(0, 2)
"""Which open transaction, or none."""
TYPE = st.sampled_from(["Placed", "Paid"])
TAGS = st.sets(st.sampled_from(["x", "y"]))
EXPECTED = st.sampled_from(["any", "any", "exists", "none", "now", "now", "behind", "ahead", "before"])
IDS = st.sampled_from(["fresh", "fresh", "fresh", "last", "last", "mixed", "turned"])
ASKED = st.tuples(TYPE, TAGS, USE, st.integers(0, 3))
PART = st.tuples(WHICH, st.integers(0, 3), EXPECTED, IDS)
PARTS = st.lists(PART, min_size=1, max_size=3, unique_by=lambda part: part[0])


class EventMachine(EventModel, RuleBasedStateMachine):
    """Writers and readers; a subclass opens an engine."""

    side_by_side = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log: EventLog = self.run(self.open())
        self.count = 0
        self.pages: list[tuple[int, int]] = [(0, 0)]
        """Where a page of the feed ended, and how many events had been read by then."""
        self.read: list[UUID] = []

    async def open(self) -> EventLog:
        raise NotImplementedError

    async def close(self) -> None:
        """Put the engine away."""

    def run(self, action: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(action)

    def teardown(self) -> None:
        try:
            while self.transactions:
                self.end_transaction(self.transactions[0], commit=False)
            self.run(self.close())
        finally:
            self.loop.close()

    # -- transactions -------------------------------------------------------------------------------------------------
    def turn(self, use: int) -> Open | None:
        """The transaction to do something in, begun if need be; None for one of the log's own."""
        if use > len(self.transactions) and len(self.transactions) < (2 if self.side_by_side else 1):
            block = self.log.transaction()
            self.transactions.append(Open(block, self.run(block.__aenter__())))
        return self.transactions[min(use, len(self.transactions)) - 1] if use and self.transactions else None

    def make_way(self, mine: Open | None, names: Iterable[StreamId], *, asks: bool = False) -> None:
        """End the other transactions that would have to be waited for."""
        wanted = set(names)
        for other in [each for each in self.transactions if each is not mine]:
            if asks or not self.side_by_side or other.has_asked or other.held & wanted:
                self.end_transaction(other, commit=self.count % 3 > 0)
        if mine is not None:
            mine.held |= wanted

    # -- appending ----------------------------------------------------------------------------------------------------
    def next_id(self) -> UUID:
        self.count += 1
        return UUID(int=self.count)

    def drawn(
        self, mine: Open | None, part: tuple[int, int, str, str], event_type: str, tags: set[str]
    ) -> StreamAppend:
        """An append as it was drawn, relative to what the stream is like."""
        which, count, expected, kind = part
        name = STREAMS[which]
        stream = self.seen(mine, name)
        fresh = [self.next_id() for _ in range(count)]
        chosen = {
            "fresh": fresh,
            "last": stream.last,
            "mixed": [*stream.last[-1:], *fresh],
            "turned": stream.last[::-1],
        }[kind]
        version = len(stream.events)
        wanted = {
            "any": ExpectedVersion.any(),
            "exists": ExpectedVersion.stream_exists(),
            "none": ExpectedVersion.no_stream(),
            "now": ExpectedVersion.exact(version),
            "behind": ExpectedVersion.exact(max(0, version - 1)),
            "ahead": ExpectedVersion.exact(version + 1),
            "before": ExpectedVersion.exact(max(0, version - len(chosen))),
        }[expected]
        return StreamAppend(name, tuple(new(event_type, *sorted(tags), event_id=each) for each in chosen), wanted)

    @rule(use=USE, part=PART, event_type=TYPE, tags=TAGS)
    def append(self, use: int, part: tuple[int, int, str, str], event_type: str, tags: set[str]) -> None:
        """To one stream, as expected or not, again or not."""
        self._append(use, [part], event_type, tags)

    @rule(use=USE, parts=PARTS, event_type=TYPE, tags=TAGS)
    def append_all(self, use: int, parts: list[tuple[int, int, str, str]], event_type: str, tags: set[str]) -> None:
        """To several streams, with guards."""
        self._append(use, parts, event_type, tags)

    @rule(use=USE, part=PART, event_type=TYPE, tags=TAGS, asked=ASKED)
    def append_if(
        self,
        use: int,
        part: tuple[int, int, str, str],
        event_type: str,
        tags: set[str],
        asked: tuple[str, set[str], int, int],
    ) -> None:
        """On a condition."""
        self._append(use, [part], event_type, tags, asked)

    def condition(self, kind: str, tags: set[str], tenant: int, back: int) -> Condition:
        """That nothing of a kind happened after one of the last positions."""
        found = [row[2].position for row in self.visible()]
        after = [0, *found][-1 - min(back, len(found))]
        items = (QueryItem(frozenset({kind}), frozenset(tags)),) if tenant < 2 else ()
        return Condition(Query(items), after, "t" if tenant == 1 else None)

    def _append(
        self,
        use: int,
        parts: list[tuple[int, int, str, str]],
        event_type: str,
        tags: set[str],
        asked: tuple[str, set[str], int, int] | None = None,
    ) -> None:
        mine = self.turn(use)
        self.make_way(mine, [STREAMS[part[0]] for part in parts], asks=asked is not None)
        appends = [self.drawn(mine, part, event_type, tags) for part in parts]
        condition = self.condition(*asked) if asked else None
        try:
            expected = self.judge(mine, appends, condition)
        except Refused as refused:
            # A refusal ends a transaction on some engines, so it is asked for in one of its own.
            if mine is None:
                self._is_refused(self.log.append(appends, condition=condition), refused)
            return
        answers = self.run(self.log.append(appends, condition=condition, conn=mine and mine.conn))
        assert [(answer.version, answer.repeated) for answer in answers] == expected
        assert [answer.stream for answer in answers] == [append.stream for append in appends]
        if mine is not None and condition is not None:
            mine.has_asked = True
        for append, answer in zip(appends, answers, strict=True):
            if not append.events:
                assert answer.position is None
            elif answer.repeated:
                assert answer.position == self.seen(mine, append.stream).events[answer.version - 1].position
            else:
                self._learn(mine, append.stream, append.events, answer.position)

    def _learn(self, mine: Open | None, name: StreamId, events: Iterable[NewEvent], last: int | None) -> None:
        """Take the positions that the log has given, if they are higher than all that can be seen from here."""
        stream = self.touched(mine, name)
        before = len(stream.events)
        stream.events += [Known(each.event_id, each.event_type, frozenset(each.tags)) for each in events]
        stream.last = ids(events)
        found = self.run(self.log.read_streams([(name, before)], conn=mine and mine.conn))[name]
        assert ids(found) == stream.last
        assert positions(found) == sorted(set(positions(found)))
        assert last in (None, found[-1].position)
        seen = [event.position for each in self.committed.values() for event in each.events if event.position]
        own = [event.position for each in (mine.streams.values() if mine else ()) for event in each.events]
        assert found[0].position > max([0, *seen, *own])
        for known, event in zip(stream.events[before:], found, strict=True):
            known.position = event.position
        if mine is not None:
            mine.first = min(mine.first or found[0].position, found[0].position)

    @rule(use=USE, which=st.lists(WHICH, max_size=6))
    def import_events(self, use: int, which: list[int]) -> None:
        names = [STREAMS[each] for each in which]
        pairs = [(name, new("Imported", event_id=self.next_id())) for name in names]
        mine = self.turn(use)
        self.make_way(mine, names)
        closed = [self.seen(mine, name) for name in names]
        if any(stream.archived or stream.tombstoned is not None for stream in closed):
            if mine is None:
                error = self._error(self.log.import_events(given(pairs)))
                assert isinstance(error, StreamArchivedError | StreamTombstonedError)
            return
        assert self.run(self.log.import_events(given(pairs), conn=mine and mine.conn)) == len(pairs)
        before = {name: len(self.seen(mine, name).events) for name in names}
        found = self.run(self.log.read_streams(list(before.items()), conn=mine and mine.conn))
        for name, events in found.items():
            assert ids(events) == [event.event_id for other, event in pairs if other == name]
        for position in sorted(event.position for events in found.values() for event in events):
            ((name, event),) = [
                (name, event) for name, events in found.items() for event in events if event.position == position
            ]
            stream = self.touched(mine, name)
            stream.events.append(Known(event.event.event_id, "Imported", frozenset(), position))
            stream.last = [event.event.event_id]
            if mine is not None:
                mine.first = mine.first or position

    @rule(which=WHICH, many=st.integers(2, 6))
    def many_want_one_version(self, which: int, many: int) -> None:
        """At the same time: one gets it."""
        name = STREAMS[which]
        self.make_way(None, [name])
        stream = self.seen(None, name)
        if stream.archived or stream.tombstoned is not None:
            return
        expected = ExpectedVersion.exact(len(stream.events))
        appends = [StreamAppend(name, (new(event_id=self.next_id()),), expected) for _ in range(many)]

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(self.log.append([each]) for each in appends), return_exceptions=True)

        answers = self.run(all_of_them())
        won = [number for number, answer in enumerate(answers) if isinstance(answer, list)]
        assert len(won) == 1
        assert all(isinstance(answer, list | OptimisticLockError) for answer in answers)
        self._learn(None, name, appends[won[0]].events, answers[won[0]][0].position)

    @rule(which=st.lists(WHICH, min_size=2, max_size=6))
    def many_append(self, which: list[int]) -> None:
        """At the same time: all of them, in whatever order."""
        names = [STREAMS[each] for each in which]
        self.make_way(None, names)
        if any(self.seen(None, name).archived or self.seen(None, name).tombstoned is not None for name in names):
            return
        appends = [StreamAppend(name, tuple(new(event_id=self.next_id()) for _ in range(2))) for name in names]

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(self.log.append([each]) for each in appends))

        answers = [answer for (answer,) in self.run(all_of_them())]
        pairs = sorted(zip(answers, appends, strict=True), key=lambda pair: pair[0].version)
        found = self.run(
            self.log.read_streams([(name, len(self.seen(None, name).events)) for name in dict.fromkeys(names)])
        )
        for name, events in found.items():
            assert ids(events) == [each for _, append in pairs if append.stream == name for each in ids(append.events)]
            assert positions(events) == sorted(set(positions(events)))
            stream = self.touched(None, name)
            stream.last = ids(events)[-2:]
            stream.events += [Known(e.event.event_id, "Placed", frozenset(), e.position) for e in events]

    # -- transactions -------------------------------------------------------------------------------------------------
    @rule(use=st.integers(1, 2), commit=st.booleans())
    def end(self, use: int, *, commit: bool) -> None:
        if self.transactions:
            self.end_transaction(self.transactions[use % len(self.transactions)], commit=commit)

    def end_transaction(self, mine: Open, *, commit: bool) -> None:
        self.transactions.remove(mine)
        if commit:
            self.run(mine.block.__aexit__(None, None, None))
            self.committed |= mine.streams
        else:
            error = OnPurposeError()
            with suppress(OnPurposeError):
                self.run(mine.block.__aexit__(OnPurposeError, error, error.__traceback__))

    # -- ends of streams ----------------------------------------------------------------------------------------------
    @rule(use=USE, which=WHICH, reason=st.sampled_from(["asked for", "a mistake"]))
    def tombstone(self, use: int, which: int, reason: str) -> None:
        self._change(use, STREAMS[which], reason)

    @rule(use=USE, which=WHICH, archived=st.booleans())
    def archive(self, use: int, which: int, *, archived: bool) -> None:
        self._change(use, STREAMS[which], archived)

    def _change(self, use: int, name: StreamId, to: str | bool) -> None:  # noqa: FBT001  # one of two kinds of end
        mine = self.turn(use)
        self.make_way(mine, [name])
        stream = self.seen(mine, name)
        conn = mine and mine.conn
        ends = isinstance(to, str)
        refusal = None
        if not stream.events:
            refusal = StreamNotFoundError
        elif not ends and stream.tombstoned is not None:
            refusal = StreamTombstonedError
        if refusal is not None and mine is not None:
            return
        asked = (
            self.log.tombstone(name, reason=to, actor="ada", conn=conn)
            if isinstance(to, str)
            else self.log.archive(name, archived=to, conn=conn)
        )
        if refusal is not None:
            assert type(self._error(asked)) is refusal
            return
        state = self.run(asked)
        stream = self.touched(mine, name)
        if isinstance(to, bool):
            stream.archived = to
        elif stream.tombstoned is None:
            stream.tombstoned = to
            for event in stream.events:
                event.tags = frozenset()
        assert (state.archived, state.reason, state.version) == (stream.archived, stream.tombstoned, len(stream.events))

    # -- reading ------------------------------------------------------------------------------------------------------
    @rule(use=USE, which=WHICH, after=st.integers(0, 4), up_to=st.none() | st.integers(0, 8), limit=st.integers(1, 5))
    def read_stream(self, use: int, which: int, after: int, up_to: int | None, limit: int) -> None:
        name, mine = STREAMS[which], self.turn(use)
        stream = self.seen(mine, name)
        for backwards in (False, True):
            asked = self.log.read_stream(
                name,
                after_version=after,
                up_to_version=up_to,
                limit=limit,
                backwards=backwards,
                conn=mine and mine.conn,
            )
            if stream.tombstoned is not None:
                if mine is None:
                    assert isinstance(self._error(asked), StreamTombstonedError)
                else:
                    asked.close()
                continue
            numbers = list(range(1, len(stream.events) + 1))[after:up_to]
            numbers = (numbers[::-1] if backwards else numbers)[:limit]
            found = self.run(asked)
            assert versions(found) == numbers
            assert ids(found) == [stream.events[number - 1].event_id for number in numbers]

    @rule(limit=st.integers(1, 5), kind=TYPE, tags=TAGS, tenant=st.booleans(), category=st.sampled_from("AB"))
    def read_filtered(self, limit: int, kind: str, tags: set[str], category: str, *, tenant: bool) -> None:
        """Each filter alone and all at once, page by page."""
        query = Query((QueryItem(frozenset({kind}), frozenset(tags)), QueryItem(tags=frozenset({"x", "y"}))))
        rows = self.visible()
        for wanted in (
            FeedFilter(types=frozenset({kind})),
            FeedFilter(categories=frozenset({category})),
            FeedFilter(tenant_id="t"),
            FeedFilter(query=query),
            FeedFilter(frozenset({kind}), frozenset({category}), "t" if tenant else None, query),
        ):
            expected = [
                event.event_id
                for name, _, event in rows
                if wanted.types is None or event.event_type in wanted.types
                if wanted.categories is None or name.category in wanted.categories
                if wanted.tenant_id in (None, name.tenant_id)
                if wanted.query is None or fits(Condition(wanted.query, 0), event)
            ]
            found, position = [], 0
            while True:
                page = self.run(self.log.read_feed(after=position, limit=limit, wanted=wanted))
                found += ids(page.events)
                position = page.position
                if len(page.events) < limit:
                    break
            assert found == expected

    @rule(limit=st.integers(1, 4), back=st.integers(0, 6))
    def follow(self, limit: int, back: int) -> None:
        """A reader goes on where one of its last pages ended; what it has read before it reads again, in order."""
        self.pages = self.pages[: max(1, len(self.pages) - back)]
        position, count = self.pages[-1]
        page = self.run(self.log.read_feed(after=position, limit=limit))
        known = self.read[count : count + len(page.events)]
        assert ids(page.events)[: len(known)] == known
        self.read += ids(page.events)[len(known) :]
        self.pages.append((page.position, count + len(page.events)))

    @invariant()
    def tells_what_the_model_tells(self) -> None:
        rows = self.visible()
        page = self.run(self.log.read_feed(limit=EVERYTHING))
        assert [
            (event.stream, event.version, event.event.event_id, event.event.event_type, frozenset(event.event.tags))
            for event in page.events
        ] == [(name, version, known.event_id, known.event_type, known.tags) for name, version, known in rows]
        assert positions(page.events) == [known.position for _, _, known in rows]
        assert [event.tombstoned for event in page.events] == [
            self.committed[name].tombstoned is not None for name, _, _ in rows
        ]
        assert self.read[: len(rows)] == ids(page.events)[: len(self.read)]
        states = self.run(self.log.streams())
        assert {state.stream: (state.version, state.archived, state.tombstoned, state.reason) for state in states} == {
            name: (len(stream.events), stream.archived, stream.tombstoned is not None, stream.tombstoned)
            for name, stream in self.committed.items()
            if stream.events
        }

    def _is_refused(self, asked: Awaitable[Any], refused: Refused) -> None:
        error = self._error(asked)
        assert type(error) is refused.kind, (error, refused)
        assert getattr(error, "stream", None) == refused.stream

    def _error(self, asked: Awaitable[Any]) -> EventError:
        try:
            answer = self.run(asked)
        except EventError as error:
            return error
        message = f"this was to be refused: {answer}"
        raise AssertionError(message)
