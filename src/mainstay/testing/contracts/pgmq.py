"""What a client of PGMQ's queues must do, whatever it stands on.

Subclass it in a test module and give it a fixture named ``client``::

    class TestMyClient(PgmqContract):
        @pytest.fixture
        def client(self): ...

Time passes by `pass_time`, which is called again and again until what is waited for has come: a fake moves its clock,
a real one does nothing, because asking takes time by itself.
"""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: PLR2004 - expected values are literal
# ruff: noqa: D102 - a test's name states its rule

from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from mainstay.errors import (
    ConfigurationError,
    InvalidInputError,
    InvalidPayloadError,
    InvalidQueueError,
    MissingDependencyError,
    QueueNotFoundError,
)
from mainstay.storage.postgres.pgmq_message import PgmqMessage
from mainstay.testing.waiting import pause

T = TypeVar("T")

QUEUE = "my-queue_1"

#: Calls on messages, for rules that hold for each of them.
CALLS: list[Callable[[Any, Any], Awaitable[Any]]] = [
    lambda client, queue: client.send(queue, {}),
    lambda client, queue: client.send_batch(queue, [{}]),
    lambda client, queue: client.read(queue),
    lambda client, queue: client.pop(queue),
    lambda client, queue: client.archive(queue, 1),
    lambda client, queue: client.delete(queue, 1),
    lambda client, queue: client.set_vt(queue, 1, 10),
    lambda client, queue: client.metrics(queue),
    lambda client, queue: client.purge(queue),
]
CREATIONS: list[Callable[[Any, Any], Awaitable[Any]]] = [
    lambda client, queue: client.create_queue(queue),
    lambda client, queue: client.create_partitioned(queue),
    lambda client, queue: client.drop_queue(queue),
]
BAD_NAMES = ("", "Upper", "a b", "q;drop table pgmq.meta", "q'--", 'q"', "$1", "x" * 48, "é", "a\x00", "a\n", None, 7)


class PgmqContract:
    """The suite; ``client`` is a `PgmqClient`, or behaves like one, on a database without queues."""

    def pass_time(self, client: Any) -> None:
        """Let some time pass, less than a second."""

    async def eventually(self, client: Any, ask: Callable[[], Awaitable[T]]) -> T:
        """The first answer that is not empty."""
        while not (answer := await ask()):
            self.pass_time(client)
            await pause()
        return answer

    @pytest.fixture(autouse=True)
    async def queue(self, client: Any) -> None:
        await client.create_queue(QUEUE)

    # -- queues -------------------------------------------------------------------------------------------------------

    async def test_a_queue_created_twice_is_one_queue_and_keeps_its_messages(self, client: Any) -> None:
        await client.send(QUEUE, {"n": 1})

        await client.create_queue(QUEUE)

        assert [queue.queue_name for queue in await client.list_queues()] == [QUEUE]
        assert (await client.metrics(QUEUE)).queue_length == 1

    async def test_queues_are_listed_by_name_with_what_they_are(self, client: Any) -> None:
        await client.create_queue("a_queue")

        first, second = await client.list_queues()

        assert [first.queue_name, second.queue_name] == ["a_queue", QUEUE]
        assert not first.is_partitioned
        assert not first.is_unlogged
        assert first.created_at.tzinfo is not None

    async def test_a_dropped_queue_is_gone_and_dropping_it_again_says_so(self, client: Any) -> None:
        assert await client.drop_queue(QUEUE) is True
        assert await client.drop_queue(QUEUE) is False
        assert await client.list_queues() == []

    async def test_a_partitioned_queue_does_not_replace_a_plain_one(self, client: Any) -> None:
        with pytest.raises((InvalidInputError, MissingDependencyError), match="partition"):
            await client.create_partitioned(QUEUE)

    @pytest.mark.parametrize("intervals", [("",), ("1 day", "")])
    async def test_an_empty_interval_is_refused(self, client: Any, intervals: tuple[str, ...]) -> None:
        with pytest.raises(InvalidInputError, match="interval"):
            await client.create_partitioned("parts", *intervals)

    async def test_a_call_on_a_missing_queue_names_the_queue(self, client: Any) -> None:
        for call in CALLS:
            with pytest.raises(QueueNotFoundError, match="create_queue") as caught:
                await call(client, "missing")

            assert caught.value.queue == "missing"

    async def test_a_queue_name_that_cannot_be_kept_as_written_is_refused(self, client: Any) -> None:
        for call in (*CALLS, *CREATIONS):
            for name in BAD_NAMES:
                with pytest.raises(InvalidQueueError):
                    await call(client, name)

        assert [queue.queue_name for queue in await client.list_queues()] == [QUEUE]

    # -- sending ------------------------------------------------------------------------------------------------------

    async def test_a_message_comes_back_as_it_was_sent(self, client: Any) -> None:
        sent = {"text": "ünïcode 'quoted' \"twice\" \\ \n", "n": [1, 2.5, None, True, {"deep": {}}], "big": 2**53}

        msg_id = await client.send(QUEUE, sent, headers={"trace": "t1"})
        (message,) = await client.read(QUEUE)

        assert isinstance(message, PgmqMessage)
        assert message.msg_id == msg_id
        assert message.message == sent
        assert message.headers == {"trace": "t1"}
        assert message.read_count == message.read_ct == 1
        assert message.enqueued_at.tzinfo is not None
        assert message.vt > message.enqueued_at

    async def test_a_message_is_a_value(self, client: Any) -> None:
        await client.send(QUEUE, {"n": 1})
        (message,) = await client.read(QUEUE, visibility_timeout=0)

        message.message["n"] = 2
        (again,) = await client.read(QUEUE)

        assert again.message == {"n": 1}
        assert again.headers is None
        with pytest.raises(FrozenInstanceError):
            again.msg_id = 5

    @pytest.mark.parametrize("message", [[], [1, "two"], "text", 7, None])
    async def test_any_json_value_can_be_a_message(self, client: Any, message: object) -> None:
        await client.send(QUEUE, message)

        assert (await client.pop(QUEUE)).message == message

    async def test_what_json_lacks_is_written_as_text(self, client: Any) -> None:
        await client.send(QUEUE, {"id": UUID(int=1), "at": datetime(2026, 1, 2, 3, tzinfo=UTC)})

        assert (await client.pop(QUEUE)).message == {"id": str(UUID(int=1)), "at": "2026-01-02T03:00:00+00:00"}

    @pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": "a\x00b"}, {"x": object()}, {1: 2}, b"bytes"])
    async def test_a_message_that_json_cannot_hold_is_refused_and_nothing_is_sent(
        self, client: Any, value: object
    ) -> None:
        with pytest.raises(InvalidPayloadError, match="message"):
            await client.send(QUEUE, value)
        with pytest.raises(InvalidPayloadError, match=r"messages\[1\]"):
            await client.send_batch(QUEUE, [{}, value])
        with pytest.raises(InvalidPayloadError, match="headers"):
            await client.send(QUEUE, {}, headers={"x": value})

        assert (await client.metrics(QUEUE)).queue_length == 0

    async def test_a_batch_is_sent_in_the_order_given(self, client: Any) -> None:
        numbers = await client.send_batch(QUEUE, [{"n": n} for n in range(50)])
        messages = await client.read(QUEUE, batch_size=100)

        assert numbers == sorted(set(numbers))
        assert [message.msg_id for message in messages] == numbers
        assert [message.message["n"] for message in messages] == list(range(50))

    async def test_headers_of_a_batch_go_with_their_messages(self, client: Any) -> None:
        await client.send_batch(QUEUE, [1, 2, 3], headers=[{"h": 1}, None, {"h": 3}])

        assert [message.headers for message in await client.read(QUEUE, batch_size=3)] == [{"h": 1}, None, {"h": 3}]

    async def test_a_batch_needs_as_many_headers_as_messages(self, client: Any) -> None:
        with pytest.raises(InvalidInputError, match="2 messages need as many headers, not 1"):
            await client.send_batch(QUEUE, [1, 2], headers=[{}])

    async def test_an_empty_batch_sends_nothing(self, client: Any) -> None:
        assert await client.send_batch(QUEUE, []) == []

    async def test_a_delayed_message_is_seen_when_its_time_has_come(self, client: Any) -> None:
        await client.send(QUEUE, {"n": 1}, delay=1)
        await client.send_batch(QUEUE, [{"n": 2}], timedelta(seconds=1))

        assert await client.read(QUEUE, batch_size=2) == []
        first = await self.eventually(client, lambda: client.pop(QUEUE))
        second = await self.eventually(client, lambda: client.pop(QUEUE))
        assert [first.message["n"], second.message["n"]] == [1, 2]
        assert first.vt >= first.enqueued_at + timedelta(seconds=0.9)

    @pytest.mark.parametrize("delay", [-1, "soon", float("nan"), None, True])
    async def test_a_delay_that_is_no_duration_is_refused(self, client: Any, delay: object) -> None:
        with pytest.raises(ConfigurationError, match="duration"):
            await client.send(QUEUE, {}, delay=delay)
        with pytest.raises(ConfigurationError, match="duration"):
            await client.read(QUEUE, visibility_timeout=delay)

    async def test_a_delay_that_no_integer_can_say_is_refused(self, client: Any) -> None:
        with pytest.raises(InvalidInputError, match="too long"):
            await client.send(QUEUE, {}, delay=90 * 366 * 86_400)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def test_a_message_read_is_hidden_until_its_time_is_over(self, client: Any) -> None:
        await client.send(QUEUE, {"n": 1})
        (first,) = await client.read(QUEUE, visibility_timeout=1)

        assert await client.read(QUEUE) == []
        assert await client.pop(QUEUE) is None
        (second,) = await self.eventually(client, lambda: client.read(QUEUE))
        assert second.msg_id == first.msg_id
        assert second.read_count == 2
        assert second.vt > first.vt

    async def test_part_of_a_second_counts_as_a_whole_one(self, client: Any) -> None:
        await client.send(QUEUE, {})

        (message,) = await client.read(QUEUE, visibility_timeout=timedelta(milliseconds=29_001))

        if message.last_read_at is not None:
            assert message.vt - message.last_read_at > timedelta(seconds=29.5)

    async def test_a_read_takes_no_more_than_asked_and_the_oldest_first(self, client: Any) -> None:
        numbers = await client.send_batch(QUEUE, [{}] * 5)

        first = [message.msg_id for message in await client.read(QUEUE, batch_size=2)]
        rest = [message.msg_id for message in await client.read(QUEUE, batch_size=10)]

        assert first == numbers[:2]
        assert rest == numbers[2:]

    @pytest.mark.parametrize("batch_size", [0, -1, 2**31, 1.5, "1", None, True])
    async def test_a_batch_size_that_is_no_number_of_messages_is_refused(self, client: Any, batch_size: object) -> None:
        with pytest.raises(InvalidInputError, match="batch_size"):
            await client.read(QUEUE, batch_size=batch_size)

    async def test_a_popped_message_is_gone(self, client: Any) -> None:
        await client.send_batch(QUEUE, [1, 2])

        assert (await client.pop(QUEUE)).message == 1
        assert (await client.metrics(QUEUE)).queue_length == 1

    async def test_set_vt_hides_a_message_from_now_on_or_shows_it(self, client: Any) -> None:
        msg_id = await client.send(QUEUE, {})

        until = await client.set_vt(QUEUE, msg_id, 60)
        assert await client.read(QUEUE) == []
        shown = await client.set_vt(QUEUE, msg_id, 0)

        assert until - shown > timedelta(seconds=50)
        assert len(await client.read(QUEUE)) == 1

    # -- disposing ----------------------------------------------------------------------------------------------------

    async def test_a_message_is_deleted_once(self, client: Any) -> None:
        msg_id = await client.send(QUEUE, {})

        assert await client.delete(QUEUE, msg_id) is True
        assert await client.delete(QUEUE, msg_id) is False
        assert await client.archive(QUEUE, msg_id) is False
        assert await client.set_vt(QUEUE, msg_id, 5) is None

    async def test_an_archived_message_leaves_the_queue(self, client: Any) -> None:
        msg_id = await client.send(QUEUE, {})

        assert await client.archive(QUEUE, msg_id) is True
        assert await client.archive(QUEUE, msg_id) is False
        assert (await client.metrics(QUEUE)).queue_length == 0

    @pytest.mark.parametrize("msg_id", [0, -(2**63), 2**63, "1", None, 1.0, True])
    async def test_a_number_that_no_message_can_have_is_refused(self, client: Any, msg_id: object) -> None:
        for call in (client.delete, client.archive):
            with pytest.raises(InvalidInputError, match="msg_id"):
                await call(QUEUE, msg_id)
        with pytest.raises(InvalidInputError, match="msg_id"):
            await client.set_vt(QUEUE, msg_id, 5)

    async def test_a_purged_queue_is_empty_and_numbers_go_on(self, client: Any) -> None:
        numbers = await client.send_batch(QUEUE, [{}] * 3)

        assert await client.purge(QUEUE) == 3
        assert await client.purge(QUEUE) == 0
        assert await client.send(QUEUE, {}) > max(numbers)

    # -- numbers ------------------------------------------------------------------------------------------------------

    async def test_metrics_of_an_empty_queue_have_no_ages(self, client: Any) -> None:
        metrics = await client.metrics(QUEUE)

        assert metrics.queue_name == QUEUE
        assert (metrics.queue_length, metrics.queue_visible_length, metrics.total_messages) == (0, 0, 0)
        assert (metrics.oldest_msg_age_sec, metrics.newest_msg_age_sec) == (None, None)

    async def test_metrics_tell_the_oldest_from_the_newest(self, client: Any) -> None:
        await client.send(QUEUE, {}, delay=1)
        await self.eventually(client, lambda: client.read(QUEUE))
        await client.send_batch(QUEUE, [{}, {}])
        await client.pop(QUEUE)

        metrics = await client.metrics(QUEUE)

        assert metrics.queue_length == 2
        assert metrics.queue_visible_length == 1
        assert metrics.total_messages == 3
        assert metrics.oldest_msg_age_sec >= 1
        assert metrics.newest_msg_age_sec == 0
        assert metrics.scrape_time.tzinfo is not None
