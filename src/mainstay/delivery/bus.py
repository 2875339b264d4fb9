"""What carries messages from those who publish to those who take them in: the protocol `Bus`.

A bus is one *topic* at one broker, dealt out into *partitions* by the messages' streams. Consumers come in *groups*;
each group is given every message, and within it each partition has one consumer at a time. One suite,
`mainstay.testing.contracts.delivery`, holds every bus to what is written here.

What a bus promises
-------------------

*Confirmed.* When `Bus.publish` returns, the broker has the messages, as safely as it keeps anything. If it raises, some
of them may be there.

*In order.* Messages of one stream are delivered in the order in which they were published, to each group: the next one
is not handed out before the one before it was handled, or laid apart. Messages of different streams may overtake.

*At least once.* What was published is delivered to every group that is known (`Bus.declare`) until it is acknowledged,
wherever consumers and brokers are killed. So a message may come again, with its successors behind it, if the consumer
that had it was killed before its acknowledgment arrived, or if it was published again. Nothing else comes twice.
A consumer with an inbox (`mainstay.inbox`) takes it in once.

*One at a time.* A partition is one consumer's until it leaves, dies, or stalls beyond its lease. One that stalled, and
wakes up, may still be at work on what it had in its hand while its successor handles the same: it finds out when it
acknowledges (`PartitionLostError`).

*Dead letters.* What a group lays apart is kept, with the reason, until it is acknowledged there.

*No repetition, where the broker can tell.* With a `Sender`, whose positions grow, a bus that `deduplicates` stores
nothing that it already has from that sender: it keeps the highest position with the messages, in one step. It also
finds out if it has less than the sender knows to be confirmed (`BusForgotError`).
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable
from uuid import UUID

from mainstay.delivery.message import Message
from mainstay.errors import BusForgotError, ConfigurationError, shown
from mainstay.message import checked_text

Start = Literal["beginning", "now"]
"""Where a new group begins: with what the broker still has, or with what comes."""
MOST_PARTITIONS = 64
_NAME_LIMIT = 100


class Sent(NamedTuple):
    """How far a sender has come.

    Attributes:
        position: Of its last message.
        id: Of that message.
    """

    position: int
    id: UUID


class Sender(Protocol):
    """Who publishes messages whose positions grow. One at a time has a name."""

    @property
    def name(self) -> str:
        """Stable: what it has sent is known under it."""
        ...

    @property
    def confirmed(self) -> int:
        """The broker has confirmed something from it, at this position or above; 0 if that is not known."""
        ...

    async def wrote(self, sent: Sent) -> bool:
        """Whether this message stands at this position in its log: if not, the broker knows another log's positions."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was handed out.

    Attributes:
        message: What was published.
        tag: How the broker calls the delivery.
        redelivered: Whether it may have been handed out before.
    """

    message: Message
    tag: Any = field(default=None, compare=False)
    redelivered: bool = False


class DeadLetters(Protocol):
    """Messages that are ours, one after another; here, those that a group has laid apart.

    One task at a time uses it. Each method may raise `BusUnavailableError`.
    """

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        """The next messages, in order.

        What was handed out before and not acknowledged is not handed out again, but to whoever takes it next.
        May be canceled: what it would have given is given to whoever takes it next.

        Args:
            most: So many at most.
            timeout: Seconds to wait for the first one; nothing has come if the answer is empty. For dead letters, it
                may be empty as soon as there is none.

        Raises:
            PartitionLostError: Somebody else has it.
        """
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """These are done: the first ones of those that were handed out and are not acknowledged yet, in order.

        Raises:
            PartitionLostError: Somebody else has it, and is given them again.
        """
        ...


class Partition(DeadLetters, Protocol):
    """A partition that is ours, likewise."""

    @property
    def number(self) -> int:
        """From 0."""
        ...

    async def lay_apart(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        """Keep the first one that is not acknowledged as a dead letter of the group, and acknowledge it.

        It may be kept twice if this is interrupted, and is not lost.

        Raises:
            PartitionLostError: Somebody else has it, and is given it again.
        """
        ...


class Member(Protocol):
    """One consumer of a group."""

    async def claimed(self) -> Partition:
        """Wait for the next partition that becomes ours. May be canceled.

        Raises:
            BusUnavailableError: The way to the broker broke: everything that was ours is not ours any more.
        """
        ...


@runtime_checkable
class Bus(Protocol):
    """A topic. Every method may raise `BusUnavailableError`. To be opened and closed: ``async with bus``."""

    @property
    def topic(self) -> str:
        """Its name."""
        ...

    @property
    def partitions(self) -> int:
        """Into how many parts it is dealt out."""
        ...

    @property
    def deduplicates(self) -> bool:
        """Whether it keeps how far senders have come."""
        ...

    async def __aenter__(self) -> Self:
        """Reach the broker, and make the topic, if it is not there; does nothing if it is open."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Let go of everything; does nothing if it is closed."""
        ...

    async def publish(self, messages: Sequence[Message], *, sender: Sender | None = None) -> None:
        """Hand messages to the broker, in order, and wait until it has them.

        Args:
            messages: Any number.
            sender: Who has them all, at positions that grow; what the broker has from it is left out, if it can tell.

        Raises:
            MessageRefusedError: It will never take one of them; it is named.
            BusForgotError: It has less of this sender than was confirmed.
            BusUnavailableError: Also if the broker keeps messages for groups only, and knows none yet.
        """
        ...

    async def declare(self, group: str, *, start: Start = "beginning") -> None:
        """Make a group known: it is given what is published from now on, and is not asked where it begins again.

        Args:
            group: Its name: 1 to 100 printable characters.
            start: Where it begins. A broker that keeps messages for groups only, as RabbitMQ does, has none of before.
        """
        ...

    def join(self, group: str, *, start: Start = "beginning") -> AbstractAsyncContextManager[Member]:
        """Be one of a group's consumers for the length of the block; what is ours at its end is free at once.

        Args:
            group: Its name; it is declared, if it is not known.
            start: As `declare`.
        """
        ...

    def dead_letters(self, group: str) -> AbstractAsyncContextManager[DeadLetters]:
        """What the group has laid apart, oldest first, to be received and acknowledged; one at a time has it.

        What is not acknowledged stays.

        Raises:
            PartitionLostError: Somebody else has it.
        """
        ...


def checked_group(group: object) -> str:
    """The name itself, if it is one.

    Raises:
        InvalidInputError: Not a text of 1 to 100 printable characters.
    """
    return checked_text(group, "a group's name", _NAME_LIMIT)


def checked_topic(topic: object) -> str:
    """The name itself, if it is one.

    Raises:
        InvalidInputError: Not a text of 1 to 100 printable characters.
    """
    return checked_text(topic, "a topic's name", _NAME_LIMIT)


def checked_start(start: object) -> Start:
    """The value itself, if a group can begin there.

    Raises:
        ConfigurationError: It cannot.
    """
    if start == "beginning" or start == "now":  # noqa: PLR1714  # mypy narrows these, and not a set
        return start
    raise ConfigurationError(f"a group starts at 'beginning' or 'now', not {shown(start)}")


def checked_partitions(partitions: object) -> int:
    """The number itself, if a topic can have so many.

    Raises:
        ConfigurationError: It cannot.
    """
    if isinstance(partitions, bool) or not isinstance(partitions, int) or not 1 <= partitions <= MOST_PARTITIONS:
        raise ConfigurationError(f"a topic has 1 to {MOST_PARTITIONS} partitions, not {shown(partitions)}")
    return partitions


async def unsent(topic: str, known: Sent | None, sender: Sender, messages: Sequence[Message]) -> Sequence[Message]:
    """Those messages that a bus does not have from a sender yet.

    Args:
        topic: Of the bus.
        known: How far the sender has come, as the bus has it.
        sender: Who has the messages.
        messages: At positions that grow; at least one.

    Raises:
        BusForgotError: The bus has less than was confirmed.
    """
    found = 0 if known is None else known.position
    if found < sender.confirmed:
        raise BusForgotError(topic, sender.name, sender.confirmed, found)
    if known is None or found < messages[0].position or not await sender.wrote(known):
        return messages
    return [message for message in messages if message.position > found]
