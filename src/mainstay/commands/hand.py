"""What a worker has in hand: the leases that it must keep, and the handlers that it must stop.

Kept by lease where it matters, not by command: a command whose lease expired may come back to the very worker whose
first handler of it still runs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from mainstay.commands.store import Lease, Loss, Received


class Hand:
    """The leases of one worker.

    Args:
        running: The tasks in which handlers run, by lease; the worker's own.
    """

    def __init__(self, running: Mapping[Lease, "asyncio.Task[None]"]) -> None:
        self._running = running
        self._leases: dict[UUID, Lease] = {}
        self._to_stop: dict[Lease, bool] = {}

    def leases(self) -> Sequence[Lease]:
        """All of them; called from the lease keeper's thread."""
        return list(self._leases.values())

    def again(self, received: Sequence[Received]) -> list[Loss]:
        """Those that are in hand already, under a lease that is lost."""
        known = [one.lease.command_id for one in received if one.lease.command_id in self._leases]
        return [Loss(command_id, is_canceled=False) for command_id in known]

    def take(self, received: Sequence[Received]) -> None:
        """Have these, too."""
        self._leases |= {one.lease.command_id: one.lease for one in received}

    def release(self, lease: Lease) -> None:
        """No longer in hand, unless a newer lease of the same command is."""
        if self._leases.get(lease.command_id) == lease:
            del self._leases[lease.command_id]

    def stop(self, losses: Sequence[Loss]) -> None:
        """Cancel handlers whose commands another worker has, or nobody shall have."""
        for loss in losses:
            lease = self._leases.get(loss.command_id)
            if lease is None or lease in self._to_stop:
                continue
            if not loss.is_canceled:
                self.release(lease)
            if (task := self._running.get(lease)) is not None:
                self._to_stop[lease] = loss.is_canceled
                task.cancel()

    def is_stopped(self, lease: Lease) -> bool:
        """Whether `stop` canceled its handler."""
        return lease in self._to_stop

    def why_stopped(self, lease: Lease) -> bool | None:
        """Why `stop` canceled a handler that ended: True: for good; False: for another worker; None: it did not."""
        return self._to_stop.pop(lease, None) if self._to_stop else None

    def clear(self) -> None:
        """Begin anew."""
        self._leases.clear()
        self._to_stop.clear()


def on_this_loop(told: Callable[[Sequence[Loss]], None]) -> Callable[[Sequence[Loss]], None]:
    """A callback for other threads that runs on this thread's event loop."""
    loop = asyncio.get_running_loop()

    def from_thread(losses: Sequence[Loss]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and everything on it
            loop.call_soon_threadsafe(told, list(losses))

    return from_thread
