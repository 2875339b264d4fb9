"""Commands that end unhandled: expired, or canceled while they were being handled."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, CommandStore, Loss, NewBatch, Verb, Verdict
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new

_A, _S = AuditEventType, CommandStatus
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC) + timedelta(days=30_000)


class EndingContract(CommandStoreSuite):
    """Commands that end unhandled."""

    # -- expiring -----------------------------------------------------------------------------------------------------
    async def test_an_expired_command_is_not_received_but_ends_canceled(self, store: CommandStore) -> None:
        expired, live = new(expires_at=PAST, reply_to=REPLIES), new(expires_at=FUTURE)
        await self.sent(store, expired, live)

        (received,) = await self.received(store)
        known = await self.known(store, expired.command_id)
        (reply,) = await self.replies(store, REPLIES)

        assert received.command.command_id == live.command_id
        assert (known.status, known.last_error_code, known.attempts) == (_S.CANCELED, "EXPIRED", 0)
        assert known.expires_at == PAST
        assert await self.events(store, expired.command_id) == [_A.SENT, _A.EXPIRED]
        assert (reply["outcome"], reply["error_code"]) == ("CANCELED", "EXPIRED")
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_many_expired_commands_do_not_hide_those_behind_them(self, store: CommandStore) -> None:
        live = new()
        await self.sent(store, *(new(expires_at=PAST) for _ in range(12)), live)

        (received,) = await self.received(store, limit=1)

        assert received.command.command_id == live.command_id

    @pytest.mark.parametrize("is_domain_paused", [False, True])
    async def test_a_parked_command_expires_whatever_its_gate_says(
        self, store: CommandStore, *, is_domain_paused: bool
    ) -> None:
        await store.gates.pause(DOMAIN, "CreateOrder", operator="ada", reason=None)
        (other,) = await self.sent(store)
        soon = (await self.known(store, other)).created_at + timedelta(seconds=1)
        expiring, after = new(key="k", expires_at=soon, reply_to=REPLIES), new(key="k", command_type="Ship")
        await self.sent(store, expiring, after)
        for one in [*await self.received(store), *await self.received(store)]:  # it expired before it was parked
            await self.say(store, one, Verb.COMPLETE)
        if is_domain_paused:
            await store.gates.pause(DOMAIN, None, operator="ada", reason=None)

        async def has_ended() -> bool:
            for one in await self.received(store):
                await self.say(store, one, Verb.COMPLETE)
            return await self.status(store, expiring.command_id) is _S.CANCELED

        assert await self.eventually(store, has_ended)
        known = await self.known(store, expiring.command_id)
        (reply,) = await self.replies(store, REPLIES)
        await store.gates.resume(DOMAIN, None)

        async def the_next_has_its_turn() -> bool:
            for one in await self.received(store):
                await self.say(store, one, Verb.COMPLETE)
            return await self.status(store, after.command_id) is _S.COMPLETED

        assert (known.last_error_code, reply["error_code"]) == ("EXPIRED", "EXPIRED")
        assert await self.events(store, expiring.command_id) in (
            [_A.SENT, _A.PARKED, _A.EXPIRED],
            [_A.SENT, _A.EXPIRED],
        )
        assert (await store.stats(DOMAIN))[0].parked == 1
        assert await self.eventually(store, the_next_has_its_turn)

    async def test_an_expired_command_counts_in_its_batch_and_frees_its_key(self, store: CommandStore) -> None:
        expired, after = new(key="k", expires_at=PAST), new(key="k")
        batch = NewBatch(DOMAIN, new().command_id, None, None, None)
        await store.create_batch(batch, [replace(each, batch_id=batch.batch_id) for each in (expired, after)])

        (received,) = await self.eventually(store, lambda: self.received(store))
        found = await store.get_batch(DOMAIN, batch.batch_id)

        assert received.command.command_id == after.command_id
        assert found is not None
        assert (found.total_count, found.canceled_count) == (2, 1)

    async def test_a_retry_that_comes_too_late_is_not_handled(self, store: CommandStore) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        for command_id in await self.sent(store, new(expires_at=soon), new(expires_at=soon)):
            assert await self.status(store, command_id) is _S.PENDING
        given_back, retried = await self.received(store)
        await self.say(store, retried, Verb.RETRY)
        await self.say(store, given_back, Verb.GIVE_BACK)

        async def both_ended() -> bool:
            await self.make_due(store)
            again = await self.received(store)
            for one in again:  # it was not over yet
                await self.say(store, one, Verb.GIVE_BACK)
            statuses = [await self.status(store, one.command.command_id) for one in (given_back, retried)]
            return statuses == [_S.CANCELED, _S.CANCELED]

        assert await self.eventually(store, both_ended)

    async def test_a_command_that_expires_while_it_is_handled_completes(self, store: CommandStore) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        received = await self.in_hand(store, expires_at=soon)

        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED

    # -- canceling what is in progress -------------------------------------------------------------------------------
    async def test_a_running_command_is_cancelled_only_if_asked_for(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id

        assert await store.cancel(DOMAIN, command_id, reason=None) is _S.IN_PROGRESS
        assert await store.renew(DOMAIN, [received.lease], 30.0) == []
        assert await self.events(store, command_id) == [_A.SENT, _A.RECEIVED]

    async def test_its_worker_learns_with_its_renewal_and_gives_it_back(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id

        for _ in range(2):
            assert await store.cancel(DOMAIN, command_id, reason="changed our mind", running=True) is _S.IN_PROGRESS
        losses = await store.renew(DOMAIN, [received.lease], 30.0)
        verdict = await self.say(store, received, Verb.GIVE_BACK)
        known = await self.known(store, command_id)
        (reply,) = await self.replies(store, REPLIES)

        assert losses == [Loss(command_id, is_canceled=True)]
        assert verdict is Verdict.APPLIED
        assert (known.status, known.last_error_code, known.last_error_msg) == (
            _S.CANCELED,
            "CANCELED",
            "changed our mind",
        )
        assert await self.events(store, command_id) == [
            _A.SENT,
            _A.RECEIVED,
            _A.CANCEL_REQUESTED,
            _A.GIVEN_BACK,
            _A.CANCELED,
        ]
        assert reply["outcome"] == "CANCELED"
        assert await self.messages(store, DOMAIN) == []
        assert await self.received(store) == []

    @pytest.mark.parametrize("verb", [Verb.RETRY, Verb.TROUBLESHOOT])
    async def test_a_failure_after_the_request_is_the_end(self, store: CommandStore, verb: Verb) -> None:
        batch = NewBatch(DOMAIN, new().command_id, None, None, None)
        await store.create_batch(batch, [new(batch_id=batch.batch_id)])
        (received,) = await self.received(store)
        await store.cancel(DOMAIN, received.command.command_id, reason=None, running=True)

        await self.say(store, received, verb)
        found = await store.get_batch(DOMAIN, batch.batch_id)

        assert await self.status(store, received.command.command_id) is _S.CANCELED
        assert found is not None
        assert (found.canceled_count, found.in_troubleshooting_count) == (1, 0)
        assert await store.count_troubleshooting(DOMAIN, None) == 0

    async def test_a_handler_that_completes_first_has_completed(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id
        await store.cancel(DOMAIN, command_id, reason=None, running=True)

        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED
        assert await store.cancel(DOMAIN, command_id, reason=None, running=True) is _S.COMPLETED
        assert await self.status(store, command_id) is _S.COMPLETED

    async def test_a_dead_workers_command_ends_when_its_lease_does(self, store: CommandStore) -> None:
        received = await self.in_hand(store, key="k", max_attempts=1)
        after = new(key="k")
        await self.sent(store, after)
        await store.cancel(DOMAIN, received.command.command_id, reason=None, running=True)
        await self.expire_leases(store)

        (following,) = await self.eventually(store, lambda: self.received(store))

        assert await self.status(store, received.command.command_id) is _S.CANCELED
        assert following.command.command_id == after.command_id
        assert await self.say(store, received, Verb.COMPLETE) is Verdict.STALE

    async def test_an_operators_retry_starts_without_the_request(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        assert await store.cancel(DOMAIN, command_id, reason=None, running=True) is _S.IN_TROUBLESHOOTING_QUEUE

        assert await self.operate(store, Action.RETRY, command_id)
        (received,) = await self.received(store)

        assert received.command.command_id == command_id
