"""The fake keeps the client's contract, and shows what it holds."""

import inspect

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import QueueNotFoundError
from mainstay.storage.postgres.pgmq import PgmqClient
from mainstay.testing.contracts.pgmq import QUEUE, PgmqContract
from mainstay.testing.fakes import FakePgmqClient


class TestFakePgmqClient(PgmqContract):
    @pytest.fixture
    def clock(self):
        return FrozenClock()

    @pytest.fixture
    def client(self, clock):
        return FakePgmqClient(clock=clock)

    def pass_time(self, client):
        client._clock.advance(0.25)

    async def test_a_partitioned_queue_says_so_and_can_be_created_again(self, client):
        await client.create_partitioned("parts")
        await client.create_partitioned("parts", "10000", "100000")

        assert [queue.is_partitioned for queue in await client.list_queues()] == [False, True]

    async def test_a_test_can_look_into_queue_and_archive_without_reading(self, client):
        first, _ = await client.send_batch(QUEUE, [{"n": 1}, {"n": 2}], delay=5)
        await client.archive(QUEUE, first)

        assert client.messages(QUEUE) == [{"n": 2}]
        assert client.archived(QUEUE) == [{"n": 1}]
        with pytest.raises(QueueNotFoundError):
            client.messages("missing")

    async def test_a_test_can_change_what_it_looked_at(self, client):
        await client.send(QUEUE, {"n": 1})

        client.messages(QUEUE)[0]["n"] = 2

        assert client.messages(QUEUE) == [{"n": 1}]


async def test_without_a_clock_time_is_the_machines():
    client = FakePgmqClient(object())
    await client.create_queue(QUEUE)

    await client.send(QUEUE, {})

    assert len(await client.read(QUEUE)) == 1


def test_the_fake_has_every_call_of_the_client_with_the_same_arguments():
    def arguments(call):
        return [(one.name, one.kind, one.default) for one in inspect.signature(call).parameters.values()]

    calls = {name: arguments(call) for name, call in vars(PgmqClient).items() if not name.startswith("_")}

    assert calls == {name: arguments(getattr(FakePgmqClient, name)) for name in calls}
