"""Whether a worker is well: what a liveness and a readiness probe ask.

Live: its event loop turns. A handler that blocks the loop for `STILL` seconds makes it not live; a supervisor may then
start it anew. Ready: it is live, runs, has reached the database within `RECENT` seconds, and its lease keeper is at
work. Not ready is no reason to kill a process: it comes back by itself when the database does.
"""

from dataclasses import dataclass
from typing import Any

from mainstay.commands.store import Backlog, CommandStore, LeaseKeeper
from mainstay.service import Pulse


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is.

    Args:
        domain: Whose commands it handles.
        worker: Its name.
        live: Why it is not live; empty if it is.
        ready: Why it is not ready; empty if it is.
    """

    domain: str
    worker: str
    live: tuple[str, ...]
    ready: tuple[str, ...]

    @property
    def is_live(self) -> bool:
        """Whether its event loop turns."""
        return not self.live

    @property
    def is_ready(self) -> bool:
        """Whether it can handle commands now."""
        return not self.ready


def health_of(domain: str, worker: str, pulse: Pulse, *, is_running: bool, keeps_leases: bool) -> Health:
    """What the signs of life say; may be asked from any thread."""
    live, ready = pulse.faults("the worker", is_running=is_running)
    if is_running and not keeps_leases:
        ready.append("the lease keeper is not at work")
    return Health(domain, worker, tuple(live), (*live, *ready))


class Observed:
    """What may be asked of a worker from outside, from any thread."""

    domain: str
    name: str
    _store: CommandStore
    _folder: Any
    _keeper: LeaseKeeper | None = None
    _is_running: bool
    _concurrency: int

    @property
    def slot_count(self) -> int:
        """Commands that may be handled at once; 0 if it does not run."""
        return self._concurrency if self._is_running else 0

    def health(self) -> Health:
        """Whether it is live and ready, and if not, why."""
        keeper = self._keeper
        return health_of(
            self.domain,
            self.name,
            self._folder.pulse,
            is_running=self._is_running,
            keeps_leases=keeper is not None and keeper.is_alive,
        )

    async def backlog(self) -> Backlog:
        """How much waits in its domain; a question to the database, on the worker's event loop."""
        return await self._store.backlog(self.domain)
