"""A command that comes again after its end gets its stored reply, and is not decided again: a suite for every store."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    CommandStatus,
    DuplicateCommandError,
    EventStore,
    QueueNotFoundError,
    ReplyOutcome,
)
from tests.scenarios.aggregates import Account, Deposit, Withdraw
from tests.scenarios.world import DOMAIN, PATIENCE, REPLIES, World, WorldSuite

_ANSWERS = "answers"


class RedeliveryScenarios(WorldSuite):
    """A command that comes again after its end gets its stored reply, and is not decided again."""

    account_id = UUID("00000000-0000-4000-8000-00000000000a")

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    async def deposit(self, world: World, event_store: EventStore) -> UUID:
        """A deposit that was made."""
        return await self.handled(world, event_store, Deposit(account_id=self.account_id, amount=10))

    @pytest.fixture
    async def refused(self, world: World, event_store: EventStore, deposit: UUID) -> UUID:
        """A withdrawal that was refused."""
        return await self.handled(world, event_store, Withdraw(account_id=self.account_id, amount=11))

    async def handled(self, world: World, event_store: EventStore, command: Any) -> UUID:
        if not world.registry.has_handler(DOMAIN, "Deposit"):
            world.registry.register_decider(domain=DOMAIN, decider=Account)
        sent = await world.bus.send(command)
        async with world.working(event_store=event_store):
            await world.settled(sent.command_id)
        return sent.command_id

    async def is_as_before(self, world: World, event_store: EventStore, *commands: UUID) -> None:
        """One event; no command was handled twice, and the ledger has one decision on each."""
        async with world.working(event_store=event_store):  # whatever is there is worked off
            marker = await world.send("Nobody")
            await world.settled(marker)
        assert await AggregateRepository(event_store, Account).get_version(self.account_id) == 1
        assert {(await world.known(each)).attempts for each in commands} == {1}
        assert [each.command_id for each in await world.bus.list_decisions()] == list(commands)

    async def test_a_request_that_is_sent_again_gets_the_stored_reply(self, world, event_store, deposit, refused):
        done = await world.bus.request(
            Deposit(account_id=self.account_id, amount=10), command_id=deposit, idempotent=True, timeout=PATIENCE
        )
        failed = await world.bus.request(
            Withdraw(account_id=self.account_id, amount=11), command_id=refused, idempotent=True, timeout=PATIENCE
        )

        assert (done.outcome, done.data["version"]) == (ReplyOutcome.SUCCESS, 1)
        assert (failed.outcome, failed.error_code) == (ReplyOutcome.FAILED, "NOT_ENOUGH")
        await self.is_as_before(world, event_store, deposit, refused)

    async def test_a_command_that_is_sent_again_answers_to_the_queue_that_is_named(
        self, world, event_store, deposit, refused
    ):
        for reply_to in (None, REPLIES, REPLIES):
            command = Deposit(account_id=self.account_id, amount=10)
            await world.bus.send(command, command_id=deposit, reply_to=reply_to, idempotent=True)
        command = Withdraw(account_id=self.account_id, amount=11)
        await world.bus.send(command, command_id=refused, reply_to=REPLIES, idempotent=True)
        answers = await self.replies(world.store, REPLIES)

        assert [each["command_id"] for each in answers] == [str(deposit), str(deposit), str(refused)]
        assert [each["outcome"] for each in answers] == ["SUCCESS", "SUCCESS", "FAILED"]
        assert (answers[1]["data"]["version"], answers[2]["error_code"]) == (1, "NOT_ENOUGH")
        await self.is_as_before(world, event_store, deposit, refused)

    async def test_who_takes_replies_as_commands_is_answered_once(self, world, event_store, deposit):
        await world.store.ensure_queue(_ANSWERS)
        command = Deposit(account_id=self.account_id, amount=10)
        for _ in range(2):
            await world.bus.send(command, command_id=deposit, reply_to=f"{_ANSWERS}__commands", idempotent=True)
        (answer,) = await world.bus.query_commands(domain=_ANSWERS)

        assert (answer.command_type, answer.data["command_id"]) == ("Reply", str(deposit))
        await self.is_as_before(world, event_store, deposit)

    async def test_the_answer_is_part_of_the_senders_transaction(self, world, event_store, deposit):
        command = Deposit(account_id=self.account_id, amount=10)
        async with world.store.transaction() as tx:
            await world.bus.send(command, command_id=deposit, reply_to=REPLIES, idempotent=True, conn=tx)
            before = await self.replies(world.store, REPLIES)

        assert (before, len(await self.replies(world.store, REPLIES))) == ([], 1)

    @pytest.mark.parametrize(
        ("changes", "error", "says"),
        [
            (
                {"amount": 11},
                DuplicateCommandError,
                "sent in domain 'orders' and differs in its data: what was sent first",
            ),
            ({"reply_to": "no_such_queue"}, QueueNotFoundError, "no_such_queue"),
            ({"idempotent": False}, DuplicateCommandError, "was already sent in domain 'orders'$"),
        ],
    )
    async def test_what_is_not_the_same_command_is_refused(self, world, deposit, changes, error, says):
        given = {"idempotent": True, "reply_to": REPLIES, "amount": 10} | changes
        command = Deposit(account_id=self.account_id, amount=given.pop("amount"))
        with pytest.raises(error, match=says):
            await world.bus.send(command, command_id=deposit, **given)

        assert await self.replies(world.store, REPLIES) == []

    async def test_what_json_tells_apart_is_other_data(self, world) -> None:
        command_id = await world.send("Nobody", {"paid": 1, "words": {"b", "a"}})

        await world.send("Nobody", {"paid": 1.0, "words": ["a", "b"]}, command_id=command_id, idempotent=True)
        with pytest.raises(DuplicateCommandError, match="differs in its data"):
            await world.send("Nobody", {"paid": True, "words": {"b", "a"}}, command_id=command_id, idempotent=True)

    async def test_a_command_that_has_not_ended_answers_to_one_queue_only(self, world):
        await self.create_queue(world.store, _ANSWERS)
        command_id = uuid4()
        await world.send("Nobody", command_id=command_id, reply_to=REPLIES)
        await world.send("Nobody", command_id=command_id, reply_to=REPLIES, idempotent=True)
        await world.send("Nobody", command_id=command_id, idempotent=True)
        with pytest.raises(DuplicateCommandError) as refused:
            await world.send("Nobody", command_id=command_id, reply_to=_ANSWERS, idempotent=True)
        assert refused.value.differs == "reply_to"
        with pytest.raises(DuplicateCommandError) as refused:
            await world.send("Somebody", command_id=command_id, reply_to=REPLIES, idempotent=True)
        assert refused.value.differs == "command_type"

        assert await world.status(command_id) is CommandStatus.PENDING
        assert await self.replies(world.store, REPLIES) == []
