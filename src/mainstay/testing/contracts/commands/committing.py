"""Committing: the completion of a command and what its handler did are one transaction."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from uuid import uuid4

import pytest

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import CommandStore, NewBatch, NewCommand, Received, Verb
from mainstay.errors import StaleLeaseError
from mainstay.testing.contracts.commands.base import DOMAIN, PATIENCE, REPLIES, CommandStoreSuite, new, saying

_A, _S = AuditEventType, CommandStatus


class CommittingContract(CommandStoreSuite):
    """Committing: the completion of a command and what its handler did are one transaction."""

    async def together(self, *runs: Awaitable[None]) -> list[BaseException | None]:
        """Run all of them at once; what each raised."""
        return list(await asyncio.gather(*runs, return_exceptions=True))

    async def handle(self, store: CommandStore, received: Received, *effects: NewCommand, result: bytes = b"1") -> None:
        """What a transactional handler does: it sends, and its completion commits that."""
        async with store.transaction() as tx:
            await store.send(effects, conn=tx)
            await store.commit(tx, DOMAIN, saying(received, Verb.COMPLETE, result=result))

    async def test_what_a_handler_did_and_its_completion_show_together(self, store: CommandStore) -> None:
        received, effect = await self.in_hand(store, reply_to=REPLIES), new()
        command_id = received.command.command_id

        async with store.transaction() as tx:
            await store.send([effect], conn=tx)
            before = (await self.status(store, command_id), await store.get(DOMAIN, effect.command_id))
            await store.commit(tx, DOMAIN, saying(received, Verb.COMPLETE, result=b'{"total":[1,"it\'s",null]}'))
        known = await self.known(store, command_id)
        (reply,) = await self.replies(store, REPLIES)

        assert before == (_S.IN_PROGRESS, None)
        assert (known.status, known.result, known.msg_id) == (_S.COMPLETED, {"total": [1, "it's", None]}, None)
        assert await self.events(store, command_id) == [_A.SENT, _A.RECEIVED, _A.COMPLETED]
        assert (reply["outcome"], reply["data"]) == ("SUCCESS", {"total": [1, "it's", None]})
        assert await self.status(store, effect.command_id) is _S.PENDING
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_many_commit_at_once_each_for_itself(self, store: CommandStore) -> None:
        await self.sent(store, *(new() for _ in range(30)))
        effects = {one.lease: (one, new()) for one in await self.received(store)}

        ends = await self.together(*(self.handle(store, received, effect) for received, effect in effects.values()))

        assert set(ends) == {None}
        assert {await self.status(store, one.command.command_id) for one, _ in effects.values()} == {_S.COMPLETED}
        assert {await self.status(store, one.command_id) for _, one in effects.values()} == {_S.PENDING}

    async def test_what_was_done_under_a_lost_lease_never_was(self, store: CommandStore) -> None:
        await self.sent(store, *(new(reply_to=REPLIES) for _ in range(20)))
        late = await self.received(store)
        await self.expire_leases(store)
        current = await self.received(store, worker="w2")
        effects = {one.lease: new() for one in (*late, *current)}

        ends = await self.together(*(self.handle(store, one, effects[one.lease]) for one in (*late, *current)))

        assert [type(end) for end in ends] == [StaleLeaseError] * 20 + [type(None)] * 20
        assert {await store.get(DOMAIN, effects[one.lease].command_id) for one in late} == {None}
        assert {await self.status(store, effects[one.lease].command_id) for one in current} == {_S.PENDING}
        assert len(await self.replies(store, REPLIES)) == len(current)

    async def test_a_lease_commits_once(self, store: CommandStore) -> None:
        received, effect = await self.in_hand(store, reply_to=REPLIES), new()
        await self.handle(store, received, result=b'"first"')

        with pytest.raises(StaleLeaseError):
            await self.handle(store, received, effect)

        assert (await self.known(store, received.command.command_id)).result == "first"
        assert await store.get(DOMAIN, effect.command_id) is None
        assert len(await self.replies(store, REPLIES)) == 1

    async def test_a_command_that_is_unknown_commits_nothing(self, store: CommandStore) -> None:
        received, effect = await self.in_hand(store), new()
        unknown = received._replace(lease=received.lease._replace(command_id=uuid4()))

        with pytest.raises(StaleLeaseError):
            await self.handle(store, unknown, effect)

        assert await store.get(DOMAIN, effect.command_id) is None
        assert await self.status(store, received.command.command_id) is _S.IN_PROGRESS

    async def test_it_counts_in_its_batch_and_lets_its_key_go_on(self, store: CommandStore) -> None:
        first, second = new(key="k"), new(key="k")
        batch = NewBatch(DOMAIN, uuid4(), None, None, None)
        await store.create_batch(batch, [replace(each, batch_id=batch.batch_id) for each in (first, second)])

        for each in (first, second):
            (received,) = await self.eventually(store, lambda: self.received(store))
            assert received.command.command_id == each.command_id
            await self.handle(store, received)
        found = await store.get_batch(DOMAIN, batch.batch_id)

        assert found is not None
        assert (found.total_count, found.completed_count) == (2, 2)

    async def test_who_waits_for_it_is_told(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        async with store.replies_heard("waiter") as ear:
            await store.about_to_wait([(DOMAIN, received.command.command_id)], "waiter", 1000.0)
            await self.handle(store, received)

            assert await ear.wait(PATIENCE)
