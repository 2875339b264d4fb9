"""Receiving, leases and waking."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import CommandStore, Lease, Loss, Received, Verb, Verdict
from mainstay.testing.contracts.commands.base import DOMAIN, LEASE, REPLIES, CommandStoreSuite, new

_A = AuditEventType

SHORT = 1.5
"""Seconds of a lease whose end a test awaits."""


class ReceivingContract(CommandStoreSuite):
    """Receiving, leases and waking."""

    # -- receiving ----------------------------------------------------------------------------------------------------
    async def test_a_received_command_is_in_progress_and_audited(self, store: CommandStore) -> None:
        command = new(data={"n": 5}, reply_to=REPLIES, max_attempts=4)
        await self.sent(store, command)

        (received,) = await self.received(store, worker="w7")
        known = await self.known(store, command.command_id)

        assert received.command.domain == DOMAIN
        assert received.command.command_type == "CreateOrder"
        assert received.command.command_id == received.lease.command_id == command.command_id
        assert received.command.data == {"n": 5}
        assert received.command.correlation_id == command.correlation_id
        assert received.command.reply_to == REPLIES
        assert received.command.created_at == known.created_at
        assert received.command.headers == {}
        assert (received.attempt, received.max_attempts) == (1, 4)
        assert received.lease.lease_no > 0
        assert (known.status, known.attempts, known.msg_id) == (CommandStatus.IN_PROGRESS, 1, received.lease.msg_id)
        assert await self.events(store, command.command_id) == [_A.SENT, _A.RECEIVED]
        details = await self.told(store, command.command_id, _A.RECEIVED)
        assert (details["worker"], details["attempt"]) == ("w7", 1)

    async def test_commands_are_received_oldest_first_up_to_the_limit(self, store: CommandStore) -> None:
        ids = [(await self.sent(store))[0] for _ in range(5)]

        first = await self.received(store, limit=2)
        rest = await self.received(store, limit=10)

        assert [each.command.command_id for each in first] == ids[:2]
        assert [each.command.command_id for each in rest] == ids[2:]

    async def test_commands_of_one_send_are_received_in_its_order(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(10)))

        assert [each.command.command_id for each in await self.received(store)] == ids

    async def test_an_empty_queue_gives_nothing(self, store: CommandStore) -> None:
        assert await self.received(store) == []

    async def test_a_domain_does_not_see_the_commands_of_another(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        await self.sent(store, new(domain="billing"))

        assert await self.received(store) == []
        assert len(await store.receive("billing", limit=5, lease_seconds=LEASE, worker="w1")) == 1

    async def test_a_leased_command_is_not_received_again(self, store: CommandStore) -> None:
        await self.in_hand(store)

        assert await self.received(store, worker="w2") == []

    async def test_receivers_at_the_same_time_share_the_commands(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(40)))

        taken = await asyncio.gather(*(self.received(store, limit=10, worker=f"w{n}") for n in range(6)))
        rest = await self.received(store)
        everything = [each.command.command_id for part in [*taken, rest] for each in part]

        assert sorted(everything) == sorted(ids)

    async def test_nothing_stands_still_while_senders_and_receivers_run_together(self, store: CommandStore) -> None:
        received: list[Received] = []

        async def send() -> None:
            for _ in range(15):
                await self.sent(store, new(), new())

        async def receive(worker: str, senders: Sequence[asyncio.Future[None]]) -> None:
            while not all(sender.done() for sender in senders):
                received.extend(await self.received(store, limit=3, worker=worker))
                self.pass_time(store)

        senders = [asyncio.ensure_future(send()) for _ in range(3)]
        await asyncio.gather(*senders, receive("w1", senders), receive("w2", senders))
        received += await self.received(store, limit=1000)

        assert len(received) == len({each.command.command_id for each in received}) == 90
        assert {each.attempt for each in received} == {1}

    # -- leases -------------------------------------------------------------------------------------------------------
    async def test_a_command_whose_lease_expired_is_received_again(self, store: CommandStore) -> None:
        first = await self.in_hand(store)
        command_id = first.command.command_id

        await self.expire_leases(store)
        (second,) = await self.received(store, worker="w2")

        assert second.command == first.command
        assert (first.attempt, second.attempt) == (1, 2)
        assert second.lease.lease_no > first.lease.lease_no
        assert await self.status(store, command_id) is CommandStatus.IN_PROGRESS
        assert await self.events(store, command_id) == [_A.SENT, _A.RECEIVED, _A.LEASE_EXPIRED, _A.RECEIVED]

    async def test_a_lease_ends_by_time_alone(self, store: CommandStore) -> None:
        await self.sent(store)
        (first,) = await self.received(store, lease=0.5)

        (second,) = await self.eventually(store, lambda: self.received(store))

        assert second.command.command_id == first.command.command_id
        assert second.attempt == 2

    async def test_a_lease_that_expires_in_the_last_attempt_leads_to_troubleshooting(self, store: CommandStore) -> None:
        received = await self.in_hand(store, max_attempts=2, reply_to=REPLIES)
        command_id = received.command.command_id

        again = []
        for _ in range(3):
            await self.expire_leases(store)
            again.append(len(await self.received(store)))
        known = await self.known(store, command_id)

        assert again == [1, 0, 0]
        assert known.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE
        assert (known.attempts, known.msg_id) == (2, None)
        assert (known.last_error_type, known.last_error_code) == ("TRANSIENT", "LEASE_EXPIRED")
        assert known.last_error_msg
        assert await self.messages(store, DOMAIN) == []
        assert await self.replies(store, REPLIES) == []
        assert await store.count_troubleshooting(DOMAIN, None) == 1
        assert await self.events(store, command_id) == [
            *(_A.SENT, _A.RECEIVED, _A.LEASE_EXPIRED, _A.RECEIVED),
            *(_A.LEASE_EXPIRED, _A.RETRY_EXHAUSTED, _A.MOVED_TO_TSQ),
        ]

    async def test_an_exhausted_command_does_not_hold_up_those_behind_it(self, store: CommandStore) -> None:
        await self.in_hand(store, max_attempts=1)
        (behind,) = await self.sent(store)

        await self.expire_leases(store)
        received = await self.received(store, limit=2)

        assert [each.command.command_id for each in received] == [behind]

    async def test_a_renewed_lease_outlives_its_first_term(self, store: CommandStore) -> None:
        await self.sent(store, new(), new())
        kept, control = await self.received(store, lease=SHORT)

        lost = await store.renew(DOMAIN, [kept.lease], 300.0)
        again = await self.eventually(store, lambda: self.received(store))

        assert lost == []
        assert [each.command.command_id for each in again] == [control.command.command_id]
        assert await self.received(store) == []
        assert await self.say(store, kept, Verb.COMPLETE) is Verdict.APPLIED

    async def test_a_lease_that_expired_but_was_not_taken_can_be_renewed(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.expire_leases(store)

        lost = await store.renew(DOMAIN, [received.lease], LEASE)

        assert lost == []
        assert await self.received(store) == []

    async def test_renewing_says_which_leases_are_lost(self, store: CommandStore) -> None:
        await self.sent(store, new(), new())
        lost, kept = await self.received(store)
        await self.say(store, lost, Verb.GIVE_BACK)
        (again,) = await self.received(store, worker="w2")

        gone = await store.renew(DOMAIN, [kept.lease, lost.lease], 300.0)

        assert gone == [Loss(lost.command.command_id, is_canceled=False)]
        assert again.command.command_id == lost.command.command_id

    async def test_a_lost_lease_is_not_extended_by_its_former_holder(self, store: CommandStore) -> None:
        lost = await self.in_hand(store)
        await self.expire_leases(store)
        await self.received(store, lease=0.5, worker="w2")

        gone = await store.renew(DOMAIN, [lost.lease], 300.0)
        (again,) = await self.eventually(store, lambda: self.received(store, worker="w3"))

        assert gone == [Loss(lost.command.command_id, is_canceled=False)]
        assert again.attempt == 3

    async def test_renewing_what_is_finished_is_no_loss_and_changes_nothing(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.COMPLETE)

        assert await store.renew(DOMAIN, [received.lease], LEASE) == []
        assert await store.renew(DOMAIN, [], LEASE) == []
        assert await self.status(store, received.command.command_id) is CommandStatus.COMPLETED

    # -- the keeper ---------------------------------------------------------------------------------------------------
    async def test_a_keeper_renews_the_leases_it_is_told_of(self, store: CommandStore) -> None:
        await self.sent(store, new(), new())
        kept, control = await self.received(store, lease=SHORT)
        lost: list[Loss] = []
        keeper = store.lease_keeper(DOMAIN, lambda: [kept.lease], lost.extend, SHORT)

        keeper.start()
        keeper.start()
        try:
            again = await self.eventually(store, lambda: self.received(store))
        finally:
            keeper.stop()
            keeper.stop()

        assert [each.command.command_id for each in again] == [control.command.command_id]
        assert lost == []

    async def test_a_keeper_says_which_leases_are_lost(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.GIVE_BACK)
        lost: list[Loss] = []
        leases = [received.lease]
        keeper = store.lease_keeper(DOMAIN, lambda: list(leases), lost.extend, SHORT)

        async def reported() -> list[Loss]:
            await self.received(store)
            return lost

        keeper.start()
        try:
            found = await self.eventually(store, reported)
        finally:
            keeper.stop()

        assert set(found) == {Loss(received.command.command_id, is_canceled=False)}

    async def test_a_keeper_can_be_stopped_unstarted(self, store: CommandStore) -> None:
        def leases() -> list[Lease]:
            raise AssertionError

        store.lease_keeper(DOMAIN, leases, print, SHORT).stop()

    # -- sleeping and waking ------------------------------------------------------------------------------------------
    async def test_a_worker_learns_when_the_next_deferred_command_is_due(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        nothing = await store.about_to_sleep(DOMAIN, "w1")
        await self.sent(store, new(delay=600.0), new(delay=60.0), new(domain="billing", delay=5.0))

        seconds = await store.about_to_sleep(DOMAIN, "w1")

        assert nothing is None
        assert seconds is not None
        assert 30 < seconds <= 60

    async def test_a_command_that_is_due_already_is_due_in_no_time(self, store: CommandStore) -> None:
        await self.sent(store, new(delay=60.0))
        await self.make_due(store)

        assert await store.about_to_sleep(DOMAIN, "w1") == 0

    async def test_a_sleeping_worker_is_woken(self, store: CommandStore) -> None:
        async with store.wakeups(DOMAIN, "w1") as ear:
            await store.about_to_sleep(DOMAIN, "w1")
            count = await store.wake([DOMAIN])
            woken = await ear.wait(10)

        assert (count, woken) == (1, True)

    async def test_a_worker_is_woken_once_each_time_it_goes_to_sleep(self, store: CommandStore) -> None:
        async with store.wakeups(DOMAIN, "w1") as ear:
            await store.about_to_sleep(DOMAIN, "w1")
            counts = [await store.wake([DOMAIN]), await store.wake([DOMAIN])]
            await ear.wait(10)
            await store.about_to_sleep(DOMAIN, "w1")
            counts.append(await store.wake([DOMAIN]))

            assert await ear.wait(10)
        assert counts == [1, 0, 1]

    async def test_as_many_workers_are_woken_as_times_their_domain_is_named(self, store: CommandStore) -> None:
        for worker in ("w1", "w2", "w3"):
            await store.about_to_sleep(DOMAIN, worker)

        counts = [await store.wake([DOMAIN, DOMAIN]), await store.wake([DOMAIN] * 5)]

        assert counts == [2, 1]

    async def test_nobody_is_woken_for_another_domain(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        async with store.wakeups(DOMAIN, "w1") as ear:
            await store.about_to_sleep(DOMAIN, "w1")
            count = await store.wake(["billing"])
            woken = await ear.wait(0.1)

        assert (count, woken) == (0, False)

    async def test_waking_where_nobody_sleeps_does_nothing(self, store: CommandStore) -> None:
        assert await store.wake([DOMAIN, "nobody"]) == 0
        assert await store.wake([]) == 0

    async def test_renewing_an_unknown_command_changes_nothing(self, store: CommandStore) -> None:
        await store.renew(DOMAIN, [Lease(uuid4(), 4711, 1)], LEASE)

        assert await self.received(store) == []
