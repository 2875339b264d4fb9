"""What an inbox must do, on whatever database it stands.

Subclass it in a test module, and say how an inbox is made and how its database is asked; ``effect(number)`` is a table
that ``write`` adds to, through the connection that the inbox gave::

    class TestMyInbox(InboxContract):
        @pytest.fixture
        async def make(self): ...

It needs pytest-asyncio in auto mode.
"""

# ruff: noqa: D102, S101 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from mainstay.delivery.consumer import Consumer
from mainstay.delivery.inbox import Inbox
from mainstay.delivery.memory import MemoryBus
from mainstay.delivery.message import Message
from mainstay.errors import ConfigurationError, InvalidInputError
from mainstay.testing.contracts.delivery.base import STOPPING, message
from mainstay.testing.waiting import eventually

Make = Callable[[str], Inbox]


class _OnPurposeError(Exception):
    """Ends a transaction."""


class InboxContract(ABC):
    """All of it."""

    @abstractmethod
    async def write(self, conn: Any, number: int) -> None:
        """Add a row to ``effect``, through what the inbox gave."""

    @abstractmethod
    async def written(self, inbox: Inbox) -> list[int]:
        """What is committed in ``effect``, in order of insertion."""

    @pytest.fixture
    async def inbox(self, make: Make) -> Inbox:
        """One that is ready."""
        inbox = make("billing")
        await inbox.prepare()
        return inbox

    async def effect(self, inbox: Inbox, of: Message) -> bool:
        """Take a message in, with its effect; whether it was the first time."""
        async with inbox.once(of) as conn:
            if conn is not None:
                await self.write(conn, of.position)
            return conn is not None

    async def test_a_message_is_taken_in_once(self, inbox: Inbox) -> None:
        first, second = message(1), message(2)

        taken = [await self.effect(inbox, each) for each in (first, second, first, first)]

        assert taken == [True, True, False, False]
        assert await self.written(inbox) == [1, 2]

    async def test_what_failed_is_taken_in_again(self, inbox: Inbox) -> None:
        sent = message(1)
        with suppress(_OnPurposeError):
            async with inbox.once(sent) as conn:
                await self.write(conn, 1)
                raise _OnPurposeError

        assert await self.written(inbox) == []
        assert await self.effect(inbox, sent)
        assert await self.written(inbox) == [1]

    async def test_consumers_take_in_for_themselves(self, make: Make, inbox: Inbox) -> None:
        sent = message(1)
        other = make("shipping")
        await other.prepare()

        assert await self.effect(inbox, sent)
        assert await self.effect(other, sent)
        assert not await self.effect(other, sent)

    async def test_of_many_at_once_one_takes_it_in(self, make: Make, inbox: Inbox) -> None:
        sent = message(1)
        others = [make("billing") for _ in range(3)]

        taken = await asyncio.gather(*(self.effect(each, sent) for each in (inbox, *others)))

        assert sorted(taken) == [False, False, False, True]
        assert await self.written(inbox) == [1]

    async def test_who_comes_second_takes_it_in_if_the_first_fails(self, make: Make, inbox: Inbox) -> None:
        sent, other = message(1), make("billing")
        await other.prepare()
        with suppress(_OnPurposeError):
            async with inbox.once(sent) as conn:
                await self.write(conn, 1)
                second = asyncio.create_task(self.effect(other, sent))
                await eventually(lambda: not second.done())
                raise _OnPurposeError

        assert await second
        assert await self.written(inbox) == [1]

    async def test_it_joins_the_callers_transaction(self, inbox: Inbox) -> None:
        other = message(2)
        async with inbox.once(message(1)) as conn:
            assert await inbox.take(other, conn)
            assert not await inbox.take(other, conn)

        assert not await self.effect(inbox, other)

    async def test_what_is_old_is_forgotten(self, inbox: Inbox) -> None:
        sent = message(1)
        await self.effect(inbox, sent)

        assert await inbox.prune(older_than=timedelta(hours=1)) == 0
        assert not await self.effect(inbox, sent)
        assert await inbox.prune() == 0
        assert await inbox.prune(older_than=0) == 1
        assert await self.effect(inbox, sent)

    async def test_forgetting_is_a_consumers_own_affair(self, make: Make, inbox: Inbox) -> None:
        sent = message(1)
        other = make("shipping")
        await other.prepare()
        await self.effect(inbox, sent)

        assert await other.prune(older_than=0) == 0

    async def test_it_can_be_prepared_again_and_at_once(self, make: Make) -> None:
        inboxes = [make("billing") for _ in range(4)]

        await asyncio.gather(*(inbox.prepare() for inbox in inboxes))
        await inboxes[0].prepare()

        assert await self.effect(inboxes[1], message(1))

    async def test_a_consumer_behind_an_inbox_has_each_effect_once(self, inbox: Inbox) -> None:
        sent = [message(number) for number in range(1, 6)]
        bus = MemoryBus()
        await bus.publish([*sent, *sent, *sent])

        async def handle(taken: Message, conn: Any) -> None:
            await self.write(conn, taken.position)

        async with Consumer(bus, "billing", inbox.handling(handle), STOPPING):
            await bus.publish([message(9)])
            await eventually(lambda: self._is_written(inbox, 9))

        assert await self.written(inbox) == [1, 2, 3, 4, 5, 9]

    async def test_mistaken_arguments_are_refused(self, make: Make) -> None:
        for name in ("", "x" * 201, None, 7, uuid4()):
            with pytest.raises(InvalidInputError, match="a consumer's name"):
                make(name)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(ConfigurationError, match="a duration"):
            await make("billing").prune(older_than="a week")  # type: ignore[arg-type]  # on purpose

    async def _is_written(self, inbox: Inbox, number: int) -> bool:
        return number in await self.written(inbox)
