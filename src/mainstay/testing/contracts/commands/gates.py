"""Pauses and limits."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from typing import Any
from uuid import UUID

import pytest

from mainstay.commands.gates import Limit
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, CommandStore, Verb, Verdict
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new

_A = AuditEventType

TYPE = "CreateOrder"
OTHER = "ShipOrder"


def limit(**changes: Any) -> Limit:
    """A limit on the usual type."""
    return Limit(**{"domain": DOMAIN, "command_type": TYPE} | changes)


class GateContract(CommandStoreSuite):
    """Pauses and limits."""

    async def taken(self, store: CommandStore, **asked: Any) -> list[UUID]:
        """The ids that a receive gives; asked for twice, as it may park instead of giving."""
        options: dict[str, Any] = {"limit": 100, "lease_seconds": 30.0, "worker": "w1"} | asked
        received = await store.receive(DOMAIN, **options) or await store.receive(DOMAIN, **options)
        return [each.command.command_id for each in received]

    async def parked(self, store: CommandStore) -> int:
        """How many commands wait before a gate."""
        return (await store.stats(DOMAIN))[0].parked

    # -- pauses -------------------------------------------------------------------------------------------------------
    async def test_a_paused_domain_starts_nothing_until_it_is_resumed(self, store: CommandStore) -> None:
        ids = await self.sent(store, new(), new(command_type=OTHER), new())

        first = await store.gates.pause(DOMAIN, None, operator="ada", reason="migration")
        again = await store.gates.pause(DOMAIN, None, operator="bob", reason="other")
        (pause,) = await store.gates.list_pauses(None)
        while_paused = await self.taken(store)
        seconds = await store.about_to_sleep(DOMAIN, "w1")
        resumed = [await store.gates.resume(DOMAIN, None), await store.gates.resume(DOMAIN, None)]

        assert (first, again, resumed) == (True, False, [True, False])
        assert (pause.domain, pause.command_type, pause.operator, pause.reason) == (DOMAIN, None, "ada", "migration")
        assert (while_paused, seconds) == ([], None)
        assert await self.taken(store) == ids
        assert await store.gates.list_pauses(DOMAIN) == []

    async def test_a_worker_of_a_paused_domain_sleeps_also_when_something_is_due(self, store: CommandStore) -> None:
        await self.sent(store, new(delay=60.0))
        await self.make_due(store)
        await store.gates.pause(DOMAIN, None, operator=None, reason=None)

        assert await self.taken(store) == []
        assert await store.about_to_sleep(DOMAIN, "w1") is None

    async def test_a_paused_type_holds_up_no_other(self, store: CommandStore) -> None:
        ids = await self.sent(store, new(), new(command_type=OTHER), new(), new(command_type=OTHER))
        await store.gates.pause(DOMAIN, TYPE, operator="ada", reason="the supplier is down")

        others = await self.taken(store)
        (pause,) = await store.gates.list_pauses(DOMAIN)
        known = await self.known(store, ids[0])
        await store.gates.resume(DOMAIN, TYPE)
        held = await self.taken(store)

        assert (others, held) == ([ids[1], ids[3]], [ids[0], ids[2]])
        assert (pause.command_type, pause.parked) == (TYPE, 2)
        assert (known.status, known.attempts, known.msg_id) == (CommandStatus.PENDING, 0, None)
        assert await self.events(store, ids[0]) == [_A.SENT, _A.PARKED, _A.RELEASED, _A.RECEIVED]
        assert (await self.told(store, ids[0], _A.PARKED))["reason"] == "PAUSE"

    async def test_a_long_row_of_paused_commands_is_not_received_one_by_one(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(60)), new(command_type=OTHER))
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)

        assert await self.taken(store, limit=2) == ids[-1:]
        assert await self.parked(store) == 60

    async def test_a_retry_of_a_paused_type_is_parked_when_it_is_due(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)
        await self.say(store, received, Verb.RETRY)
        await self.make_due(store)

        paused = await self.taken(store)
        await store.gates.resume(DOMAIN, TYPE)
        (again,) = await self.received(store)

        assert paused == []
        assert again.attempt == 2

    async def test_what_runs_when_its_type_is_paused_can_finish(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)

        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED

    async def test_a_parked_command_can_be_cancelled(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store)
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)
        await self.taken(store)

        found = await store.cancel(DOMAIN, command_id, reason="no longer wanted")
        await store.gates.resume(DOMAIN, TYPE)

        assert found is CommandStatus.PENDING
        assert await self.status(store, command_id) is CommandStatus.CANCELED
        assert await self.taken(store) == []
        assert await self.parked(store) == 0

    async def test_a_command_that_an_operator_retries_passes_the_gate_like_any_other(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        await store.gates.pause(DOMAIN, TYPE, operator=None, reason=None)

        assert await self.operate(store, Action.RETRY, command_id)
        assert await self.taken(store) == []
        await store.gates.resume(DOMAIN, TYPE)
        assert await self.taken(store) == [command_id]

    # -- how many run -------------------------------------------------------------------------------------------------
    async def test_no_more_run_than_may(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=2))
        ids = await self.sent(store, *(new() for _ in range(5)), new(command_type=OTHER))

        first = await self.received(store)
        more = await self.taken(store)
        (state,) = await store.gates.list_limits(DOMAIN)
        seconds = await store.about_to_sleep(DOMAIN, "w1")
        await self.say(store, first[0], Verb.COMPLETE)
        next_one = await self.taken(store)

        assert [each.command.command_id for each in first] == [*ids[:2], ids[5]]
        assert [each.lease.is_limited for each in first] == [True, True, False]
        assert (more, seconds) == ([], None)
        assert (state.limit, state.running, state.parked) == (limit(max_running=2), 2, 3)
        assert next_one == [ids[2]]
        assert (await self.told(store, ids[2], _A.PARKED))["reason"] == "LIMIT"
        assert await self.events(store, ids[2]) == [_A.SENT, _A.PARKED, _A.RELEASED, _A.RECEIVED]

    @pytest.mark.parametrize("verb", list(Verb))
    async def test_whatever_ends_a_run_lets_the_next_one_start(self, store: CommandStore, verb: Verb) -> None:
        await store.gates.set_limit(limit(max_running=1))
        ids = await self.sent(store, new(), new())
        (received,) = await self.received(store)
        nothing = await self.taken(store)

        await self.say(store, received, verb)
        allowed = {ids[1]} if verb is not Verb.GIVE_BACK else set(ids)
        (started,) = await self.taken(store)

        assert nothing == []
        assert started in allowed

    async def test_a_run_whose_worker_died_counts_until_its_lease_ends(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=1))
        await self.sent(store, new(max_attempts=2), new())
        (dead,) = await self.received(store)

        held = await self.taken(store, worker="w2")
        await self.expire_leases(store)
        freed = await self.taken(store, worker="w2")

        assert held == []
        assert len(freed) == 1
        assert await self.say(store, dead, Verb.COMPLETE) is Verdict.STALE
        assert await self.taken(store) == []

    async def test_receivers_at_the_same_time_do_not_exceed_a_limit(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=3))
        await self.sent(store, *(new() for _ in range(12)))

        taken = await asyncio.gather(*(self.received(store, limit=4, worker=f"w{n}") for n in range(6)))

        assert sum(map(len, taken)) == 3

    async def test_no_more_run_for_one_value_of_a_field_than_may(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(per="customer.id", max_running_per=1))
        customers = ["ann", "ann", "bob", "ann", None, None, "bob"]
        ids = await self.sent(store, *(new(data={"customer": {"id": name}} if name else {}) for name in customers))

        first = await self.received(store)
        nothing = await self.taken(store)
        await self.say(store, first[0], Verb.COMPLETE)
        for_ann = await self.taken(store)
        await self.say(store, first[1], Verb.COMPLETE)
        for_bob = await self.taken(store)

        assert [each.command.command_id for each in first] == [ids[0], ids[2], ids[4]]
        assert (nothing, for_ann, for_bob) == ([], [ids[1]], [ids[6]])

    async def test_a_limit_per_header_and_one_in_all_hold_together(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=3, per="header:tenant", max_running_per=2))
        tenants = ["a", "a", "a", "b", "b"]
        ids = await self.sent(store, *(new(headers=f'{{"tenant":"{name}"}}'.encode()) for name in tenants))

        first = await self.received(store)
        await self.say(store, first[2], Verb.COMPLETE)
        second = await self.taken(store)

        assert [each.command.command_id for each in first] == [ids[0], ids[1], ids[3]]
        assert second == [ids[4]]

    async def test_no_more_come_than_can_be_started_at_once(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=10))
        ids = await self.sent(store, *(new() for _ in range(4)), new(command_type=OTHER))

        first = await self.taken(store, at_once=1)
        none = await self.taken(store, at_once=0)
        rest = await self.taken(store, at_once=10)

        assert (first, none, rest) == ([ids[0], ids[4]], [], ids[1:4])

    async def test_a_changed_limit_holds_for_what_is_queued_and_counts_what_runs(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(6)))
        await self.received(store, limit=2)
        await store.gates.set_limit(limit(max_running=3))
        third = await self.taken(store)
        await store.gates.set_limit(limit(max_running=5))
        two_more = await self.taken(store)

        assert (third, two_more) == ([ids[2]], ids[3:5])

    async def test_what_waits_for_a_limit_goes_on_when_it_is_removed(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(max_running=1))
        ids = await self.sent(store, *(new() for _ in range(4)))
        await self.received(store)
        await self.taken(store)

        removed = [await store.gates.remove_limit(DOMAIN, TYPE), await store.gates.remove_limit(DOMAIN, TYPE)]
        rest = await self.taken(store)

        assert removed == [True, False]
        assert rest == ids[1:]
        assert await store.gates.list_limits(None) == []
        assert await self.parked(store) == 0

    # -- how many start -----------------------------------------------------------------------------------------------
    async def test_no_more_start_in_a_time_than_may(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(rate=2, per_seconds=1.0, burst=2))
        ids = await self.sent(store, *(new() for _ in range(3)))

        first = await self.received(store)
        for each in first:
            await self.say(store, each, Verb.COMPLETE)
        none = await self.taken(store)
        seconds = await store.about_to_sleep(DOMAIN, "w1")
        third = await self.eventually(store, lambda: self.taken(store))

        assert [each.command.command_id for each in first] == ids[:2]
        assert all(each.start_within is not None and 0 < each.start_within < 1 for each in first)
        assert none == []
        assert seconds is not None
        assert 0 < seconds <= 1.1
        assert third == [ids[2]]

    async def test_starts_can_be_spread(self, store: CommandStore) -> None:
        await store.gates.set_limit(limit(rate=10, per_seconds=60.0, burst=1))
        ids = await self.sent(store, *(new() for _ in range(3)))

        first = await self.taken(store)
        none = await self.taken(store)
        seconds = await store.about_to_sleep(DOMAIN, "w1")

        assert (first, none) == (ids[:1], [])
        assert seconds is not None
        assert 5 < seconds <= 6

    async def test_gates_stand_only_in_their_own_domain(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        await store.gates.set_limit(limit(domain="billing", max_running=1))
        await store.gates.pause("billing", None, operator=None, reason=None)
        ids = await self.sent(store, new(), new())

        assert await self.taken(store) == ids
