"""Breakers: what holds up one kind of failure."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands.breakers import Breaker, BreakerEventType, BreakerRule, BreakerState
from mainstay.commands.failures import fingerprint
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus
from mainstay.commands.store import CommandStore, NewBatch, Received, Verb
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new

_A, _E, _S = AuditEventType, BreakerEventType, CommandStatus

TYPE = "CreateOrder"
OTHER = "ShipOrder"
DOWN = "the supplier does not answer"
OTHERWISE = "the cellar is under water"
LONG = 3600.0


def rule(**changes: Any) -> BreakerRule:
    """A rule for the usual type; its breakers open soon and probe late."""
    usual: dict[str, Any] = {
        "domain": DOMAIN,
        "command_type": TYPE,
        "failures": 2,
        "within": LONG,
        "probe_after": LONG,
        "drip": 1000.0,
    }
    return BreakerRule(**usual | changes)


class BreakerContract(CommandStoreSuite):
    """Breakers."""

    # -- words --------------------------------------------------------------------------------------------------------
    async def fails(self, store: CommandStore, received: Received, message: str = DOWN, **changes: Any) -> None:
        """A transient failure; one without attempts left, if that is so."""
        is_last = received.attempt >= received.max_attempts
        verb = Verb.TROUBLESHOOT if is_last else Verb.RETRY
        told = {"error_type": "TRANSIENT", "error_code": "DOWN", "error_message": message, "exhausted": is_last}
        await self.say(store, received, verb, **told | changes)

    async def failing(self, store: CommandStore, count: int, **changes: Any) -> list[UUID]:
        """Send so many commands, and let each fail once."""
        ids = await self.sent(store, *(new(**changes) for _ in range(count)))
        for received in await self.received(store):
            await self.fails(store, received)
        return ids

    async def breaker(self, store: CommandStore) -> Breaker:
        """The only one."""
        (found,) = await store.breakers.list_breakers(DOMAIN)
        return found

    async def let_go(self, store: CommandStore) -> Received:
        """The one command that comes, sooner or later."""
        (received,) = await self.eventually(store, lambda: self.received(store))
        return received

    async def happened(self, store: CommandStore) -> list[BreakerEventType]:
        """What happened to breakers, in order."""
        return [event.event_type for event in reversed(await store.breakers.list_events(DOMAIN, limit=100))]

    async def by_hand(self, store: CommandStore, found: Breaker) -> bool:
        """An operator closes a breaker."""
        return await store.breakers.close(DOMAIN, TYPE, found.fingerprint, operator="ada", reason="it works again")

    # -- opening ------------------------------------------------------------------------------------------------------
    async def test_a_rule_is_kept_until_it_is_replaced_or_removed(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=7), operator="ada")
        await store.breakers.set_rule(rule(), operator="ada")
        await store.breakers.set_rule(rule(command_type=OTHER), operator=None)
        both = await store.breakers.list_rules(None)
        removed = [await store.breakers.remove_rule(DOMAIN, OTHER, operator="bob") for _ in range(2)]

        assert both == [rule(), rule(command_type=OTHER)]
        assert removed == [True, False]
        assert await store.breakers.list_rules(DOMAIN) == [rule()]
        assert await store.breakers.list_rules("billing") == []
        assert await self.happened(store) == [_E.SET, _E.SET, _E.SET, _E.REMOVED]
        (newest, *_) = await store.breakers.list_events(None, limit=1)
        assert (newest.operator, newest.command_type, newest.fingerprint) == ("bob", OTHER, None)

    async def test_without_a_rule_failures_are_retried_whatever_they_say(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(command_type=OTHER), operator=None)
        ids = await self.failing(store, 5)

        assert await store.breakers.list_breakers(None) == []
        assert {(await self.events(store, each))[-1] for each in ids} == {_A.RETRY_SCHEDULED}

    async def test_enough_failures_that_are_alike_open_a_breaker_and_what_fails_so_then_is_parked(
        self, store: CommandStore
    ) -> None:
        await store.breakers.set_rule(rule(failures=3), operator=None)
        before = await self.failing(store, 2)
        closed = await store.breakers.list_breakers(None)
        after = await self.failing(store, 2)
        found = await self.breaker(store)

        assert closed == []
        assert [(await self.events(store, each))[-1] for each in before] == [_A.RETRY_SCHEDULED] * 2
        for each in after:
            assert await self.events(store, each) == [_A.SENT, _A.RECEIVED, _A.FAILED, _A.PARKED]
            assert await self.told(store, each, _A.PARKED) == {"reason": "BREAKER", "fingerprint": fingerprint(DOWN)}
            known = await self.known(store, each)
            assert (known.status, known.attempts, known.msg_id, known.due_at) == (_S.PENDING, 0, None, None)
        assert (found.command_type, found.fingerprint, found.state) == (TYPE, fingerprint(DOWN), BreakerState.OPEN)
        assert (found.parked, found.probe_id, found.failed_probes, found.example_message) == (2, None, 0, DOWN)
        (stats,) = await store.stats(DOMAIN)
        assert (stats.parked, stats.breakers) == (2, 1)
        assert (await store.backlog(DOMAIN)).open_breakers == 1
        await self.by_hand(store, found)
        assert (await self.breaker(store)).state is BreakerState.CLOSING
        assert (await store.backlog(DOMAIN)).open_breakers == 0
        assert await self.happened(store) == [_E.SET, _E.OPENED, _E.CLOSED]

    async def test_failures_that_say_something_else_of_another_type_or_of_one_command_alone_open_nothing(
        self, store: CommandStore
    ) -> None:
        await store.breakers.set_rule(rule(failures=3), operator=None)
        received = await self.in_hand(store)
        for _ in range(2):
            await self.fails(store, received)
            await self.make_due(store)
            (received,) = await self.received(store)
        await self.fails(store, received)
        other = await self.in_hand(store, command_type=OTHER)
        await self.fails(store, other)
        different = await self.in_hand(store)
        await self.fails(store, different, OTHERWISE)

        assert await store.breakers.list_breakers(None) == []
        assert await self.status(store, received.command.command_id) is _S.IN_TROUBLESHOOTING_QUEUE

    async def test_failures_are_alike_whatever_their_numbers_and_names(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(), operator=None)
        await self.sent(store, new(), new())
        for number, received in enumerate(await self.received(store)):
            await self.fails(store, received, f"order {number} of 'c{number}': no answer")

        assert (await self.breaker(store)).parked == 1

    async def test_failures_of_long_ago_do_not_count(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(within=0.1), operator=None)
        first = await self.in_hand(store)
        await self.fails(store, first, delay=2.0)
        await self.let_go(store)
        (second,) = await self.sent(store)
        (received,) = await self.received(store)
        await self.fails(store, received)

        assert await store.breakers.list_breakers(None) == []
        assert (await self.events(store, second))[-1] is _A.RETRY_SCHEDULED

    async def test_permanent_failures_and_broken_rules_are_no_matter_of_breakers(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1), operator=None)
        permanent, broken = await self.in_hand(store), await self.in_hand(store)
        await self.say(store, permanent, Verb.TROUBLESHOOT, error_message=DOWN)
        await self.say(store, broken, Verb.FAIL, error_message=DOWN)

        assert await self.status(store, permanent.command.command_id) is _S.IN_TROUBLESHOOTING_QUEUE
        assert await self.status(store, broken.command.command_id) is _S.FAILED
        assert await store.breakers.list_breakers(None) == []

    async def test_a_command_is_not_exhausted_while_its_breaker_is_open(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(probe_after=0.01), operator=None)
        (first, second) = await self.failing(store, 2, max_attempts=2)
        for _ in range(4):
            await self.make_due(store)
            received = await self.let_go(store)
            await self.fails(store, received)

        assert [await self.status(store, each) for each in (first, second)] == [_S.PENDING] * 2
        assert {(await self.known(store, each)).attempts for each in (first, second)} <= {0, 1}
        assert await store.count_troubleshooting(None, None) == 0

    async def test_what_fails_otherwise_goes_on_as_ever(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(), operator=None)
        await self.failing(store, 2)
        well = await self.in_hand(store)
        await self.say(store, well, Verb.COMPLETE)
        ill = await self.in_hand(store)
        await self.fails(store, ill, OTHERWISE)

        assert await self.status(store, well.command.command_id) is _S.COMPLETED
        assert (await self.events(store, ill.command.command_id))[-1] is _A.RETRY_SCHEDULED
        assert (await self.breaker(store)).parked == 1

    async def test_a_retry_that_is_due_does_not_run_into_an_open_breaker(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(), operator=None)
        (first, _) = await self.failing(store, 2)
        await store.breakers.set_rule(rule(probe_after=10 * LONG), operator=None)
        await store.breakers.open(DOMAIN, TYPE, fingerprint(DOWN), operator=None, reason=None)
        await self.make_due(store)
        came = [each.command.command_id for each in await self.received(store)]

        assert first not in came
        assert (await self.known(store, first)).attempts == 1
        assert await self.told(store, first, _A.PARKED) == {"reason": "BREAKER", "fingerprint": fingerprint(DOWN)}

    async def test_a_command_that_is_to_be_cancelled_is_not_held(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1), operator=None)
        received = await self.in_hand(store)
        await store.cancel(DOMAIN, received.command.command_id, reason="no longer wanted", running=True)
        await self.fails(store, received)

        assert await self.status(store, received.command.command_id) is _S.CANCELED
        assert await store.breakers.list_breakers(None) == []

    async def test_a_held_command_can_be_cancelled(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1), operator=None)
        (command_id,) = await self.failing(store, 1)
        found = await store.cancel(DOMAIN, command_id, reason="no longer wanted")

        assert found is _S.PENDING
        assert await self.status(store, command_id) is _S.CANCELED
        assert (await self.breaker(store)).parked == 0

    async def test_what_is_held_of_a_batch_is_pending_and_the_batch_goes_on_with_it(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        batch_id = uuid4()
        await store.create_batch(NewBatch(DOMAIN, batch_id, None, None, None), [new(batch_id=batch_id, max_attempts=1)])
        (received,) = await self.received(store)
        await self.fails(store, received)
        folded = await store.fold_batches(DOMAIN)
        held = await store.get_batch(DOMAIN, batch_id)
        await self.say(store, await self.let_go(store), Verb.COMPLETE)
        await store.fold_batches(DOMAIN)
        done = await store.get_batch(DOMAIN, batch_id)

        assert not folded
        assert held is not None
        assert (held.status, held.in_troubleshooting_count) == (BatchStatus.IN_PROGRESS, 0)
        assert done is not None
        assert done.status is BatchStatus.COMPLETED

    # -- probing ------------------------------------------------------------------------------------------------------
    async def test_one_command_is_let_go_as_a_probe_and_no_other_until_it_has_ended(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        ids = await self.failing(store, 4)
        probe = await self.let_go(store)
        found = await self.breaker(store)
        asked = await asyncio.gather(*(self.received(store, worker=f"w{n}") for n in range(4)))
        seconds = await store.about_to_sleep(DOMAIN, "w1")

        assert probe.command.command_id == ids[0] == found.probe_id
        assert probe.lease.is_limited
        assert (found.parked, asked, seconds) == (3, [[]] * 4, None)
        assert await self.told(store, ids[0], _A.RELEASED) == {"probe": True}

    async def test_receivers_at_the_same_time_let_one_probe_go(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        await self.failing(store, 6)

        async def ask() -> int:
            return sum(map(len, await asyncio.gather(*(self.received(store, worker=f"w{n}") for n in range(6)))))

        assert await self.eventually(store, ask) == 1

    async def test_a_probe_that_fails_alike_leaves_it_open_for_longer_and_the_next_one_is_another(
        self, store: CommandStore
    ) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.1), operator=None)
        ids = await self.failing(store, 2)
        probe = await self.let_go(store)
        await self.fails(store, probe)
        found = await self.breaker(store)
        seconds = await store.about_to_sleep(DOMAIN, "w1")
        another = await self.let_go(store)

        assert (found.state, found.failed_probes, found.probe_id, found.parked) == (BreakerState.OPEN, 1, None, 2)
        assert seconds is not None
        assert seconds <= 0.2
        assert [probe.command.command_id, another.command.command_id] == ids
        assert (await self.known(store, ids[0])).attempts == 0
        assert await self.happened(store) == [_E.SET, _E.OPENED, _E.PROBED, _E.PROBE_FAILED, _E.PROBED]

    async def test_a_probe_that_completes_lets_the_rest_go(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01, within=0.1), operator=None)
        ids = await self.failing(store, 4)
        probe = await self.let_go(store)
        await self.say(store, probe, Verb.COMPLETE)

        async def is_gone() -> bool:
            for received in await self.received(store):
                await self.say(store, received, Verb.COMPLETE)
            return not await store.breakers.list_breakers(None)

        assert await self.eventually(store, is_gone)
        assert {await self.status(store, each) for each in ids} == {_S.COMPLETED}
        assert await self.happened(store) == [_E.SET, _E.OPENED, _E.PROBED, _E.CLOSED, _E.ENDED]
        assert await self.events(store, ids[3]) == [
            *(_A.SENT, _A.RECEIVED, _A.FAILED, _A.PARKED),
            *(_A.RELEASED, _A.RECEIVED, _A.COMPLETED),
        ]

    async def test_a_probe_that_breaks_a_business_rule_has_got_through(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        await self.failing(store, 2)
        probe = await self.let_go(store)
        await self.say(store, probe, Verb.FAIL)
        await self.let_go(store)

        assert (await self.breaker(store)).state is BreakerState.CLOSING

    async def test_a_probe_that_says_nothing_is_followed_by_another(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        ids = await self.failing(store, 4)
        otherwise = await self.let_go(store)
        await self.say(store, otherwise, Verb.TROUBLESHOOT)
        canceled = await self.let_go(store)
        await store.cancel(DOMAIN, canceled.command.command_id, reason=None, running=True)
        await self.say(store, canceled, Verb.GIVE_BACK)
        third = await self.let_go(store)

        assert [each.command.command_id for each in (otherwise, canceled, third)] == ids[:3]
        assert ((await self.breaker(store)).state, (await self.breaker(store)).parked) == (BreakerState.OPEN, 1)

    async def test_what_expired_while_it_was_held_is_no_probe(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=2.0), operator=None)
        (first,) = await self.sent(store)
        soon = (await self.known(store, first)).created_at + timedelta(seconds=1)
        await store.cancel(DOMAIN, first, reason=None)
        late = await self.sent(store, new(expires_at=soon), new(expires_at=soon))
        for received in await self.received(store):
            await self.fails(store, received)
        live = await self.failing(store, 2)
        probe = await self.let_go(store)

        assert probe.command.command_id == live[0]
        assert [await self.status(store, each) for each in late] == [_S.CANCELED] * 2
        assert (await self.happened(store)).count(_E.PROBED) == 1

    async def test_a_probe_whose_worker_died_is_tried_again_and_blocks_nothing(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        ids = await self.failing(store, 2, max_attempts=1)
        died = await self.let_go(store)
        held = await self.received(store, worker="w2")
        await self.expire_leases(store)
        exhausted = await self.received(store, worker="w2")
        next_one = await self.let_go(store)

        assert (held, exhausted) == ([], [])
        assert died.command.command_id == ids[0]
        assert await self.status(store, ids[0]) is _S.IN_TROUBLESHOOTING_QUEUE
        assert next_one.command.command_id == ids[1]

    async def test_a_probe_keeps_the_order_of_its_key(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        ids = await self.failing(store, 1, key="a") + await self.sent(store, new(key="a"))
        probe = await self.let_go(store)
        alone = await self.received(store)
        await self.say(store, probe, Verb.COMPLETE)
        behind = await self.let_go(store)

        assert alone == []
        assert [each.command.command_id for each in (probe, behind)] == ids

    async def test_a_command_whose_key_went_on_without_it_blocks_no_probe(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1), operator=None)
        overtaken, keyless = [*await self.failing(store, 1, key="a"), *await self.failing(store, 1)]
        (ahead,) = await self.sent(store, new(key="a"))
        (key,) = await store.keys.list(DOMAIN, "a", blocked=True, limit=9, offset=0)
        await store.keys.release(DOMAIN, "a", operator="ada", reason=None)
        head = await self.let_go(store)
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        await self.by_hand(store, await self.breaker(store))
        await store.breakers.open(DOMAIN, TYPE, fingerprint(DOWN), operator=None, reason=None)
        probe = await self.let_go(store)
        await self.say(store, head, Verb.COMPLETE)
        last = await self.let_go(store)

        assert (key.head, key.is_held, key.is_blocked) == (overtaken, True, True)
        assert head.command.command_id == ahead
        assert probe.command.command_id == keyless
        assert last.command.command_id == overtaken

    async def test_a_probe_passes_the_gates_like_any_other(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
        (command_id, _) = await self.failing(store, 2)
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)

        async def is_parked() -> bool:
            await self.received(store)
            return bool((await self.told(store, command_id, _A.PARKED))["reason"] == "PAUSE")

        await self.eventually(store, is_parked)
        (pause,) = await store.gates.list_pauses(DOMAIN)
        await store.gates.resume(DOMAIN, TYPE)
        probe = await self.let_go(store)

        assert (pause.parked, (await self.breaker(store)).parked) == (1, 1)
        assert probe.command.command_id == command_id

    # -- dripping -----------------------------------------------------------------------------------------------------
    async def test_what_waits_is_let_go_a_few_at_a_time(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1, probe_after=0.01, drip=0.01), operator=None)
        ids = await self.failing(store, 5)
        probe = await self.let_go(store)
        await self.say(store, probe, Verb.COMPLETE)
        one = await self.let_go(store)
        none = await self.received(store)
        seconds = await store.about_to_sleep(DOMAIN, "w1")
        await store.breakers.set_rule(rule(drip=1000.0), operator=None)

        assert (one.command.command_id, none) == (ids[1], [])
        assert seconds is not None
        assert 50 < seconds <= 100
        assert (await self.breaker(store)).parked == 3

    async def test_failures_that_come_again_open_it_again(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=2, probe_after=0.01), operator=None)
        await self.failing(store, 5)
        await self.make_due(store)
        probe = await self.let_go(store)
        await store.breakers.set_rule(rule(failures=2, probe_after=LONG), operator=None)
        await self.say(store, probe, Verb.COMPLETE)
        again = 0
        while (found := await self.breaker(store)).state is BreakerState.CLOSING or not again:
            for received in await self.eventually(store, lambda: self.received(store)):
                await self.fails(store, received)
                again += 1

        assert again >= 2
        assert found.parked == 4
        assert (await self.happened(store)).count(_E.OPENED) == 2
        assert await self.received(store) == []
        assert await store.count_troubleshooting(None, None) == 0

    # -- by hand ------------------------------------------------------------------------------------------------------
    async def test_an_operator_closes_a_breaker_and_failures_count_again(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=2), operator=None)
        await store.breakers.open(DOMAIN, TYPE, fingerprint(DOWN), operator="ada", reason="they called")
        held = await self.in_hand(store, max_attempts=1)
        await self.fails(store, held)
        closed = [await self.by_hand(store, await self.breaker(store)) for _ in range(2)]
        await self.fails(store, await self.let_go(store))

        assert closed == [True, False]
        assert await self.status(store, held.command.command_id) is _S.IN_TROUBLESHOOTING_QUEUE

    async def test_a_breaker_is_opened_by_hand_only_where_there_is_a_rule(self, store: CommandStore) -> None:
        which = (DOMAIN, TYPE, fingerprint(DOWN))
        without = await store.breakers.open(*which, operator="ada", reason="they called")
        await store.breakers.set_rule(rule(failures=100), operator=None)
        opened = [await store.breakers.open(*which, operator="ada", reason="they called") for _ in range(2)]
        (command_id,) = await self.failing(store, 1)
        (event, *_) = await store.breakers.list_events(DOMAIN, limit=1)

        assert (without, opened) == (False, [True, False])
        assert (await self.events(store, command_id))[-1] is _A.PARKED
        assert (event.event_type, event.operator, event.reason) == (_E.OPENED, "ada", "they called")

    async def test_what_is_held_goes_on_when_the_rule_is_removed(self, store: CommandStore) -> None:
        await store.breakers.set_rule(rule(failures=1), operator=None)
        ids = await self.failing(store, 3)
        await store.breakers.remove_rule(DOMAIN, TYPE, operator="ada")
        came: list[UUID] = []
        while len(came) < 3:
            came += [each.command.command_id for each in await self.eventually(store, lambda: self.received(store))]

        async def is_gone() -> bool:
            await self.received(store)
            return not await store.breakers.list_breakers(None)

        assert sorted(came) == sorted(ids)
        assert await self.eventually(store, is_gone)
        assert await store.breakers.list_rules(None) == []
        assert await self.happened(store) == [_E.SET, _E.OPENED, _E.REMOVED, _E.CLOSED, _E.ENDED]
