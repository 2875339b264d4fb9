"""Replays of dead letters and rebuilds, done in the background by this console with the application's own projections.

One thing at a time is done about a projection here; a command line may do another, and the database sees to it that no
event is handled twice for that. Nothing here has to last. A replay that is interrupted has handled what it has handled,
and another one takes the rest. A rebuild is known in the database from its beginning: it waits where it is, and goes on
when it is asked for again, from here or from a terminal, until it is swapped or dropped. What is kept here is how the
last thing that was done about a projection ended: what differed, or why it failed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from mainstay.app import SubscriptionManager
from mainstay.errors import ConfigurationError, InvalidOperationError, MainstayError, shown
from mainstay.projections.rebuildable import Rebuildable, Rebuilt
from mainstay.projections.replay import Replayed
from mainstay.telemetry import get_logger

PATIENCE: Final = 0.5
"""Seconds for which whoever asked waits for the end."""
SAMPLE: Final = 10
"""Rows of each kind of difference that are shown."""

logger = get_logger(__name__)


class Projecting(Protocol):
    """Gives the application's own projections."""

    async def __call__(self) -> SubscriptionManager:
        """The manager that has them; not started.

        Raises:
            ConfigurationError: They cannot be had.
            SubscriptionNotFoundError: One of them has never run.
        """
        ...


def projecting_of(given: SubscriptionManager | Projecting | None) -> Projecting | None:
    """What gives the projections, of what a console was given.

    Raises:
        ConfigurationError: It is neither a manager nor a function.
    """
    if not isinstance(given, SubscriptionManager):
        if given is not None and not callable(given):
            raise ConfigurationError(
                f"projections is a SubscriptionManager, or a function that gives one, not {shown(given)}"
            )
        return given

    async def give() -> SubscriptionManager:
        return given

    return give


@dataclass(frozen=True, slots=True)
class Job:
    """What is, or was, done about a projection.

    Args:
        what: ``replay``, ``rebuild`` or ``swap``.
        actor: Who wanted it.
        began_at: When.
        ended_at: When it ended; None while it goes on.
        problem: Why it failed.
        replayed: What came of a replay.
        rebuilt: What came of a rebuild: what differs.
    """

    what: str
    actor: str
    began_at: datetime
    ended_at: datetime | None = None
    problem: str | None = None
    replayed: Replayed | None = None
    rebuilt: Rebuilt | None = None


class Building:
    """Does what needs the application's projections.

    Args:
        projecting: Gives them; None if they are not known here.
    """

    def __init__(self, projecting: Projecting | None = None) -> None:
        self._projecting = projecting
        self._found: SubscriptionManager | None = None
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def knows(self, subscription: str) -> bool:
        """Whether a projection's own code is here.

        Raises:
            ConfigurationError: It was to be, and cannot be had.
            SubscriptionNotFoundError: One of those that were to be here has never run.
        """
        return self._projecting is not None and subscription in (await self._manager()).subscriptions

    async def can_rebuild(self, subscription: str) -> bool:
        """Whether a projection whose code is here says which tables it writes to."""
        projection = (await self._manager()).subscriptions[subscription].projection
        return isinstance(projection, Rebuildable) and bool(projection.tables)

    def job(self, subscription: str) -> Job | None:
        """What this console does about a projection, or did last."""
        return self._jobs.get(subscription)

    async def replay(self, subscription: str, *, actor: str, key: str | None, reason: str) -> Job:
        """Handle dead letters again, in order, key by key; returns when that is done, or after a while.

        Raises:
            InvalidOperationError: Its code is not here, or something is being done about it.
        """
        manager = await self._for(subscription)

        async def work(job: Job) -> Job:
            return replace(job, replayed=await manager.replay(subscription, actor=actor, key=key, reason=reason))

        return await self._do(subscription, Job("replay", actor, datetime.now(UTC)), work)

    async def compare(self, subscription: str, *, actor: str) -> Job:
        """Build the tables anew beside those that serve, or go on with that, and say what differs; nothing is swapped.

        Raises:
            InvalidOperationError: Its code is not here, or something is being done about it.
        """
        return await self._rebuild("rebuild", subscription, actor, accept=lambda _found: False, keep=False)

    async def swap(self, subscription: str, *, actor: str, differing: bool, keep: bool) -> Job:
        """The same, and let the new tables serve if nothing differs.

        Args:
            subscription: Which.
            actor: Who wants it.
            differing: Also if something does.
            keep: Keep the old tables, under other names.

        Raises:
            InvalidOperationError: Its code is not here, or something is being done about it.
        """
        accept: Callable[[Rebuilt], bool] = lambda found: differing or found.is_same  # noqa: E731 - as above
        return await self._rebuild("swap", subscription, actor, accept=accept, keep=keep)

    async def drop(self, subscription: str, *, actor: str) -> None:
        """End a rebuild, in whichever process it runs, and drop its tables.

        Raises:
            InvalidOperationError: Its code is not here, or no rebuild is under way.
        """
        if not await (await self._for(subscription, busy=True)).cancel_rebuild(subscription):
            raise InvalidOperationError(f"no rebuild of {subscription} is under way")
        logger.info("the rebuild of %s was dropped by %s", subscription, actor)
        if (task := self._tasks.get(subscription)) is not None:
            await asyncio.wait({task}, timeout=PATIENCE)
        if subscription not in self._tasks:
            self._jobs.pop(subscription, None)

    def close(self) -> None:
        """Let go of everything: what is in hand is undone."""
        for task in self._tasks.values():
            task.cancel()

    async def _rebuild(
        self, what: str, subscription: str, actor: str, *, accept: Callable[[Rebuilt], bool], keep: bool
    ) -> Job:
        manager = await self._for(subscription)

        async def work(job: Job) -> Job:
            found = await manager.rebuild(subscription, actor=actor, accept=accept, keep=keep, sample=SAMPLE)
            return replace(job, rebuilt=found)

        return await self._do(subscription, Job(what, actor, datetime.now(UTC)), work)

    async def _for(self, subscription: str, *, busy: bool = False) -> SubscriptionManager:
        if not await self.knows(subscription):
            message = f"the code of {subscription} is not known here: start the console with --projections MODULE:NAME"
            raise InvalidOperationError(message)
        if subscription in self._tasks and not busy:
            job = self._jobs[subscription]
            raise InvalidOperationError(
                f"a {job.what} of {subscription}, begun by {job.actor}, goes on here: wait for its end"
            )
        return await self._manager()

    async def _manager(self) -> SubscriptionManager:
        assert self._projecting is not None  # noqa: S101 - whoever calls has looked
        if self._found is None:
            self._found = await self._projecting()
        return self._found

    async def _do(self, subscription: str, job: Job, work: Callable[[Job], Awaitable[Job]]) -> Job:
        self._jobs[subscription] = job
        task = self._tasks[subscription] = asyncio.create_task(self._done(subscription, job, work))
        await asyncio.wait({task}, timeout=PATIENCE)
        return self._jobs[subscription]

    async def _done(self, subscription: str, job: Job, work: Callable[[Job], Awaitable[Job]]) -> None:
        problem: str | None = "The console was stopped meanwhile."
        try:
            job, problem = await work(job), None
        except MainstayError as error:
            problem = str(error)
            logger.warning("the %s of %s failed: %s", job.what, subscription, error)
        except Exception:
            problem = "Something went wrong in the projection or in the console; the console's log says what."
            logger.exception("the %s of %s failed", job.what, subscription)
        finally:
            self._jobs[subscription] = replace(job, ended_at=datetime.now(UTC), problem=problem)
            del self._tasks[subscription]
