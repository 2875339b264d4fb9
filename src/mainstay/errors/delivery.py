"""Errors about brokers, and what goes to them."""

from uuid import UUID

from mainstay.errors.base import MainstayError
from mainstay.errors.storage import StorageUnavailableError


class DeliveryError(MainstayError):
    """Something about a message bus."""


class BusUnavailableError(DeliveryError, StorageUnavailableError):
    """The broker cannot be reached, or the way to it broke.

    What was being published may have arrived, in part or whole. It is a `StorageUnavailableError`, too, so whoever
    waits for a database that is away waits for a broker likewise.
    """


class BusForgotError(BusUnavailableError):
    """The broker has lost messages that it had confirmed; nothing more is published until somebody decides."""

    def __init__(self, topic: str, sender: str, confirmed: int, found: int) -> None:
        """Keep all four; ``found`` is the highest position that the broker has, 0 for none."""
        self.topic = topic
        self.sender = sender
        self.confirmed = confirmed
        self.found = found
        has = f"has nothing after position {found}" if found else "knows nothing of it"
        super().__init__(
            f"{topic} had confirmed messages of {sender} up to position {confirmed}, and {has} now: its broker lost "
            f"what it held. Reset the relay to position {found} to send the rest again, or above {confirmed} to go on"
        )


class MessageRefusedError(DeliveryError):
    """The broker will not take this message, however often it is sent; the others of its batch may be there."""

    def __init__(self, message_id: UUID, reason: str) -> None:
        """Keep both."""
        self.message_id = message_id
        self.reason = reason
        super().__init__(f"the broker refuses message {message_id}: {reason}")


class PartitionLostError(DeliveryError):
    """Another consumer of the group has the partition by now, and is given what was not acknowledged."""

    def __init__(self, partition: int | None) -> None:
        """Keep its number, None for the group's dead letters."""
        self.partition = partition
        what = "what was laid apart" if partition is None else f"partition {partition}"
        super().__init__(f"{what} is in the hand of another consumer")
