"""A state machine of senders, workers and operators against a small model.

Whatever is done, in whatever order, the store says what the model says, and at the end nothing is as it must never be.
A rule is one action or several at the same time; on PostgreSQL these are connections that really run together. Which of
them is first is not decided here: the model takes what the store says came of it, if that is one of the ways in which
it could have come, and holds the store to it from then on.

Commands that fail alike are in a domain of their own, SUPPLIED. Which of them opens the breaker hangs on who was first,
so no model says which are parked. Held against the store is what must be so whoever was first: of those that a breaker
holds one at a time is let go, and when the outage is over every one of them completes.

No rule has a precondition: which rules may be drawn would hang on who was first, and Hypothesis wants the same draws to
lead to the same choices. A rule that finds nothing to do does nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstay.commands.breakers import Breaker, BreakerRule, BreakerState
from mainstay.commands.command import CommandMetadata, SendResult
from mainstay.commands.lifecycle import AUDIT_PATH, TERMINAL, CommandStatus
from mainstay.commands.store import (
    Action,
    CommandFilter,
    CommandStore,
    NewBatch,
    NewCommand,
    NotUnique,
    OperatorRequest,
    Outcome,
    Received,
    Refusal,
    Verb,
    Verdict,
)
from mainstay.testing.contracts.commands.base import DOMAIN, new, saying

S = CommandStatus
LEASE = 10_000.0
WINDOW = 10.0**9
MAX_ATTEMPTS = 2
EVERYTHING = 10_000
AFTER = {
    Verb.COMPLETE: S.COMPLETED,
    Verb.FAIL: S.FAILED,
    Verb.RETRY: S.PENDING,
    Verb.TROUBLESHOOT: S.IN_TROUBLESHOOTING_QUEUE,
    Verb.GIVE_BACK: S.PENDING,
}
DECIDED = {Action.RETRY: S.PENDING, Action.CANCEL: S.CANCELED, Action.COMPLETE: S.COMPLETED}
HOW_MANY = st.integers(1, 4)
WHICH = st.integers(0, 10**6)
SUPPLIED, CALL = "supplied", "CallSupplier"
PROBE_AFTER = 3.0
"""Seconds; also after four failed probes they are over when `Engine.make_due` has let time pass."""
ROUNDS = 200
"""After the outage; each lets at least one command go."""
UNIQUE = st.permutations(["a", "b", "c"])


END = st.sampled_from([Verb.RETRY, Verb.RETRY, Verb.RETRY, Verb.COMPLETE, Verb.GIVE_BACK, None])
"""What becomes of a command that was received; None: its worker dies."""


def called(key: UUID) -> NewCommand:
    """A command that needs the supplier, and never runs out of attempts."""
    return new(domain=SUPPLIED, command_type=CALL, command_id=key, max_attempts=10_000)


def answering(received: Received, verb: Verb) -> Outcome:
    """What a worker says of it; failures are alike."""
    return (
        saying(received, verb, error_message="the supplier does not answer")
        if verb is Verb.RETRY
        else saying(received, verb)
    )


def is_parked(one: CommandMetadata) -> bool:
    """Whether it waits neither in the queue nor for its time."""
    return one.status is S.PENDING and one.msg_id is None and one.due_at is None


class Engine(Protocol):
    """A store, and the hands that move its time."""

    store: CommandStore

    async def expire_leases(self) -> None: ...

    async def make_due(self) -> None: ...


@dataclass
class Known:
    """What the model knows of a command."""

    status: CommandStatus = S.PENDING
    attempts: int = 0
    is_deferred: bool = False
    batch: UUID | None = None
    lease: Received | None = None
    """The newest, whether it counts or not."""
    ended_by: Received | None = None
    """The lease that was used up by an outcome."""
    old: list[Received] = field(default_factory=list)


class CommandMachine(RuleBasedStateMachine):
    """Senders, workers, operators; a subclass opens an engine."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.engine = self.run(self.open())
        self.store = self.engine.store
        self.model: dict[UUID, Known] = {}
        self.batches: list[UUID] = []
        self.holders: dict[str, tuple[UUID, bool]] = {}
        """Who took a unique key last, and whether it holds it when it is completed, too."""
        self.count = 0
        self.supplied: list[UUID] = []
        self.run(self.store.ensure_queue(SUPPLIED))
        rule = BreakerRule(SUPPLIED, CALL, failures=2, within=WINDOW, probe_after=PROBE_AFTER, drip=1000.0)
        self.run(self.store.breakers.set_rule(rule, operator=None))

    async def open(self) -> Engine:
        raise NotImplementedError

    async def close(self) -> None:
        """Put the engine away."""

    def run(self, action: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(action)

    def together(self, *actions: Awaitable[Any]) -> list[Any]:
        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*actions))

        return self.run(all_of_them())

    # -- choosing -----------------------------------------------------------------------------------------------------
    def next_id(self) -> UUID:
        self.count += 1
        return UUID(int=self.count)

    def some(self, which: int, *statuses: CommandStatus) -> UUID | None:
        """A command that stands in one of these, the same for the same number."""
        found = [key for key, known in self.model.items() if known.status in statuses]
        return found[which % len(found)] if found else None

    def holder(self, unique_key: str) -> UUID | None:
        """Who holds a unique key."""
        key, outlasts = self.holders.get(unique_key, (None, False))
        if key is None:
            return None
        status = self.model[key].status
        return key if status not in TERMINAL or (outlasts and status is S.COMPLETED) else None

    def ready(self) -> int:
        return sum(known.status is S.PENDING and not known.is_deferred for known in self.model.values())

    # -- sending ------------------------------------------------------------------------------------------------------
    @rule(many=HOW_MANY, delayed=st.booleans(), which=WHICH)
    def send(self, many: int, which: int, *, delayed: bool) -> None:
        """Several senders at once, and one whose id is known already."""
        fresh = [self.next_id() for _ in range(many)]
        known = list(self.model)
        again = [known[which % len(known)]] if known else []
        delay = 60.0 if delayed else None
        answers = self.together(
            *(
                self.store.send([new(command_id=key, max_attempts=MAX_ATTEMPTS, delay=delay)])
                for key in (*fresh, *again)
            )
        )

        assert [isinstance(answer, SendResult) for (answer,) in answers[: len(fresh)]] == [True] * many
        assert answers[len(fresh) :] == [[Refusal.DUPLICATE]] * len(again)
        self.model |= {key: Known(is_deferred=delayed) for key in fresh}

    @rule(many=HOW_MANY)
    def race_for_an_id(self, many: int) -> None:
        """Several senders of one id: one of them has sent it."""
        key = self.next_id()
        answers = self.together(
            *(self.store.send([new(command_id=key, max_attempts=MAX_ATTEMPTS)]) for _ in range(many))
        )

        assert sorted(isinstance(answer, SendResult) for (answer,) in answers) == [False] * (many - 1) + [True]
        self.model[key] = Known()

    @rule(senders=st.lists(st.tuples(UNIQUE, HOW_MANY), min_size=1, max_size=3), outlasts=st.booleans())
    def race_for_unique_keys(self, senders: list[tuple[list[str], int]], *, outlasts: bool) -> None:
        """Several senders at once, each of some keys, all or none: who finds one held has sent nothing."""
        window = WINDOW if outlasts else None
        before = {unique_key: self.holder(unique_key) for unique_key in "abc"}
        batches = [
            [
                new(command_id=self.next_id(), max_attempts=MAX_ATTEMPTS, unique_key=each, unique_for=window)
                for each in order[:many]
            ]
            for order, many in senders
        ]
        told = self.together(*(self.store.send(batch, atomic=True) for batch in batches))
        taken = [all(isinstance(answer, SendResult) for answer in answers) for answers in told]
        sent = [each for batch, won in zip(batches, taken, strict=True) if won for each in batch]
        winners = {each.unique_key: each.command_id for each in sent}

        assert len(winners) == len(sent)
        assert not any(before[unique_key] for unique_key in winners)
        for batch, answers in zip(batches, told, strict=True):
            for each, answer in zip(batch, answers, strict=True):
                if isinstance(answer, NotUnique):
                    assert answer.holder_id == (before[each.unique_key] or winners[each.unique_key])
        for unique_key, key in winners.items():
            self.model[key] = Known()
            self.holders[unique_key] = key, outlasts

    @rule(many=HOW_MANY)
    def create_batch(self, many: int) -> None:
        batch, keys = self.next_id(), [self.next_id() for _ in range(many)]
        commands = [new(command_id=key, max_attempts=MAX_ATTEMPTS, batch_id=batch) for key in keys]
        self.run(self.store.create_batch(NewBatch(DOMAIN, batch, None, None, None), commands))
        self.batches.append(batch)
        self.model |= {key: Known(batch=batch) for key in keys}

    @rule(which=WHICH, many=HOW_MANY)
    def cancel(self, which: int, many: int) -> None:
        """Several cancel one command: the first finds it as it was."""
        key = self.some(which, S.PENDING, *TERMINAL)
        if key is None:
            return
        known = self.model[key]
        found = self.together(*(self.store.cancel(DOMAIN, key, reason="x") for _ in range(many)))

        after = S.CANCELED if known.status is S.PENDING else known.status
        assert Counter(found) == Counter([known.status] + [after] * (many - 1))
        known.status, known.is_deferred = after, False

    # -- working ------------------------------------------------------------------------------------------------------
    def took(self, received: list[Received]) -> None:
        for one in received:
            known = self.model[one.lease.command_id]
            assert (known.status, known.is_deferred) == (S.PENDING, False)
            assert one.attempt == known.attempts + 1
            if known.lease is not None:
                assert one.lease.lease_no > known.lease.lease.lease_no
                known.old.append(known.lease)
            known.status, known.attempts, known.lease, known.ended_by = S.IN_PROGRESS, one.attempt, one, None

    @rule(limits=st.lists(HOW_MANY, min_size=1, max_size=3))
    def receive(self, limits: list[int]) -> None:
        """Several workers at once: nobody gets what another has."""
        ready = self.ready()
        hands = self.together(
            *(
                self.store.receive(DOMAIN, limit=limit, lease_seconds=LEASE, worker=f"w{number}")
                for number, limit in enumerate(limits)
            )
        )
        taken = [one for hand in hands for one in hand]

        assert len({one.lease.command_id for one in taken}) == len(taken) <= min(ready, sum(limits))
        assert all(len(hand) <= limit for hand, limit in zip(hands, limits, strict=True))
        assert len(limits) > 1 or len(taken) == min(ready, limits[0])
        self.took(taken)

    @rule(which=WHICH, verbs=st.lists(st.sampled_from(list(Verb)), min_size=1, max_size=3))
    def complete(self, which: int, verbs: list[Verb]) -> None:
        """One outcome, or several at once under one lease: the first counts."""
        key = self.some(which, S.IN_PROGRESS)
        if key is None:
            return
        known = self.model[key]
        assert known.lease is not None
        if known.attempts >= MAX_ATTEMPTS:  # a worker asks for no attempt that there is not
            verbs = [Verb.TROUBLESHOOT if verb is Verb.RETRY else verb for verb in verbs]
        verdicts = self.together(*(self.store.complete(DOMAIN, [saying(known.lease, verb)]) for verb in verbs))
        said = [verdict for (verdict,) in verdicts]

        assert said.count(Verdict.APPLIED) == 1
        verb = verbs[said.index(Verdict.APPLIED)]
        late = Verdict.STALE if verb is Verb.GIVE_BACK else Verdict.REPEATED  # what is given back has no lease any more
        assert [one for one in said if one is not Verdict.APPLIED] == [late] * (len(verbs) - 1)
        known.status, known.ended_by = AFTER[verb], known.lease
        known.is_deferred = verb is Verb.RETRY
        known.attempts -= verb is Verb.GIVE_BACK

    @rule(which=WHICH, verb=st.sampled_from(list(Verb)))
    def complete_under_an_old_lease(self, which: int, verb: Verb) -> None:
        """Whoever comes back after another worker has had the command changes nothing."""
        old = [one for known in self.model.values() for one in known.old]
        if not old:
            return
        (verdict,) = self.run(self.store.complete(DOMAIN, [saying(old[which % len(old)], verb)]))

        assert verdict is Verdict.STALE

    @rule()
    def expire(self) -> None:
        """Every lease ends, and one worker takes all it can get: what has no attempt left goes to troubleshooting."""
        self.run(self.engine.expire_leases())
        for known in self.model.values():
            if known.status is S.IN_PROGRESS:
                spent = known.attempts >= MAX_ATTEMPTS
                known.status = S.IN_TROUBLESHOOTING_QUEUE if spent else S.PENDING
        expected = self.ready()
        taken = self.run(self.store.receive(DOMAIN, limit=500, lease_seconds=LEASE, worker="w"))
        while more := self.run(self.store.receive(DOMAIN, limit=500, lease_seconds=LEASE, worker="w")):
            taken += more

        assert len(taken) == expected
        self.took(taken)

    @rule()
    def make_due(self) -> None:
        self.run(self.engine.make_due())
        for known in self.model.values():
            known.is_deferred = False

    # -- failing alike ------------------------------------------------------------------------------------------------
    async def look_at_supplied(self) -> tuple[dict[UUID, CommandMetadata], list[Breaker]]:
        found = await self.store.query(CommandFilter(domain=SUPPLIED), limit=EVERYTHING, offset=0)
        return {one.command_id: one for one in found}, await self.store.breakers.list_breakers(SUPPLIED)

    @rule(many=HOW_MANY)
    def call_suppliers(self, many: int) -> None:
        keys = [self.next_id() for _ in range(many)]
        self.run(self.store.send([called(key) for key in keys]))
        self.supplied += keys

    @rule(limits=st.lists(HOW_MANY, min_size=1, max_size=3), ends=st.lists(END, min_size=1, max_size=12))
    def supply(self, limits: list[int], ends: list[Verb | None]) -> None:
        """Several workers at once receive; then they fail, succeed, give back or die, all at once."""
        before, breakers = self.run(self.look_at_supplied())
        hands = self.together(
            *(self.store.receive(SUPPLIED, limit=limit, lease_seconds=LEASE, worker="w") for limit in limits)
        )
        taken = [one for hand in hands for one in hand]
        parked = {key for key, one in before.items() if is_parked(one)}
        let_go = [one for one in taken if one.command.command_id in parked]

        assert len({one.lease.command_id for one in taken}) == len(taken)
        for each in breakers:
            probe = before[each.probe_id].status if each.probe_id else None
            if each.state is BreakerState.OPEN and probe not in (S.COMPLETED, S.FAILED):  # that would close it now
                most = int(probe in (None, S.PENDING))
                assert len(let_go) <= most, f"{len(let_go)} were let go at once, not {most}"
        self.together(
            *(
                self.store.complete(SUPPLIED, [answering(one, ends[n % len(ends)])])
                for n, one in enumerate(taken)
                if ends[n % len(ends)] is not None
            )
        )

    def end_the_outage(self) -> None:
        """From now on all goes well: nothing stays behind."""
        for _ in range(ROUNDS):
            self.run(self.engine.expire_leases())
            self.run(self.engine.make_due())
            for one in self.run(self.store.receive(SUPPLIED, limit=500, lease_seconds=LEASE, worker="w")):
                self.run(self.store.complete(SUPPLIED, [saying(one, Verb.COMPLETE)]))
            found, _ = self.run(self.look_at_supplied())
            if all(one.status is S.COMPLETED for one in found.values()):
                break

        assert {key: one.status for key, one in found.items()} == dict.fromkeys(self.supplied, S.COMPLETED)

    # -- deciding -----------------------------------------------------------------------------------------------------
    @rule(which=WHICH, actions=st.lists(st.sampled_from(list(Action)), min_size=1, max_size=3), troubled=st.booleans())
    def operate(self, which: int, actions: list[Action], *, troubled: bool) -> None:
        """Several operators decide on one command: if it waits for them, one of them does."""
        key = self.some(which, S.IN_TROUBLESHOOTING_QUEUE) if troubled else None
        key = key or self.some(which, *S)
        if key is None:
            return
        known = self.model[key]
        asked = [OperatorRequest(action, operator="ada", reason="x") for action in actions]
        answers = [answer for (answer,) in self.together(*(self.store.act(DOMAIN, [key], one) for one in asked))]
        applied = [action for action, answer in zip(actions, answers, strict=True) if answer.applied]

        assert len(applied) == (known.status is S.IN_TROUBLESHOOTING_QUEUE)
        for action in applied:
            known.status = DECIDED[action]
            if action is Action.RETRY:
                known.attempts = 0
            if known.lease is not None:
                known.old.append(known.lease)

    @rule(many=HOW_MANY)
    def fold(self, many: int) -> None:
        """Several look at batches at once: each batch is finished once."""
        finished = self.together(*(self.store.fold_batches(DOMAIN) for _ in range(many)))

        assert max(Counter(key for some in finished for key in some).values(), default=1) == 1

    # -- comparing ----------------------------------------------------------------------------------------------------
    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        async def look() -> None:
            found = await self.store.query(CommandFilter(domain=DOMAIN), limit=EVERYTHING, offset=0)
            assert {one.command_id: (one.status, one.attempts) for one in found} == {
                key: (known.status, known.attempts) for key, known in self.model.items()
            }
            backlog = await self.store.backlog(DOMAIN)
            statuses = Counter(known.status for known in self.model.values())
            assert backlog.troubleshooting == statuses[S.IN_TROUBLESHOOTING_QUEUE]
            assert backlog.in_flight == statuses[S.IN_PROGRESS]
            for batch in self.batches:
                inside = Counter(known.status for known in self.model.values() if known.batch == batch)
                told = await self.store.get_batch(DOMAIN, batch)
                assert told is not None
                assert told.total_count == inside.total()
                assert told.completed_count == inside[S.COMPLETED]
                assert told.failed_count == inside[S.FAILED]
                assert told.canceled_count == inside[S.CANCELED]
                assert told.in_troubleshooting_count == inside[S.IN_TROUBLESHOOTING_QUEUE]

        self.run(look())

    def teardown(self) -> None:
        async def check() -> None:
            assert (await self.store.fsck()).findings == ()
            for key, known in self.model.items():
                status: CommandStatus | None = None
                for event in await self.store.audit_trail(key, DOMAIN):
                    status = AUDIT_PATH[status, event.event_type]
                assert status is known.status

        try:
            self.run(check())
            self.end_the_outage()
            assert self.run(self.store.fsck()).findings == ()
        finally:
            self.run(self.close())
            self.loop.close()
