"""What a command store promises of unique keys: of the commands that share one, at most one is live."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from mainstay.commands.command import OnConflict, SendResult
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action, CommandStore, NewBatch, NewCommand, NotUnique, Refusal, Verb, Verdict
from mainstay.errors import NotUniqueError
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new, rolled_back, saying

_S = CommandStatus
_WINDOW = 3600.0


def report(**changes: Any) -> NewCommand:
    """A command with the unique key that most of these tests fight for."""
    return new(**{"unique_key": "report"} | changes)


def skipping(**changes: Any) -> NewCommand:
    """The same, to be left out if the key is held."""
    return report(on_conflict=OnConflict.SKIP, **changes)


class UniqueContract(CommandStoreSuite):
    """Unique keys."""

    # -- who holds a key ----------------------------------------------------------------------------------------------
    async def test_a_second_command_of_a_unique_key_is_refused_and_told_who_holds_it(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        second = report()

        assert await store.send([second]) == [NotUnique(holder)]
        assert await store.get(DOMAIN, second.command_id) is None
        assert len(await self.messages(store, DOMAIN)) == 1
        assert (await self.known(store, holder)).unique_key == "report"

    async def test_a_unique_key_belongs_to_one_domain_and_one_text(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")

        await self.sent(
            store, report(), report(domain="billing"), report(unique_key="Report"), report(unique_key="a/b")
        )
        await self.sent(store, report(domain="billing", unique_key="a/b"), new(), new())

    @pytest.mark.parametrize("verb", [Verb.RETRY, Verb.TROUBLESHOOT, Verb.GIVE_BACK])
    async def test_a_command_that_has_not_ended_holds_its_key(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store, unique_key="report")
        holder = received.command.command_id

        while_in_hand = await store.send([report()])
        await self.say(store, received, verb)

        assert while_in_hand == await store.send([report()]) == [NotUnique(holder)]

    async def test_one_that_waits_for_its_time_or_its_turn_holds_its_key(self, store: CommandStore) -> None:
        commands = [report(delay=60.0), report(unique_key="b", key="k"), report(unique_key="c", key="k")]
        await self.sent(store, *commands)

        again = await store.send([report(unique_key=each.unique_key) for each in commands])

        assert again == [NotUnique(each.command_id) for each in commands]

    @pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.FAIL])
    async def test_a_command_that_has_ended_holds_nothing(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store, unique_key="report")
        await self.say(store, received, verb)

        (second,) = await self.sent(store, report())

        assert await store.send([report()]) == [NotUnique(second)]

    async def test_a_cancelled_command_holds_nothing_also_within_its_window(self, store: CommandStore) -> None:
        (first,) = await self.sent(store, report(unique_for=_WINDOW))
        await store.cancel(DOMAIN, first, reason=None)

        await self.sent(store, report())

    async def test_a_failed_command_holds_nothing_also_within_its_window(self, store: CommandStore) -> None:
        received = await self.in_hand(store, unique_key="report", unique_for=_WINDOW)
        await self.say(store, received, Verb.FAIL)

        await self.sent(store, report())

    async def test_a_completed_command_holds_its_key_until_its_window_is_over(self, store: CommandStore) -> None:
        received = await self.in_hand(store, unique_key="report", unique_for=_WINDOW)
        await self.say(store, received, Verb.COMPLETE)

        assert await store.send([report()]) == [NotUnique(received.command.command_id)]

    async def test_when_the_window_of_a_completed_command_is_over_its_key_is_free(self, store: CommandStore) -> None:
        received = await self.in_hand(store, unique_key="report", unique_for=1e-6)
        await self.say(store, received, Verb.COMPLETE)
        self.pass_time(store)

        await self.sent(store, report())

    async def test_a_window_that_is_over_frees_no_key_of_a_live_command(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report(unique_for=1e-6))
        self.pass_time(store)

        assert await store.send([report()]) == [NotUnique(holder)]

    async def test_the_window_of_a_successor_is_its_own(self, store: CommandStore) -> None:
        first = await self.in_hand(store, unique_key="report", unique_for=1e-6)
        await self.say(store, first, Verb.COMPLETE)
        self.pass_time(store)
        second = await self.in_hand(store, unique_key="report", unique_for=_WINDOW)
        await self.say(store, second, Verb.COMPLETE)

        assert await store.send([report()]) == [NotUnique(second.command.command_id)]

    # -- what operators do --------------------------------------------------------------------------------------------
    async def test_an_operators_retry_never_makes_two_live_commands_of_a_key(self, store: CommandStore) -> None:
        holder = await self.troubled(store, unique_key="report")
        while_troubled = await store.send([report()])

        assert await self.operate(store, Action.RETRY, holder)
        assert while_troubled == await store.send([report()]) == [NotUnique(holder)]

    @pytest.mark.parametrize("action", [Action.CANCEL, Action.COMPLETE])
    async def test_an_operators_end_frees_the_key_for_good(self, store: CommandStore, action: Action) -> None:
        first = await self.troubled(store, unique_key="report")
        await self.operate(store, action, first)
        (second,) = await self.sent(store, report())

        assert not await self.operate(store, Action.RETRY, first)
        assert await store.send([report()]) == [NotUnique(second)]

    # -- the same command again ---------------------------------------------------------------------------------------
    async def test_a_known_id_is_a_duplicate_whatever_its_unique_key(self, store: CommandStore) -> None:
        (holder, other) = await self.sent(store, report(), report(unique_key="other"))

        answers = await store.send([report(command_id=holder), report(command_id=other), skipping(command_id=holder)])

        assert answers == [Refusal.DUPLICATE] * 3

    async def test_a_known_id_takes_no_key(self, store: CommandStore) -> None:
        (known,) = await self.sent(store)
        (second,) = await self.sent(store, report())

        assert await store.send([report(command_id=known, unique_key="free")]) == [Refusal.DUPLICATE]
        await self.sent(store, report(unique_key="free"))
        assert await store.send([report()]) == [NotUnique(second)]

    async def test_a_command_that_is_refused_otherwise_takes_no_key(self, store: CommandStore) -> None:
        answers = await store.send([report(reply_to="nowhere"), report(unique_key="b", batch_id=uuid4())])

        assert answers == [Refusal.REPLY_QUEUE_NOT_FOUND, Refusal.BATCH_NOT_FOUND]
        await self.sent(store, report(), report(unique_key="b"))

    async def test_a_command_that_is_refused_otherwise_does_not_free_a_key(self, store: CommandStore) -> None:
        first = await self.in_hand(store, unique_key="report", unique_for=_WINDOW)
        await self.say(store, first, Verb.COMPLETE)
        (holder,) = await self.sent(store, report(unique_key="b"))

        await store.send([report(reply_to="nowhere"), report(unique_key="b", reply_to="nowhere")])

        assert await store.send([report(), report(unique_key="b")]) == [
            NotUnique(first.command.command_id),
            NotUnique(holder),
        ]

    # -- many at once -------------------------------------------------------------------------------------------------
    async def test_of_one_send_the_first_takes_the_key(self, store: CommandStore) -> None:
        commands = [report(), new(), report(), skipping(), report(unique_key="other")]

        answers = await store.send(commands)

        assert answers[2] == NotUnique(commands[0].command_id)
        assert answers[3] == SendResult(commands[0].command_id, None, skipped=True)
        assert len(await self.received(store)) == 3

    async def test_a_held_key_does_not_spoil_the_rest(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        commands = [report(unique_key="z"), report(), new(), report(unique_key="a")]

        answers = await store.send(commands)

        assert answers[1] == NotUnique(holder)
        assert [isinstance(answer, SendResult) for answer in answers] == [True, False, True, True]
        assert len(await self.received(store)) == 4

    async def test_an_atomic_send_names_every_held_key_and_stores_nothing(self, store: CommandStore) -> None:
        holders = await self.sent(store, report(), report(unique_key="b"))
        commands = [new(), report(), report(unique_key="c"), report(unique_key="b"), report(unique_key="c")]

        answers = await store.send(commands, atomic=True)

        assert [answers[1], answers[3]] == [NotUnique(holder) for holder in holders]
        assert answers[4] == NotUnique(commands[2].command_id)
        assert len(await self.messages(store, DOMAIN)) == 2
        await self.sent(store, report(unique_key="c"))

    async def test_an_atomic_send_leaves_out_what_may_be_skipped(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        commands = [new(), skipping(), report(unique_key="b"), skipping(unique_key="b")]

        answers = await store.send(commands, atomic=True)

        assert answers[1] == SendResult(holder, None, skipped=True)
        assert answers[3] == SendResult(commands[2].command_id, None, skipped=True)
        assert len(await self.received(store)) == 3

    async def test_a_batch_with_a_held_key_is_refused_whole(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        batch = self._batch()

        answers = await store.create_batch(batch, [new(), report(batch_id=batch.batch_id)])

        assert answers[1] == NotUnique(holder)
        assert await store.get_batch(DOMAIN, batch.batch_id) is None

    async def test_a_batch_counts_what_was_not_skipped(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        batch = self._batch()
        members = [new(batch_id=batch.batch_id), skipping(batch_id=batch.batch_id)]

        answers = await store.create_batch(batch, members)
        created = await store.get_batch(DOMAIN, batch.batch_id)

        assert answers[1] == SendResult(holder, None, skipped=True)
        assert created is not None
        assert created.total_count == 1

    async def test_a_batch_of_which_all_is_skipped_ends_at_once(self, store: CommandStore) -> None:
        await self.sent(store, report())
        batch = self._batch()
        await store.create_batch(batch, [skipping(batch_id=batch.batch_id)])

        assert await store.fold_batches(DOMAIN) == [batch.batch_id]

    async def test_a_chunk_of_a_stream_is_refused_whole_or_leaves_out(self, store: CommandStore) -> None:
        (holder,) = await self.sent(store, report())
        batch = self._batch(sealed=False)
        await store.create_batch(batch, [])
        in_batch = {"batch_id": batch.batch_id}

        refused = await store.send_to_batch(DOMAIN, batch.batch_id, [new(**in_batch), report(**in_batch)])
        taken = await store.send_to_batch(DOMAIN, batch.batch_id, [new(**in_batch), skipping(**in_batch)])
        await store.seal_batch(DOMAIN, batch.batch_id)
        found = await store.get_batch(DOMAIN, batch.batch_id)

        assert refused[1] == NotUnique(holder)
        assert taken[1] == SendResult(holder, None, skipped=True)
        assert found is not None
        assert found.total_count == 1

    # -- transactions -------------------------------------------------------------------------------------------------
    async def test_a_rollback_frees_the_key(self, store: CommandStore) -> None:
        async with rolled_back(store) as tx:
            await store.send([report()], conn=tx)

        await self.sent(store, report())

    async def test_a_rollback_gives_a_taken_over_key_back(self, store: CommandStore) -> None:
        first = await self.in_hand(store, unique_key="report")
        await self.say(store, first, Verb.COMPLETE)

        async with rolled_back(store) as tx:
            await store.send([report()], conn=tx)

        await self.sent(store, report())

    async def test_in_one_transaction_the_second_send_sees_the_first(self, store: CommandStore) -> None:
        first = report()
        async with store.transaction() as tx:
            await store.send([first], conn=tx)
            answers = await store.send([report()], conn=tx)
            await store.send([new()], conn=tx)

        assert answers == [NotUnique(first.command_id)]
        assert len(await self.received(store)) == 2

    async def test_senders_of_one_key_at_the_same_time_make_one_command(self, store: CommandStore) -> None:
        answers = await asyncio.gather(*(store.send([report()]) for _ in range(5)))
        taken = [answer for (answer,) in answers if isinstance(answer, SendResult)]

        assert len(taken) == 1
        assert [answer for (answer,) in answers].count(NotUnique(taken[0].command_id)) == 4

    async def test_those_who_take_over_at_the_same_time_make_one_command(self, store: CommandStore) -> None:
        first = await self.in_hand(store, unique_key="report")
        await self.say(store, first, Verb.COMPLETE)

        answers = await asyncio.gather(*(store.send([report()]) for _ in range(5)))
        taken = [answer for (answer,) in answers if isinstance(answer, SendResult)]

        assert len(taken) == 1
        assert [answer for (answer,) in answers].count(NotUnique(taken[0].command_id)) == 4

    # -- sent with a completion ---------------------------------------------------------------------------------------
    async def test_a_completion_may_send_the_successor_of_its_command(self, store: CommandStore) -> None:
        received = await self.in_hand(store, unique_key="report")
        heir = report(successor_of=received.command.command_id)

        assert await self.say(store, received, Verb.COMPLETE, sends=(heir,)) is Verdict.APPLIED
        assert await store.send([report()]) == [NotUnique(heir.command_id)]

    async def test_a_transaction_may_send_the_successor_before_it_completes(self, store: CommandStore) -> None:
        received = await self.in_hand(store, unique_key="report")
        heir = report(successor_of=received.command.command_id)

        async with store.transaction() as tx:
            (answer,) = await store.send([heir], conn=tx)
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)

        assert isinstance(answer, SendResult)
        assert await self.status(store, received.command.command_id) is _S.COMPLETED
        assert await store.send([report()]) == [NotUnique(heir.command_id)]

    async def test_a_completion_whose_send_is_not_unique_is_not_written(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        (holder,) = await self.sent(store, report(unique_key="a/b"))
        sends = (report(unique_key="a/b"),)

        with pytest.raises(NotUniqueError) as caught:
            await self.say(store, received, Verb.COMPLETE, sends=sends)

        assert (caught.value.domain, *caught.value.conflicts) == (DOMAIN, (sends[0].command_id, "a/b", holder))
        assert await self.status(store, received.command.command_id) is _S.IN_PROGRESS

    async def test_a_completion_leaves_out_what_may_be_skipped(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        (holder,) = await self.sent(store, report())

        assert await self.say(store, received, Verb.COMPLETE, sends=(skipping(), new())) is Verdict.APPLIED
        assert len(await self.messages(store, DOMAIN)) == 2
        assert await store.send([report()]) == [NotUnique(holder)]

    async def test_a_completion_repeated_after_a_crash_passes_over_what_it_sent(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        sends = (report(skip_known=True),)
        async with rolled_back(store) as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE, sends=sends)], conn=tx)
        await self.say(store, received, Verb.COMPLETE, sends=sends)

        assert await self.say(store, received, Verb.COMPLETE, sends=sends) is Verdict.REPEATED
        assert await store.send([report()]) == [NotUnique(sends[0].command_id)]

    # -- inside -------------------------------------------------------------------------------------------------------
    @staticmethod
    def _batch(**changes: Any) -> NewBatch:
        return NewBatch(DOMAIN, uuid4(), None, None, None, **changes)
