"""Deciding: what was decided on a command is written down with its end, once."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.ledger import Decision, DecisionFilter, NewDecision, StreamName
from mainstay.commands.lifecycle import ReplyOutcome
from mainstay.commands.store import CommandStore, Received, Verb, Verdict
from mainstay.errors import StaleLeaseError
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new, rolled_back, saying

#: Events are none of a command store's business, so these decisions have none: `fsck` would look for them.
DECISION = NewDecision(StreamName("DecidedAccount", "acc-1"), 7, 0, "shop.accounts.Account", "1")
EVERYTHING = DecisionFilter()


class DecidingContract(CommandStoreSuite):
    """Deciding: what was decided on a command is written down with its end, once."""

    async def decided(self, store: CommandStore, **changes: Any) -> UUID:
        """A command that was decided on, alone, in the transaction of its handler."""
        received = await self.in_hand(store)
        async with store.transaction() as tx:
            decision = DECISION._replace(**changes)
            await store.commit(tx, DOMAIN, saying(received, Verb.COMPLETE, decision=decision))
        return received.command.command_id

    async def decision(self, store: CommandStore, command_id: UUID) -> Decision:
        """What was decided on a command on which something must have been."""
        found = await store.ledger.get(DOMAIN, command_id)

        assert found is not None
        return found

    async def decided_of(
        self, store: CommandStore, *, after: int = 0, limit: int = 100, **conditions: Any
    ) -> list[UUID]:
        """The commands of a page of decisions."""
        found = await store.ledger.list(DecisionFilter(**conditions), after=after, limit=limit)
        return [each.command_id for each in found]

    # -- one ----------------------------------------------------------------------------------------------------------
    async def test_a_decision_shows_with_the_end_of_its_command(self, store: CommandStore) -> None:
        received, sends = await self.in_hand(store), (("billing", uuid4()), ("orders", uuid4()))
        command_id = received.command.command_id
        decision = DECISION._replace(stream=StreamName("DecidedAccount", "acc-1", "tenant"), sends=sends)
        async with store.transaction() as tx:
            before = await store.ledger.get(DOMAIN, command_id)
            await store.commit(tx, DOMAIN, saying(received, Verb.COMPLETE, decision=decision))
        found, known = await self.decision(store, command_id), await self.known(store, command_id)

        assert before is None
        assert (found.domain, found.command_id, found.command_type) == (DOMAIN, command_id, known.command_type)
        assert (found.stream, found.version_read, found.events, found.version) == (decision.stream, 7, 0, 7)
        assert (found.handler, found.handler_version, found.sends) == ("shop.accounts.Account", "1", sends)
        assert found.decided_at == known.updated_at
        assert found.reply is not None
        assert (found.reply.outcome, found.reply.data) == (ReplyOutcome.SUCCESS, {"ok": True})

    async def test_outcomes_that_are_written_together_keep_each_its_own_decision(self, store: CommandStore) -> None:
        await self.sent(store, *(new() for _ in range(4)))
        received = await self.received(store)
        refused, plain, retried, done = received
        outcomes = [
            saying(refused, Verb.FAIL, decision=DECISION._replace(version_read=1)),
            saying(plain, Verb.COMPLETE),
            saying(retried, Verb.RETRY, decision=DECISION._replace(version_read=2)),
            saying(done, Verb.COMPLETE, decision=DECISION._replace(version_read=3, handler_version="ü' 2")),
        ]
        await store.complete(DOMAIN, outcomes)
        found = [await store.ledger.get(DOMAIN, each.command.command_id) for each in received]

        assert [each and each.version_read for each in found] == [1, None, None, 3]
        assert found[0] is not None
        assert found[0].reply is not None
        assert (found[0].reply.outcome, found[0].reply.error_code) == (ReplyOutcome.FAILED, "NO_CREDIT")
        assert found[3] is not None
        assert (found[3].handler_version, found[3].stream.tenant_id) == ("ü' 2", None)

    @pytest.mark.parametrize("verb", [Verb.RETRY, Verb.TROUBLESHOOT, Verb.GIVE_BACK])
    async def test_what_does_not_end_a_command_decides_nothing(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, verb, decision=DECISION)

        assert await store.ledger.get(DOMAIN, received.command.command_id) is None

    async def test_nothing_is_decided_by_a_transaction_that_is_rolled_back(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        async with rolled_back(store) as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE, decision=DECISION)], conn=tx)

        assert await store.ledger.list(EVERYTHING, after=0, limit=10) == []
        assert await self.say(store, received, Verb.COMPLETE, decision=DECISION) is Verdict.APPLIED
        assert await self.decided_of(store) == [received.command.command_id]

    async def _taken_over(self, store: CommandStore) -> tuple[Received, Received]:
        late = await self.in_hand(store)
        await self.expire_leases(store)
        (current,) = await self.received(store, worker="w2")
        return late, current

    async def test_a_lost_lease_decides_nothing(self, store: CommandStore) -> None:
        late, current = await self._taken_over(store)
        await self.say(store, current, Verb.COMPLETE, decision=DECISION)
        again = saying(late, Verb.COMPLETE, decision=DECISION._replace(version_read=9))
        (verdict,) = await store.complete(DOMAIN, [again])
        with pytest.raises(StaleLeaseError):
            async with store.transaction() as tx:
                await store.commit(tx, DOMAIN, again)

        assert verdict is Verdict.STALE
        assert (await self.decision(store, late.command.command_id)).version_read == 7

    async def test_an_outcome_that_is_repeated_decides_once(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.COMPLETE, decision=DECISION)
        again = await self.say(store, received, Verb.COMPLETE, decision=DECISION._replace(version_read=9))

        assert again is Verdict.REPEATED
        assert (await self.decision(store, received.command.command_id)).version_read == 7

    # -- many ---------------------------------------------------------------------------------------------------------
    async def test_decisions_are_listed_a_page_at_a_time_in_the_order_of_their_commands(
        self, store: CommandStore
    ) -> None:
        ids = [await self.decided(store) for _ in range(3)]
        first = await store.ledger.list(EVERYTHING, after=0, limit=2)
        rest = await store.ledger.list(EVERYTHING, after=first[-1].number, limit=2)

        assert [each.command_id for each in (*first, *rest)] == ids
        assert [each.number for each in (*first, *rest)] == sorted({each.number for each in (*first, *rest)})

    async def test_decisions_are_listed_by_any_mix_of_conditions(self, store: CommandStore) -> None:
        first = await self.decided(store)
        other = await self.decided(store, stream=StreamName("DecidedAccount", "acc-2"))
        of_tenant = await self.decided(store, stream=StreamName("DecidedAccount", "acc-1", "tenant"))
        at = (await self.decision(store, other)).decided_at

        assert await self.decided_of(store, stream=DECISION.stream) == [first]
        assert await self.decided_of(store, stream=StreamName("DecidedAccount", "acc-1", "tenant")) == [of_tenant]
        assert await self.decided_of(store, domain=DOMAIN, command_type="CreateOrder") == [first, other, of_tenant]
        assert await self.decided_of(store, domain="billing") == []
        assert await self.decided_of(store, command_type="Another") == []
        assert other in await self.decided_of(store, since=at, until=at + timedelta(microseconds=1))
        assert await self.decided_of(store, until=at - timedelta(days=1)) == []
