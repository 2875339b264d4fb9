"""Batches: created whole, counted exactly, completed once."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.command import BatchMetadata, SendResult
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus
from mainstay.commands.store import Action, CommandFilter, CommandStore, NewBatch, NewCommand, Refusal, Verb
from mainstay.errors import DuplicateBatchError, DuplicateCommandError, QueueNotFoundError
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new, rolled_back, saying

_A, _B, _S = AuditEventType, BatchStatus, CommandStatus


class BatchContract(CommandStoreSuite):
    """Batches: created whole, counted exactly, completed once."""

    async def batch(self, store: CommandStore, size: int, **changes: Any) -> tuple[UUID, list[UUID]]:
        """Create a batch of new commands; its id and theirs."""
        fields: dict[str, Any] = {"batch_id": uuid4(), "name": None, "custom_data": None, "on_complete": None} | changes
        commands = [new(batch_id=fields["batch_id"]) for _ in range(size)]
        answers = await store.create_batch(NewBatch(DOMAIN, **fields), commands)

        assert all(isinstance(answer, SendResult) for answer in answers), answers
        return fields["batch_id"], [command.command_id for command in commands]

    async def work_off(self, store: CommandStore, *verbs: Verb) -> list[UUID]:
        """Receive as many commands as there are verbs, and say one of each."""
        taken = await self.received(store, limit=len(verbs))
        await store.complete(DOMAIN, [saying(each, verb) for each, verb in zip(taken, verbs, strict=True)])
        return [each.command.command_id for each in taken]

    async def look(self, store: CommandStore, batch_id: UUID) -> BatchMetadata:
        """A batch that must exist."""
        found = await store.get_batch(DOMAIN, batch_id)

        assert found is not None
        return found

    async def counts(self, store: CommandStore, batch_id: UUID) -> tuple[int, int, int, int, int]:
        """Total, completed, failed, canceled, in troubleshooting."""
        found = await self.look(store, batch_id)
        return (
            found.total_count,
            found.completed_count,
            found.failed_count,
            found.canceled_count,
            found.in_troubleshooting_count,
        )

    # -- creating -----------------------------------------------------------------------------------------------------
    async def test_a_batch_is_created_with_its_commands(self, store: CommandStore) -> None:
        batch_id, ids = await self.batch(store, 3, name="payday", custom_data=b'{"month":5}')

        found = await self.look(store, batch_id)
        members = await store.query(CommandFilter(domain=DOMAIN, batch_id=batch_id), limit=10, offset=0)

        assert (found.domain, found.batch_id, found.status) == (DOMAIN, batch_id, _B.PENDING)
        assert (found.name, found.custom_data, found.batch_type) == ("payday", {"month": 5}, "COMMAND")
        assert (found.started_at, found.completed_at, found.is_complete) == (None, None, False)
        assert found.created_at.tzinfo is not None
        assert await self.counts(store, batch_id) == (3, 0, 0, 0, 0)
        assert sorted(member.command_id for member in members) == sorted(ids)
        assert {member.batch_id for member in members} == {batch_id}
        assert [each.command.command_id for each in await self.received(store)] == ids

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            ({"reply_to": "nowhere"}, Refusal.REPLY_QUEUE_NOT_FOUND),
            ({"command_id": None}, Refusal.DUPLICATE),
        ],
    )
    async def test_a_batch_with_one_refused_command_is_not_created_at_all(
        self, store: CommandStore, change: dict[str, Any], refusal: Refusal
    ) -> None:
        (taken,) = await self.sent(store)
        change = {"command_id": taken} if "command_id" in change else change
        batch = NewBatch(DOMAIN, uuid4(), name=None, custom_data=None, on_complete=None)
        commands = [new(**each, batch_id=batch.batch_id) for each in ({}, change, {})]

        answers = await store.create_batch(batch, commands)
        left = [await store.get(DOMAIN, commands[n].command_id) for n in (0, 2)]

        assert answers[1] is refusal
        assert not isinstance(answers[0], Refusal)
        assert not isinstance(answers[2], Refusal)
        assert left == [None, None]
        assert await store.get_batch(DOMAIN, batch.batch_id) is None
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_a_batch_that_names_an_id_twice_is_not_created(self, store: CommandStore) -> None:
        batch = NewBatch(DOMAIN, uuid4(), name=None, custom_data=None, on_complete=None)
        twice = new(batch_id=batch.batch_id)

        answers = await store.create_batch(batch, [twice, twice])

        assert answers[1] is Refusal.DUPLICATE
        assert await store.get_batch(DOMAIN, batch.batch_id) is None
        assert await store.get(DOMAIN, twice.command_id) is None

    async def test_a_batch_for_a_domain_without_a_queue_is_not_created(self, store: CommandStore) -> None:
        batch = NewBatch("nobody", uuid4(), name=None, custom_data=None, on_complete=None)

        answers = await store.create_batch(batch, [new(domain="nobody", batch_id=batch.batch_id)])

        assert answers == [Refusal.QUEUE_NOT_FOUND]
        assert await store.get_batch("nobody", batch.batch_id) is None

    async def test_a_batch_created_in_a_transaction_stands_or_falls_with_it(self, store: CommandStore) -> None:
        kept, dropped = [NewBatch(DOMAIN, uuid4(), name=None, custom_data=None, on_complete=None) for _ in range(2)]

        async with store.transaction() as tx:
            await store.create_batch(kept, [new(batch_id=kept.batch_id)], conn=tx)
            inside = await store.get_batch(DOMAIN, kept.batch_id)
        async with rolled_back(store) as tx:
            await store.create_batch(dropped, [new(batch_id=dropped.batch_id)], conn=tx)

        assert inside is None
        assert await self.counts(store, kept.batch_id) == (1, 0, 0, 0, 0)
        assert await store.get_batch(DOMAIN, dropped.batch_id) is None
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_a_refused_batch_leaves_the_callers_transaction_usable(self, store: CommandStore) -> None:
        (taken,) = await self.sent(store)
        batch = NewBatch(DOMAIN, uuid4(), name=None, custom_data=None, on_complete=None)
        other = new()

        async with store.transaction() as tx:
            commands = [new(batch_id=batch.batch_id), new(batch_id=batch.batch_id, command_id=taken)]
            answers = await store.create_batch(batch, commands, conn=tx)
            await store.send([other], conn=tx)

        assert answers[1] is Refusal.DUPLICATE
        assert await store.get_batch(DOMAIN, batch.batch_id) is None
        assert [each.command.command_id for each in await self.received(store)] == [taken, other.command_id]

    async def test_a_command_can_join_a_batch(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 2)

        await self.sent(store, new(batch_id=batch_id), new(batch_id=batch_id, delay=60.0))

        assert await self.counts(store, batch_id) == (4, 0, 0, 0, 0)

    # -- starting -----------------------------------------------------------------------------------------------------
    async def test_a_lease_says_whether_its_command_is_in_a_batch(self, store: CommandStore) -> None:
        _, (member,) = await self.batch(store, 1)
        (other,) = await self.sent(store)
        taken = await self.received(store, limit=2)

        assert {each.command.command_id: each.lease.in_batch for each in taken} == {member: True, other: False}

    async def test_a_batch_starts_once_when_its_first_command_is_received(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 3)

        await self.received(store, limit=1)
        started = await self.look(store, batch_id)
        await self.expire_leases(store)
        await asyncio.gather(self.received(store, limit=2), self.received(store, limit=2))

        assert started.status is _B.IN_PROGRESS
        assert started.started_at is not None
        assert (await self.look(store, batch_id)).started_at == started.started_at
        assert await self.events(store, batch_id) == [_A.BATCH_STARTED]

    # -- counting and completing --------------------------------------------------------------------------------------
    async def test_a_batch_of_successes_completes(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 2)
        await self.work_off(store, Verb.COMPLETE)
        early = await store.fold_batches(DOMAIN)
        await self.work_off(store, Verb.COMPLETE)

        finished = await store.fold_batches(DOMAIN)
        found = await self.look(store, batch_id)

        assert (early, finished) == ([], [batch_id])
        assert (found.status, found.is_complete) == (_B.COMPLETED, True)
        assert found.completed_at is not None
        assert await self.counts(store, batch_id) == (2, 2, 0, 0, 0)
        assert await self.events(store, batch_id) == [_A.BATCH_STARTED, _A.BATCH_COMPLETED]

    async def test_the_counts_are_exact_at_any_moment(self, store: CommandStore) -> None:
        batch_id, ids = await self.batch(store, 6)

        await self.work_off(store, Verb.COMPLETE, Verb.FAIL, Verb.TROUBLESHOOT, Verb.RETRY, Verb.GIVE_BACK)
        unfolded = await self.counts(store, batch_id)
        await store.fold_batches(DOMAIN)
        folded = await self.counts(store, batch_id)
        await store.cancel(DOMAIN, ids[5], reason=None)

        assert unfolded == folded == (6, 1, 1, 0, 1)
        assert await self.counts(store, batch_id) == (6, 1, 1, 1, 1)
        assert (await self.look(store, batch_id)).status is _B.IN_PROGRESS

    @pytest.mark.parametrize("verb", [Verb.FAIL, Verb.TROUBLESHOOT])
    async def test_a_batch_with_a_failure_completes_with_failures(self, store: CommandStore, verb: Verb) -> None:
        batch_id, _ = await self.batch(store, 2)
        await self.work_off(store, Verb.COMPLETE, verb)

        finished = await store.fold_batches(DOMAIN)

        assert finished == [batch_id]
        assert (await self.look(store, batch_id)).status is _B.COMPLETED_WITH_FAILURES

    async def test_a_batch_with_a_cancelled_command_completes_with_failures(self, store: CommandStore) -> None:
        batch_id, ids = await self.batch(store, 2)
        await store.cancel(DOMAIN, ids[0], reason=None)
        await self.work_off(store, Verb.COMPLETE)

        await store.fold_batches(DOMAIN)

        assert (await self.look(store, batch_id)).status is _B.COMPLETED_WITH_FAILURES
        assert await self.counts(store, batch_id) == (2, 1, 0, 1, 0)

    async def test_a_batch_cancelled_before_it_began_completes_with_failures(self, store: CommandStore) -> None:
        batch_id, ids = await self.batch(store, 1)
        await store.cancel(DOMAIN, ids[0], reason=None)

        finished = await store.fold_batches(DOMAIN)

        assert finished == [batch_id]
        assert (await self.look(store, batch_id)).status is _B.COMPLETED_WITH_FAILURES

    async def test_a_lease_that_expires_for_the_last_time_counts_as_troubleshooting(self, store: CommandStore) -> None:
        batch_id = uuid4()
        batch = NewBatch(DOMAIN, batch_id, name=None, custom_data=None, on_complete=None)
        await store.create_batch(batch, [new(batch_id=batch_id, max_attempts=1)])
        await self.received(store)

        await self.expire_leases(store)
        await self.received(store)

        assert await self.counts(store, batch_id) == (1, 0, 0, 0, 1)
        assert await store.fold_batches(DOMAIN) == [batch_id]

    async def test_an_empty_batch_completes_at_the_first_fold(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 0)

        finished = await store.fold_batches(DOMAIN)

        assert finished == [batch_id]
        assert (await self.look(store, batch_id)).status is _B.COMPLETED
        assert await self.counts(store, batch_id) == (0, 0, 0, 0, 0)

    async def test_a_fold_leaves_the_batches_of_other_domains(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        batch_id, _ = await self.batch(store, 0)

        assert await store.fold_batches("billing") == []
        assert not (await self.look(store, batch_id)).is_complete

    # -- operators ----------------------------------------------------------------------------------------------------
    async def test_counts_follow_the_operator_and_never_fall_below_zero(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 3)
        retried, canceled, completed = await self.work_off(store, *[Verb.TROUBLESHOOT] * 3)
        seen = [await self.counts(store, batch_id)]

        for action, command_id in (
            (Action.RETRY, retried),
            (Action.CANCEL, canceled),
            (Action.COMPLETE, completed),
        ):
            await self.operate(store, action, command_id)
            await self.operate(store, action, command_id)
            seen.append(await self.counts(store, batch_id))
        await store.fold_batches(DOMAIN)
        await self.work_off(store, Verb.COMPLETE)
        await store.fold_batches(DOMAIN)

        assert seen == [(3, 0, 0, 0, 3), (3, 0, 0, 0, 2), (3, 0, 0, 1, 1), (3, 1, 0, 1, 0)]
        assert await self.counts(store, batch_id) == (3, 2, 0, 1, 0)

    @pytest.mark.parametrize("action", list(Action))
    async def test_what_operators_do_after_the_end_changes_the_counts_only(
        self, store: CommandStore, action: Action
    ) -> None:
        batch_id, _, end = await self._ended(store, Verb.COMPLETE, Verb.TROUBLESHOOT)
        before = await self.look(store, batch_id)
        (item,) = await store.list_troubleshooting(DOMAIN, None, limit=5, offset=0)

        await self.operate(store, action, item.command_id)
        if action is Action.RETRY:
            await self.work_off(store, Verb.COMPLETE)
        folded = await store.fold_batches(DOMAIN)
        after = await self.look(store, batch_id)

        assert item.batch_id == batch_id
        assert folded == []
        assert (after.completed_at, after.started_at) == (before.completed_at, before.started_at)
        assert after.completed_count + after.canceled_count == 2
        assert await self.events(store, batch_id) == [_A.BATCH_STARTED, _A.BATCH_COMPLETED]
        assert await self.events(store, end.command_id) == [_A.SENT, _A.RECEIVED]

    async def test_a_command_that_joins_after_the_end_reopens_nothing(self, store: CommandStore) -> None:
        batch_id, _, end = await self._ended(store, Verb.COMPLETE)
        before = await self.look(store, batch_id)

        await self.sent(store, new(batch_id=batch_id))
        await self.work_off(store, Verb.COMPLETE)

        assert await store.fold_batches(DOMAIN) == []
        assert (await self.look(store, batch_id)).completed_at == before.completed_at
        assert await self.counts(store, batch_id) == (2, 2, 0, 0, 0)
        assert await self.events(store, end.command_id) == [_A.SENT, _A.RECEIVED]

    # -- the completion command ---------------------------------------------------------------------------------------
    async def _ended(self, store: CommandStore, *verbs: Verb) -> tuple[UUID, list[UUID], NewCommand]:
        """A finished batch whose completion command was received."""
        end = new(command_type="BatchDone", data={"batch": "x"}, reply_to=REPLIES)
        batch_id, ids = await self.batch(store, len(verbs), on_complete=end)
        await self.work_off(store, *verbs)
        finished = await store.fold_batches(DOMAIN)
        (received,) = await self.received(store)

        assert finished == [batch_id]
        assert received.command.command_id == end.command_id
        return batch_id, ids, end

    async def test_the_completion_command_is_sent_at_the_end_as_it_was_given(self, store: CommandStore) -> None:
        batch_id, _, end = await self._ended(store, Verb.COMPLETE, Verb.FAIL)

        known = await self.known(store, end.command_id)

        assert (known.command_type, known.data, known.reply_to) == ("BatchDone", {"batch": "x"}, REPLIES)
        assert (known.correlation_id, known.max_attempts) == (end.correlation_id, end.max_attempts)
        assert known.batch_id is None
        assert await self.counts(store, batch_id) == (2, 1, 1, 0, 0)

    async def test_nothing_is_sent_before_the_end(self, store: CommandStore) -> None:
        end = new(command_type="BatchDone")
        await self.batch(store, 2, on_complete=end)
        await self.work_off(store, Verb.COMPLETE)

        await store.fold_batches(DOMAIN)

        assert await store.get(DOMAIN, end.command_id) is None

    async def test_folds_at_the_same_time_send_one_completion_command(self, store: CommandStore) -> None:
        ends = [new(command_type="BatchDone") for _ in range(4)]
        batches = [(await self.batch(store, 1, on_complete=end))[0] for end in ends]
        await self.work_off(store, *[Verb.COMPLETE] * 4)

        folds = await asyncio.gather(*(store.fold_batches(DOMAIN) for _ in range(5)))
        received = await self.received(store)

        assert sorted(batch for fold in folds for batch in fold) == sorted(batches)
        assert sorted(each.command.command_id for each in received) == sorted(end.command_id for end in ends)
        for end in ends:
            assert await self.events(store, end.command_id) == [_A.SENT, _A.RECEIVED]

    async def test_a_completion_command_that_could_not_be_sent_is_refused_with_its_batch(
        self, store: CommandStore
    ) -> None:
        known = new()
        await self.sent(store, known)
        ends = [
            (new(domain="nobody"), QueueNotFoundError),
            (new(reply_to="nowhere"), QueueNotFoundError),
            (new(command_id=known.command_id), DuplicateCommandError),
        ]
        for end, error in ends:
            batch = NewBatch(DOMAIN, uuid4(), name=None, custom_data=None, on_complete=end)
            with pytest.raises(error):
                await store.create_batch(batch, [new(batch_id=batch.batch_id)])

            assert await store.get_batch(DOMAIN, batch.batch_id) is None

    async def test_a_batch_id_is_used_once(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 1)
        again = NewBatch(DOMAIN, batch_id, name=None, custom_data=None, on_complete=None)

        with pytest.raises(DuplicateBatchError):
            await store.create_batch(again, [new(batch_id=batch_id)])

        assert await self.counts(store, batch_id) == (1, 0, 0, 0, 0)

    async def test_workers_of_one_batch_do_not_disturb_each_other(self, store: CommandStore) -> None:
        ends = [new(command_type="BatchDone") for _ in range(3)]
        batches = [(await self.batch(store, 12, on_complete=end))[0] for end in ends]

        async def work(name: str) -> None:
            while taken := await self.received(store, limit=4, worker=name):
                await store.complete(DOMAIN, [saying(each, Verb.COMPLETE) for each in reversed(taken)])
                await store.fold_batches(DOMAIN)

        await asyncio.gather(*(work(f"w{n}") for n in range(4)))

        for batch_id, end in zip(batches, ends, strict=True):
            assert await self.counts(store, batch_id) == (12, 12, 0, 0, 0)
            assert (await self.look(store, batch_id)).status is _B.COMPLETED
            assert (await self.events(store, end.command_id)).count(_A.SENT) == 1

    # -- lists --------------------------------------------------------------------------------------------------------
    async def test_batches_are_listed_newest_first_in_pages_and_by_status(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        ids = []
        for _ in range(4):
            ids.append((await self.batch(store, 1))[0])
            self.pass_time(store)
        await self.work_off(store, Verb.COMPLETE)
        await store.fold_batches(DOMAIN)

        async def listed(status: BatchStatus | None, limit: int = 10, offset: int = 0) -> list[UUID]:
            found = await store.list_batches(DOMAIN, status=status, limit=limit, offset=offset)
            return [batch.batch_id for batch in found]

        assert await listed(None) == ids[::-1]
        assert await listed(None, 3, 0) + await listed(None, 3, 3) == ids[::-1]
        assert await listed(_B.COMPLETED) == ids[:1]
        assert await listed(_B.PENDING) == ids[:0:-1]
        assert await listed(_B.COMPLETED_WITH_FAILURES) == []
        assert await store.list_batches("billing", status=None, limit=10, offset=0) == []

    async def test_an_unknown_batch_is_none(self, store: CommandStore) -> None:
        batch_id, _ = await self.batch(store, 1)

        assert await store.get_batch(DOMAIN, uuid4()) is None
        assert await store.get_batch("nobody", batch_id) is None
