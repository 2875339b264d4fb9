"""Stand-ins for unit tests without a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from mainstay.clock import Clock, SystemClock
from mainstay.errors import InvalidInputError, QueueNotFoundError
from mainstay.message import checked_queue
from mainstay.serialization import from_json, to_json
from mainstay.storage.postgres.pgmq_message import (
    PgmqMessage,
    PgmqMetrics,
    PgmqQueue,
    checked_count,
    checked_lease,
    checked_msg_id,
    checked_seconds,
    written_batch,
    written_headers,
)


@dataclass(slots=True)
class _Queue:
    facts: PgmqQueue
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    sent: int = 0
    messages: dict[int, PgmqMessage] = field(default_factory=dict)
    archive: dict[int, PgmqMessage] = field(default_factory=dict)

    def visible(self, now: datetime) -> list[PgmqMessage]:
        return [message for _, message in sorted(self.messages.items()) if message.vt <= now]


class FakePgmqClient:
    """`PgmqClient` in memory: the same calls, answers and refusals, kept equal by one suite that both pass.

    What it cannot do is take part in a transaction. ``conn`` is accepted and ignored: a message sent in a transaction
    that rolls back stays sent. Code that depends on that belongs in a test with a server.

    Args:
        pool: Accepted so that it can be constructed like the client, and ignored.
        clock: Decides what is visible; give a `FrozenClock` and advance it, and no test has to wait.
    """

    def __init__(self, pool: object = None, *, clock: Clock | None = None) -> None:
        del pool
        self._clock = clock or SystemClock()
        self._queues: dict[str, _Queue] = {}

    # -- queues -------------------------------------------------------------------------------------------------------

    async def create_queue(self, queue: str) -> None:
        """Create a queue; does nothing if it exists."""
        self._create(queue, partitioned=False)

    async def create_partitioned(
        self, queue: str, partition_interval: str = "1 day", retention_interval: str | None = None
    ) -> None:
        """Create a queue that says it is partitioned; does nothing if it exists so."""
        checked_queue(queue)
        if not partition_interval or retention_interval == "":
            raise InvalidInputError("an interval must be a span of time ('1 day') or a number of messages ('10000')")
        if queue in self._queues and not self._queues[queue].facts.is_partitioned:
            raise InvalidInputError(f"queue {queue!r} exists and is not partitioned")
        self._create(queue, partitioned=True)

    async def list_queues(self, *, conn: object = None) -> list[PgmqQueue]:
        """All queues, by name."""
        del conn
        return [self._queues[name].facts for name in sorted(self._queues)]

    async def drop_queue(self, queue: str) -> bool:
        """Drop a queue with everything in it; False if there was none."""
        return self._queues.pop(checked_queue(queue), None) is not None

    async def purge(self, queue: str, *, conn: object = None) -> int:
        """Remove all messages, and say how many there were."""
        del conn
        messages = self._on(queue).messages
        removed = len(messages)
        messages.clear()
        return removed

    async def metrics(self, queue: str, *, conn: object = None) -> PgmqMetrics:
        """Length and ages of a queue."""
        del conn
        there, now = self._on(queue), self._clock.now()
        ages = [int((now - message.enqueued_at).total_seconds()) for message in there.messages.values()]
        return PgmqMetrics(
            queue_name=queue,
            queue_length=len(ages),
            oldest_msg_age_sec=max(ages, default=None),
            newest_msg_age_sec=min(ages, default=None),
            total_messages=there.sent,
            scrape_time=now,
            queue_visible_length=len(there.visible(now)),
        )

    # -- messages -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        queue: str,
        message: Any,
        delay: timedelta | float = 0,
        conn: object = None,
        *,
        headers: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a message into a queue; returns its number there."""
        del conn
        document, along = to_json(message, what="message"), written_headers(headers)
        return self._put(self._on(queue), document, along, checked_seconds(delay))

    async def send_batch(
        self,
        queue: str,
        messages: Sequence[Any],
        delay: timedelta | float = 0,
        conn: object = None,
        *,
        headers: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[int]:
        """Put messages into a queue, all or none; returns their numbers in the order given."""
        del conn
        checked_queue(queue)
        documents, along = written_batch(messages, headers)
        seconds = checked_seconds(delay)
        if not documents:
            return []
        there = self._on(queue)
        pairs = zip(documents, along or [None] * len(documents), strict=True)
        return [self._put(there, document, one, seconds) for document, one in pairs]

    async def read(
        self, queue: str, visibility_timeout: timedelta | float = 30, batch_size: int = 1, conn: object = None
    ) -> list[PgmqMessage]:
        """Read visible messages, oldest first, and hide them for a while."""
        del conn
        there, now = self._on(queue), self._clock.now()
        until = now + timedelta(seconds=checked_lease(visibility_timeout))
        found = there.visible(now)[: checked_count(batch_size, "batch_size")]
        for message in found:
            there.messages[message.msg_id] = replace(
                message, read_count=message.read_count + 1, vt=until, last_read_at=now
            )
        return [_copy(there.messages[message.msg_id]) for message in found]

    async def pop(self, queue: str, conn: object = None) -> PgmqMessage | None:
        """Take the oldest visible message out for good; None if nothing is visible."""
        del conn
        there = self._on(queue)
        found = there.visible(self._clock.now())
        return there.messages.pop(found[0].msg_id) if found else None

    async def archive(self, queue: str, msg_id: int, conn: object = None) -> bool:
        """Move a message to the archive; False if it was not in the queue."""
        del conn
        there = self._on(queue)
        message = there.messages.pop(checked_msg_id(msg_id), None)
        if message is not None:
            there.archive[msg_id] = message
        return message is not None

    async def delete(self, queue: str, msg_id: int, conn: object = None) -> bool:
        """Delete a message; False if it was not in the queue."""
        del conn
        return self._on(queue).messages.pop(checked_msg_id(msg_id), None) is not None

    async def set_vt(
        self, queue: str, msg_id: int, visibility_timeout: timedelta | float, conn: object = None
    ) -> datetime | None:
        """Hide a message from now on for a while, and say until when; None if it is not in the queue."""
        del conn
        there = self._on(queue)
        until = self._clock.now() + timedelta(seconds=checked_lease(visibility_timeout))
        message = there.messages.get(checked_msg_id(msg_id))
        if message is None:
            return None
        there.messages[msg_id] = replace(message, vt=until)
        return until

    # -- for assertions -----------------------------------------------------------------------------------------------

    def messages(self, queue: str) -> list[Any]:
        """What lies in a queue, visible or not, oldest first, without reading it.

        Raises:
            QueueNotFoundError: There is no such queue.
        """
        return [_copy(message).message for _, message in sorted(self._on(queue).messages.items())]

    def archived(self, queue: str) -> list[Any]:
        """What lies in a queue's archive, oldest first.

        Raises:
            QueueNotFoundError: There is no such queue.
        """
        return [_copy(message).message for _, message in sorted(self._on(queue).archive.items())]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _create(self, queue: str, *, partitioned: bool) -> None:
        checked_queue(queue)
        if queue not in self._queues:
            self._queues[queue] = _Queue(
                PgmqQueue(queue, is_partitioned=partitioned, is_unlogged=False, created_at=self._clock.now())
            )

    def _on(self, queue: str) -> _Queue:
        try:
            return self._queues[checked_queue(queue)]
        except KeyError:
            raise QueueNotFoundError(queue) from None

    def _put(self, queue: _Queue, document: bytes, headers: bytes | None, delay: float) -> int:
        now = self._clock.now()
        msg_id = next(queue.numbers)
        queue.sent = msg_id
        queue.messages[msg_id] = PgmqMessage(
            msg_id=msg_id,
            read_count=0,
            enqueued_at=now,
            vt=now + timedelta(seconds=delay),
            message=from_json(document),
            headers=None if headers is None else from_json(headers),
        )
        return msg_id


def _copy(message: PgmqMessage) -> PgmqMessage:
    """A message that its reader may change without changing the queue."""
    return replace(message, message=from_json(to_json(message.message)))
