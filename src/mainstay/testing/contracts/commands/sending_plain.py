"""Sending plain commands, which wait for nothing and are counted nowhere: what one leaves is the same on every way."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

import asyncio
from dataclasses import fields
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.command import CommandMetadata, SendResult
from mainstay.commands.lifecycle import AuditEventType
from mainstay.commands.store import Answer, CommandStore, NewCommand, Refusal
from mainstay.testing.contracts.commands.base import DOMAIN, PATIENCE, REPLIES, CommandStoreSuite, new
from mainstay.testing.contracts.commands.sending import AWKWARD

_A = AuditEventType
_ITS_OWN = {"command_id", "msg_id", "created_at", "updated_at"}
"""What differs from command to command."""

PLAIN: list[dict[str, Any]] = [
    {},
    {"headers": b'{"trace":"a"}'},
    {"priority": -9},
    {"priority": 9, "max_attempts": 7},
    {"command_type": "Do '%(it)s' \\ \"now\" \U0001f40d"},
]
"""A store may have a shorter way for these."""

WAYS: dict[str, dict[str, bool]] = {
    "alone": {"patient": False},
    "joined": {"patient": False},
    "chunk": {"atomic": True},
}


class SendingPlainContract(CommandStoreSuite):
    """Sending plain commands alone, joined with others, and in a chunk."""

    async def _alone(self, store: CommandStore, command: NewCommand) -> Answer:
        (answer,) = await store.send([command], patient=False)
        return answer

    @pytest.mark.parametrize("changes", PLAIN)
    @pytest.mark.parametrize("way", WAYS)
    async def test_one_leaves_the_same_on_every_way(
        self, store: CommandStore, changes: dict[str, Any], way: str
    ) -> None:
        correlation_id = uuid4()
        one, among = (new(correlation_id=correlation_id, **changes) for _ in range(2))
        others = [] if way == "alone" else [new(**changes), new(**changes)]

        answer, *_ = await store.send([one, *others], **WAYS[way])
        await self.sent(store, among, new(delay=60.0))
        known = await self.known(store, one.command_id)
        messages = {message.pop("command_id"): message for message in await self.messages(store, DOMAIN)}

        assert isinstance(answer, SendResult)
        assert (answer.command_id, answer.msg_id) == (one.command_id, known.msg_id)
        assert self._told(known) == self._told(await self.known(store, among.command_id))
        assert await self.events(store, one.command_id) == [_A.SENT]
        assert messages[str(one.command_id)] == messages[str(among.command_id)]

        received = [each.command for each in await self.received(store)]
        assert [each.command_id for each in received] == [each.command_id for each in (one, *others, among)]
        assert (received[0].command_type, received[0].headers) == (received[-1].command_type, received[-1].headers)

    @staticmethod
    def _told(found: CommandMetadata) -> dict[str, Any]:
        return {field.name: getattr(found, field.name) for field in fields(found) if field.name not in _ITS_OWN}

    @pytest.mark.parametrize("way", ["joined", "chunk"])
    async def test_answers_and_messages_come_in_the_order_given(self, store: CommandStore, way: str) -> None:
        commands = [new(data={"n": n}) for n in range(30)]

        answers = await store.send(commands, **WAYS[way])

        numbers = [answer.msg_id or 0 for answer in answers if isinstance(answer, SendResult)]
        assert [each.command_id for each in answers if isinstance(each, SendResult)] == [c.command_id for c in commands]
        assert numbers == sorted(numbers)
        assert [message["data"]["n"] for message in await self.messages(store, DOMAIN)] == list(range(30))

    async def test_of_joined_ones_the_known_are_refused_and_the_others_sent(self, store: CommandStore) -> None:
        (known_id,) = await self.sent(store)
        twice = new()

        answers = await store.send([new(), new(command_id=known_id), twice, twice, new()], patient=False)

        assert [isinstance(answer, SendResult) for answer in answers] == [True, False, True, False, True]
        assert answers[1] is answers[3] is Refusal.DUPLICATE
        assert len(await self.messages(store, DOMAIN)) == 4  # noqa: PLR2004 - the one before, and three

    async def test_a_chunk_in_which_one_is_known_leaves_nothing(self, store: CommandStore) -> None:
        (known_id,) = await self.sent(store)
        others = [new(), new()]

        answers = await store.send([others[0], new(command_id=known_id), others[1]], atomic=True)

        assert answers[1] is Refusal.DUPLICATE
        assert [await store.get(DOMAIN, each.command_id) for each in others] == [None, None]
        assert len(await self.messages(store, DOMAIN)) == 1

    @pytest.mark.parametrize(
        "changes",
        [{"reply_to": REPLIES}, {"delay": 60.0}, {"key": "k"}, {"unique_key": "u"}],
        ids=["reply", "delay", "key", "unique"],
    )
    async def test_what_is_not_plain_is_kept_too(self, store: CommandStore, changes: dict[str, Any]) -> None:
        command = new(**changes)

        answer = await self._alone(store, command)
        known = await self.known(store, command.command_id)

        assert isinstance(answer, SendResult)
        assert (known.reply_to, known.key, known.unique_key) == (command.reply_to, command.key, command.unique_key)
        assert (known.due_at is not None) == (command.delay is not None)

    @pytest.mark.parametrize("data", AWKWARD)
    async def test_a_payload_sent_alone_arrives_as_it_was_sent(self, store: CommandStore, data: Any) -> None:
        command = new(data=data)

        await self._alone(store, command)
        (received,) = await self.received(store)

        assert received.command.data == data
        assert (await self.known(store, command.command_id)).data == data

    async def test_urgent_ones_sent_alone_are_received_first(self, store: CommandStore) -> None:
        sent: dict[int, UUID] = {}
        for priority in (0, -3, 9, 0, 1):
            command = new(priority=priority)
            sent.setdefault(priority, command.command_id)
            await self._alone(store, command)

        received = [each.command.command_id for each in await self.received(store, limit=3)]

        assert received == [sent[9], sent[1], sent[0]]

    async def test_a_known_id_sent_alone_is_refused_and_the_first_stands(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store, new(data={"first": True}))

        answer = await self._alone(store, new(command_id=command_id, data={"first": False}))

        assert answer is Refusal.DUPLICATE
        assert (await self.known(store, command_id)).data == {"first": True}
        assert await self.events(store, command_id) == [_A.SENT]
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_of_one_id_sent_alone_at_once_one_is_taken(self, store: CommandStore) -> None:
        command_id = uuid4()

        answers = await asyncio.gather(*(self._alone(store, new(command_id=command_id)) for _ in range(5)))

        assert answers.count(Refusal.DUPLICATE) == len(answers) - 1
        assert await self.events(store, command_id) == [_A.SENT]

    async def test_plain_ones_for_a_domain_without_a_queue_are_refused(self, store: CommandStore) -> None:
        command = new(domain="nobody")

        assert await self._alone(store, command) is Refusal.QUEUE_NOT_FOUND
        assert await store.send([command, new(domain="nobody")], atomic=True) == [Refusal.QUEUE_NOT_FOUND] * 2
        assert await store.get("nobody", command.command_id) is None

    async def test_one_sent_alone_wakes_one_who_sleeps(self, store: CommandStore) -> None:
        async with store.wakeups(DOMAIN, "w1") as ear:
            await store.about_to_sleep(DOMAIN, "w1")

            await self._alone(store, new())

            assert await ear.wait(PATIENCE)
        await store.about_to_sleep(DOMAIN, "w2")
        await store.about_to_sleep(DOMAIN, "w3")
        await self._alone(store, new())
        assert await store.wake([DOMAIN] * 5) == 1
