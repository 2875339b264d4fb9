"""Handlers and deciders that raise what cannot be looked at, and an application whose logging is broken."""

from typing import Any
from uuid import uuid4

import pytest

from mainstay import CommandStatus, TransientCommandError
from tests.scenarios.purses import PurseSuite
from tests.scenarios.world import DOMAIN, World, WorldSuite
from tests.support.odd_errors import ODD, broken_logging
from tests.support.purses import Paid, Pay, Purse, Sum, Take

S = CommandStatus


class OddEnds(WorldSuite):
    """Of handlers."""

    @pytest.mark.parametrize("name", [*ODD, "in its details"])
    async def test_an_error_that_cannot_be_shown_stops_nothing(self, world: World, name: str) -> None:
        error = ODD.get(name) or TransientCommandError("X", "x", {"a": ODD["no words"]})

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise error

        async with world.working(concurrency=1):
            done = await world.settled(await world.send(max_attempts=2))
            next_one = await world.settled(await world.send(max_attempts=1))

        assert (done.status, done.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 2)
        assert next_one.status is S.IN_TROUBLESHOOTING_QUEUE

    async def test_commands_end_though_nothing_can_be_logged(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise ValueError("an ordinary one")

        with broken_logging():
            async with world.working(concurrency=1):
                done = await world.settled(await world.send(max_attempts=2))

        assert (done.status, done.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 2)


class OddDecisions(PurseSuite):
    """Of deciders."""

    @pytest.mark.parametrize("name", ODD)
    async def test_an_error_that_cannot_be_shown_is_one_commands_end_and_nobody_elses(
        self, world, worker, purses, monkeypatch, name
    ):
        def decide(state: Sum, command: Pay | Take) -> Any:
            if command.amount == 13:
                raise ODD[name]
            return [Paid(amount=command.amount)]

        monkeypatch.setattr(Purse, "decide", staticmethod(decide))
        purse_id = uuid4()
        with broken_logging():
            sent = await self.sent(world, *(Take(purse_id=purse_id, amount=n) for n in (1, 13, 2)), max_attempts=2)
            known = await self.done(world, worker, *sent)

        assert [(each.status, each.attempts) for each in known] == [
            (S.COMPLETED, 1), (S.IN_TROUBLESHOOTING_QUEUE, 2), (S.COMPLETED, 1)
        ]  # fmt: skip
        assert (await purses.load(purse_id)).state == Sum(3)
