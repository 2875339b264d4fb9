"""Batches that are sent in a stream, batches of batches, and what operators do with batches."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.actions import CANCEL_BATCH, ActionState, NewAction
from mainstay.commands.command import BatchMetadata, SendResult
from mainstay.commands.failures import Selection
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus
from mainstay.commands.store import Action, CommandStore, NewBatch, Refusal, Verb
from mainstay.errors import BatchNotFoundError, InvalidOperationError
from mainstay.testing.contracts.commands.base import DOMAIN, LEASE, REPLIES, CommandStoreSuite, new

_A, _S = AuditEventType, CommandStatus


class StreamContract(CommandStoreSuite):
    """Batches that are sent in a stream, batches of batches, and what operators do with batches."""

    async def opened(self, store: CommandStore, **changes: Any) -> UUID:
        """An open batch with nothing in it."""
        fields: dict[str, Any] = {"name": None, "custom_data": None, "on_complete": None, "sealed": False}
        batch = NewBatch(DOMAIN, uuid4(), **fields | changes)
        await store.create_batch(batch, [])
        return batch.batch_id

    async def added(self, store: CommandStore, batch_id: UUID, count: int = 1, **changes: Any) -> list[UUID]:
        """Send so many commands into an open batch."""
        commands = [new(batch_id=batch_id, **changes) for _ in range(count)]
        answers = await store.send_to_batch(DOMAIN, batch_id, commands)

        assert all(isinstance(answer, SendResult) for answer in answers)
        return [command.command_id for command in commands]

    async def handled(self, store: CommandStore, verb: Verb = Verb.COMPLETE) -> None:
        """Handle what is ready."""
        for received in await self.received(store):
            await self.say(store, received, verb)

    async def looked_at(self, store: CommandStore, batch_id: UUID) -> BatchMetadata:
        """A batch that must exist, after a fold."""
        await store.fold_batches(DOMAIN)
        found = await store.get_batch(DOMAIN, batch_id)

        assert found is not None
        return found

    async def test_an_open_batch_does_not_end_before_it_is_sealed(self, store: CommandStore) -> None:
        end = new(command_type="AllDone")
        key = await self.opened(store, on_complete=end)
        empty = await self.looked_at(store, key)
        await self.added(store, key, 2)
        await self.handled(store)
        between = await self.looked_at(store, key)
        await self.added(store, key)
        await self.handled(store)
        await store.seal_batch(DOMAIN, key)
        await store.seal_batch(DOMAIN, key)
        done = await self.looked_at(store, key)

        assert (empty.sealed, empty.status, empty.is_complete) == (False, BatchStatus.PENDING, False)
        assert (between.completed_count, between.total_count, between.is_complete) == (2, 2, False)
        assert (done.sealed, done.status, done.completed_count) == (True, BatchStatus.COMPLETED, 3)
        assert [each.command.command_id for each in await self.received(store)] == [end.command_id]

    async def test_a_sealed_batch_takes_no_more_of_a_stream(self, store: CommandStore) -> None:
        key = await self.opened(store)
        await store.seal_batch(DOMAIN, key)

        with pytest.raises(InvalidOperationError, match="sealed"):
            await self.added(store, key)
        with pytest.raises(BatchNotFoundError):
            await self.added(store, uuid4())
        with pytest.raises(BatchNotFoundError):
            await store.seal_batch(DOMAIN, uuid4())
        assert (await self.looked_at(store, key)).total_count == 0

    async def test_a_chunk_of_a_stream_is_stored_whole_or_not_at_all(self, store: CommandStore) -> None:
        key = await self.opened(store)
        (known,) = await self.added(store, key)
        answers = await store.send_to_batch(DOMAIN, key, [new(batch_id=key), new(batch_id=key, command_id=known)])

        assert answers[1] is Refusal.DUPLICATE
        assert (await self.looked_at(store, key)).total_count == 1

    async def test_chunks_and_a_seal_at_the_same_time_leave_nothing_uncounted(self, store: CommandStore) -> None:
        key = await self.opened(store)

        async def add() -> int:
            try:
                return len(await self.added(store, key, 3))
            except InvalidOperationError:
                return 0

        *added, _ = await asyncio.gather(add(), add(), add(), store.seal_batch(DOMAIN, key))
        await self.handled(store)
        done = await self.looked_at(store, key)

        assert done.is_complete
        assert done.total_count == done.completed_count == sum(added)

    # -- batches of batches -------------------------------------------------------------------------------------------
    async def test_a_batch_ends_when_its_own_commands_and_its_parts_have(self, store: CommandStore) -> None:
        parent = await self.opened(store)
        part = await self.opened(store, parent_id=parent)
        await self.added(store, parent)
        await self.added(store, part)
        await store.seal_batch(DOMAIN, parent)
        await self.handled(store)
        waiting = await self.looked_at(store, parent)
        await store.seal_batch(DOMAIN, part)
        finished = await store.fold_batches(DOMAIN)
        done = await self.looked_at(store, parent)

        assert not waiting.is_complete
        assert finished == [part, parent]
        assert (done.status, done.total_count) == (BatchStatus.COMPLETED, 1)
        assert [each.batch_id for each in await self.parts(store, parent)] == [part]
        assert (await self.looked_at(store, part)).parent_id == parent

    async def parts(self, store: CommandStore, parent: UUID) -> list[BatchMetadata]:
        """The batches of a batch."""
        return await store.list_batches(DOMAIN, status=None, parent_id=parent, limit=10, offset=0)

    async def test_a_part_with_failures_shows_in_the_whole(self, store: CommandStore) -> None:
        parent = await self.opened(store)
        part = await self.opened(store, parent_id=parent)
        await self.added(store, part)
        for each in (part, parent):
            await store.seal_batch(DOMAIN, each)
        await self.handled(store, Verb.FAIL)

        assert (await self.looked_at(store, parent)).status is BatchStatus.COMPLETED_WITH_FAILURES

    async def test_a_parent_must_exist_and_not_have_ended(self, store: CommandStore) -> None:
        with pytest.raises(BatchNotFoundError):
            await self.opened(store, parent_id=uuid4())
        parent = await self.opened(store)
        await store.seal_batch(DOMAIN, parent)
        await store.fold_batches(DOMAIN)

        with pytest.raises(InvalidOperationError, match="ended"):
            await self.opened(store, parent_id=parent)

    # -- canceling and retrying --------------------------------------------------------------------------------------
    async def cancelled(self, store: CommandStore, batch_id: UUID, *, running: bool = False) -> UUID:
        """Cancel what waits of a batch."""
        which = Selection(DOMAIN, batch_id=batch_id)
        action = NewAction(uuid4(), CANCEL_BATCH, which, "ada", "a mistake", running=running)
        await store.begin_action(action)
        while await store.run_action(action.action_id, 2):
            pass
        return action.action_id

    async def test_cancelling_a_batch_cancels_what_waits_and_nothing_else(self, store: CommandStore) -> None:
        key = await self.opened(store)
        (running,) = await self.added(store, key)
        (received,) = await self.received(store)
        ready = await self.added(store, key, 3, reply_to=REPLIES)
        deferred = await self.added(store, key, 2, delay=1000.0)
        in_line = await self.added(store, key, 2, key="k")
        (other,) = await self.sent(store)
        await store.seal_batch(DOMAIN, key)
        action = await store.get_action(await self.cancelled(store, key))
        statuses = {await self.status(store, each) for each in [*ready, *deferred, *in_line]}
        await self.say(store, received, Verb.COMPLETE)
        done = await self.looked_at(store, key)
        told = await self.told(store, ready[0], _A.CANCELED)

        assert statuses == {_S.CANCELED}
        assert await self.status(store, running) is _S.COMPLETED
        assert await self.status(store, other) is _S.PENDING
        assert len(await self.replies(store, REPLIES)) == 3
        assert action is not None
        assert (action.action, action.state, action.applied) == (CANCEL_BATCH, ActionState.DONE, 7)
        assert (done.canceled_count, done.completed_count, done.is_complete) == (7, 1, True)
        assert (told["operator"], told["reason"]) == ("ada", "a mistake")

    async def test_cancelling_a_batch_asks_for_the_end_of_what_runs_if_told_so(self, store: CommandStore) -> None:
        key = await self.opened(store)
        await self.added(store, key, 3)
        given_back, finished, again = await self.received(store)
        waiting = await self.added(store, key, 2)
        (other,) = await self.sent(store)
        await store.seal_batch(DOMAIN, key)
        action = await store.get_action(await self.cancelled(store, key, running=True))
        lost = await store.renew(DOMAIN, [each.lease for each in (given_back, finished, again)], LEASE)
        await self.say(store, given_back, Verb.GIVE_BACK)
        await self.say(store, finished, Verb.COMPLETE)
        await self.say(store, again, Verb.RETRY)
        done = await self.looked_at(store, key)
        told = await self.told(store, given_back.command.command_id, _A.CANCEL_REQUESTED)

        assert action is not None
        assert (action.state, action.applied, action.refused) == (ActionState.DONE, 5, 0)
        assert {loss.command_id for loss in lost if loss.is_canceled} == {
            each.command.command_id for each in (given_back, finished, again)
        }
        assert (told["operator"], told["reason"]) == ("ada", "a mistake")
        assert {await self.status(store, each) for each in waiting} == {_S.CANCELED}
        assert await self.status(store, other) is _S.PENDING
        assert (done.canceled_count, done.completed_count, done.is_complete) == (4, 1, True)

    async def test_a_cancel_and_receives_at_the_same_time_agree(self, store: CommandStore) -> None:
        key = await self.opened(store)
        ids = await self.added(store, key, 6)
        received, again, _ = await asyncio.gather(
            self.received(store, limit=2), self.received(store, limit=2), self.cancelled(store, key)
        )
        statuses = [await self.status(store, each) for each in ids]

        assert statuses.count(_S.IN_PROGRESS) == len(received) + len(again)
        assert statuses.count(_S.CANCELED) + statuses.count(_S.IN_PROGRESS) == 6

    async def test_the_failed_part_of_a_batch_is_selected_by_its_id(self, store: CommandStore) -> None:
        key = await self.opened(store)
        (troubled,) = await self.added(store, key)
        await self.handled(store, Verb.TROUBLESHOOT)
        await self.troubled(store)
        action = NewAction(uuid4(), Action.RETRY, Selection(DOMAIN, batch_id=key), "ada", None)
        await store.begin_action(action)

        assert [step.command_id for step in await store.run_action(action.action_id, 10)] == [troubled]
