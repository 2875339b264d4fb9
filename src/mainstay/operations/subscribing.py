"""A process that runs projections, stopped by signals; and finding what a user names as ``module:name``.

Promises. The first SIGTERM or SIGINT drains: the batches in hand are finished, the shards given back, and the process
ends. A second one ends it at once: what was in hand is undone by the database, and done again elsewhere when the leases
end. A projection that an error has stopped does not end the process: the others go on, and so does that one when
somebody resumes it. A subscription that dies of an error of ours does, once the others are drained.
"""

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from mainstay.app import PostgreSQLEventStore, SubscriptionManager
from mainstay.errors import ConfigurationError, MainstayError, SubscriptionNotFoundError
from mainstay.operations.loading import called
from mainstay.projections import subscription
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.projection import Projection
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.telemetry import get_logger

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK = 0.5
"""Seconds between looks whether a subscription has died."""

logger = get_logger(__name__)


async def manager_of(found: Any, path: str, pool: Any, *, registers: bool = True) -> subscription.SubscriptionManager:
    """The manager that was found, or one of the projections that were found.

    Args:
        found: A manager with its subscriptions; a projection, its class, or several of them; or a function of nothing
            or of the pool, async or not, that returns one of these.
        path: How the user calls it.
        pool: Given to a function that wants it; what projections without a manager are run on.
        registers: Projections without a manager are made known; otherwise they must be.

    Raises:
        ConfigurationError: It is none of these, or the function fails, or there is no projection.
        SubscriptionNotFoundError: A projection is not known, and is not to be made so.
    """
    if callable(found) and not isinstance(found, subscription.SubscriptionManager | Projection):
        found = await called(found, path, pool)
    if isinstance(found, subscription.SubscriptionManager):
        if not found.subscriptions:
            raise ConfigurationError(f"{path} has no subscriptions: it must subscribe() its projections")
        return found
    projections = [found] if isinstance(found, Projection) else found
    if isinstance(projections, str | bytes) or not isinstance(projections, Iterable):
        raise _neither(path, found)
    made = [await called(each, path, pool) if inspect.isclass(each) else each for each in projections]
    if not made or not all(isinstance(each, Projection) for each in made):
        raise _neither(path, found)
    store = PostgresProjectionStore(pool)
    manager = SubscriptionManager(PostgreSQLEventStore(pool), store)
    for projection in made:
        known = await store.states(projection.name)
        if not known and not registers:
            raise SubscriptionNotFoundError(projection.name)
        await manager.subscribe(projection, SubscriptionConfig(shards=known[0].shards if known else 1))
    return manager


def _neither(path: str, found: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is {type(found).__name__}: it must be a SubscriptionManager with its subscriptions, a Projection or "
        "several, or a function that returns one of these"
    )


def the_one(manager: subscription.SubscriptionManager, name: str | None, path: str) -> str:
    """The name of the manager's only subscription, or of the one that is named.

    Raises:
        ConfigurationError: It has several, and none is named.
        SubscriptionNotFoundError: It has none of this name.
    """
    names = list(manager.subscriptions)
    if name is None:
        if len(names) > 1:
            raise ConfigurationError(f"{path} has several projections, name one: {', '.join(names)}")
        return names[0]
    if name not in names:
        raise ConfigurationError(f"{path} has no projection {name!r}; it has: {', '.join(names)}")
    return name


def connections_for(manager: subscription.SubscriptionManager) -> int:
    """How many pool connections a process needs: for each shard one to write and one to read, and some to spare."""
    return 4 + 2 * sum(each.config.shards for each in manager.subscriptions.values())


class SubscriptionRun:
    """Runs a manager until a signal comes.

    Args:
        manager: With its subscriptions.
        report_every: Seconds between two lines that say how far it is.
        grace: Seconds that the batches in hand get.
    """

    def __init__(self, manager: subscription.SubscriptionManager, *, report_every: float, grace: float) -> None:
        self._manager = manager
        self._report_every = report_every
        self._grace = grace
        self._signalled = asyncio.Event()
        self._signals = 0

    async def run(self) -> None:
        """Work until a signal comes, and end the batches in hand.

        Raises:
            Exception: What ended a subscription.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        reports = asyncio.create_task(self._report())
        try:
            await self._manager.start()
            for name, each in self._manager.subscriptions.items():
                logger.info("started", extra={"projection": name, "shards": each.config.shards})
            while not self._signalled.is_set() and self._all_run():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._signalled.wait(), _LOOK)
            stopping = asyncio.create_task(self._manager.stop())
            ended, _ = await asyncio.wait({stopping}, timeout=self._grace)
            if not ended:
                logger.error("the batches in hand do not end; their shards go on elsewhere when the leases end")
                logging.shutdown()
                os._exit(1)
            await stopping
        finally:
            reports.cancel()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        logger.info("stopped")

    def _all_run(self) -> bool:
        return all(each.is_running for each in self._manager.subscriptions.values())

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            logger.info("stopping once the batches in hand are done; a second signal stops at once")
            self._signalled.set()
        else:
            logger.warning("stopping at once")
            logging.shutdown()
            os._exit(130)

    async def _report(self) -> None:
        before: dict[str, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(self._report_every)
            try:
                for lag in await self._manager.lag():
                    states = self._manager.subscriptions[lag.subscription].states.values()
                    now = (lag.position, lag.horizon)
                    if before.get(lag.subscription) != now:
                        fields = {"projection": lag.subscription, "position": lag.position, "of": lag.horizon}
                        shards = ",".join(sorted({str(each) for each in states})) or "none here"
                        more = {"behind_seconds": round(lag.seconds, 1), "shards": shards}
                        logger.info("working", extra=fields | more)
                    before[lag.subscription] = now
            except MainstayError as error:
                logger.warning("cannot say how far it is: %s", error)
