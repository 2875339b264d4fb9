"""Sending one command alone, as `CommandBus.send` does: what it leaves is what one of many leaves."""

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
"""Commands that wait for nothing and are counted nowhere; a store may have a shorter way for them."""


class SendingAloneContract(CommandStoreSuite):
    """Sending one command alone."""

    async def _alone(self, store: CommandStore, command: NewCommand) -> Answer:
        (answer,) = await store.send([command], patient=False)
        return answer

    @pytest.mark.parametrize("changes", PLAIN)
    async def test_one_sent_alone_leaves_what_one_of_many_leaves(
        self, store: CommandStore, changes: dict[str, Any]
    ) -> None:
        correlation_id = uuid4()
        alone, among = (new(correlation_id=correlation_id, **changes) for _ in range(2))

        answer = await self._alone(store, alone)
        await self.sent(store, among, new(**changes))
        known = await self.known(store, alone.command_id)
        messages = {message.pop("command_id"): message for message in await self.messages(store, DOMAIN)}

        assert isinstance(answer, SendResult)
        assert (answer.command_id, answer.msg_id) == (alone.command_id, known.msg_id)
        assert self._told(known) == self._told(await self.known(store, among.command_id))
        assert await self.events(store, alone.command_id) == [_A.SENT]
        assert messages[str(alone.command_id)] == messages[str(among.command_id)]

        first, second, _ = (each.command for each in await self.received(store))
        assert (first.command_id, second.command_id) == (alone.command_id, among.command_id)
        assert (first.command_type, first.headers) == (second.command_type, second.headers)

    @staticmethod
    def _told(found: CommandMetadata) -> dict[str, Any]:
        return {field.name: getattr(found, field.name) for field in fields(found) if field.name not in _ITS_OWN}

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

    async def test_one_sent_alone_to_a_domain_without_a_queue_is_refused(self, store: CommandStore) -> None:
        command = new(domain="nobody")

        assert await self._alone(store, command) is Refusal.QUEUE_NOT_FOUND
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
