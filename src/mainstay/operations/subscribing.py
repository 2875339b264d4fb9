"""A process that runs projections, and finding those that a user names as ``module:name``.

How the process ends is said in `mainstay.projections.serving`. A projection that an error has stopped does not end it:
the others go on, and so does that one when somebody resumes it.
"""

import asyncio
import inspect
from collections.abc import Iterable
from contextlib import AsyncExitStack, nullcontext
from shlex import quote
from typing import Any

from mainstay.app import PostgreSQLEventStore, SubscriptionManager
from mainstay.delivery.bus import Bus
from mainstay.errors import BusUnavailableError, ConfigurationError, MainstayError, SubscriptionNotFoundError
from mainstay.operations.loading import Sought, called
from mainstay.operations.probes import HealthServer
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.projection import Projection
from mainstay.projections.store import ShardStatus
from mainstay.relay import Relay
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.telemetry import get_logger

logger = get_logger(__name__)

_RETRIED_EVERY = 1.0


def _is_projection(value: object) -> bool:
    """Whether it is one of the user's, or its class, or a manager of some."""
    if inspect.isclass(value):
        return issubclass(value, Projection) and not value.__module__.startswith("mainstay.")
    return isinstance(value, SubscriptionManager | Projection)


PROJECTIONS = Sought("projections", _is_projection)
RELAYS = Sought("buses and relays", lambda value: isinstance(value, Bus | Relay | SubscriptionManager))


async def manager_of(found: Any, path: str, pool: Any, *, registers: bool = True) -> SubscriptionManager:
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
    if callable(found) and not isinstance(found, SubscriptionManager | Projection):
        found = await called(found, path, pool)
    if isinstance(found, SubscriptionManager):
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


async def relays_of(
    found: Any, path: str, pool: Any, *, config: SubscriptionConfig, options: dict[str, Any]
) -> SubscriptionManager:
    """A manager with a relay to the bus that was found, or with the relays that were found.

    Args:
        found: A bus, or what `manager_of` takes.
        path: How the user calls it.
        pool: As for `manager_of`.
        config: How the relay to a bus goes about it.
        options: Of the relay to a bus, as `Relay` takes them.

    Raises:
        ConfigurationError: It is none of these, or has options of its own.
    """
    if callable(found) and not isinstance(found, SubscriptionManager | Projection | Bus):
        found = await called(found, path, pool)
    if isinstance(found, Bus):
        manager = SubscriptionManager(PostgreSQLEventStore(pool), PostgresProjectionStore(pool))
        await manager.subscribe(Relay(found, **options), config)
        return manager
    if not isinstance(found, SubscriptionManager | Projection | Iterable):
        kind = type(found).__name__
        message = f"{path} is {kind}: it must be a bus, a Relay or several, or a function that returns one of these"
        raise ConfigurationError(message)
    if any(options.values()):
        raise ConfigurationError(f"{path} is no bus, and says itself what it publishes: leave the options out")
    return await manager_of(found, path, pool)


def _neither(path: str, found: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is {type(found).__name__}: it must be a SubscriptionManager with its subscriptions, a Projection or "
        "several, or a function that returns one of these"
    )


def the_one(manager: SubscriptionManager, name: str | None, path: str) -> str:
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


def connections_for(manager: SubscriptionManager) -> int:
    """How many pool connections a process needs: for each shard one to write and one to read, and some to spare."""
    return 4 + 2 * sum(each.config.shards for each in manager.subscriptions.values())


async def work(
    manager: SubscriptionManager, *, grace: float, report_every: float, metrics: tuple[str, int] | None = None
) -> None:
    """Run a manager until a signal comes; what its relays publish to is open meanwhile.

    Args:
        manager: With its subscriptions.
        grace: Seconds that the batches in hand get.
        report_every: Seconds between two lines that say how far it is.
        metrics: Address and port where to answer Prometheus and probes.

    Raises:
        ConfigurationError: Its metrics port cannot be listened on.
        MissingDependencyError: Metrics without ``prometheus-client``.
        Exception: What ended a subscription.
    """
    probes = HealthServer(managers=[manager], host=metrics[0], port=metrics[1]) if metrics else nullcontext()
    async with AsyncExitStack() as stack, probes:
        for each in manager.subscriptions.values():
            if isinstance(each.projection, Relay):
                await stack.enter_async_context(await _reached(each.projection.bus))
        reports = asyncio.create_task(_report(manager, report_every))
        for name, each in manager.subscriptions.items():
            logger.info("started", extra={"projection": name, "shards": each.config.shards})
        try:
            await manager.run_until_shutdown(grace=grace)
        finally:
            reports.cancel()
    logger.info("stopped")


async def _reached(bus: Bus) -> Bus:
    """Open a bus, as soon as its broker is there."""
    while True:
        try:
            return await bus.__aenter__()
        except BusUnavailableError as error:
            logger.warning("waiting for the broker: %s", error)
            await asyncio.sleep(_RETRIED_EVERY)


async def _tell_what_rests(manager: SubscriptionManager) -> None:
    """Say of which subscriptions nothing is to be expected, though the process has started."""
    message = "%s is %s and handles nothing until it is resumed (`mainstay projections resume %s`): %s"
    try:
        for health in await manager.health():
            if health.status is not ShardStatus.ACTIVE:
                status, reason = health.status.value.lower(), "; ".join(health.reasons) or "no reason was given"
                logger.warning(message, health.subscription, status, quote(health.subscription), reason)
    except MainstayError as error:
        logger.warning("cannot say which projections rest: %s", error)


async def _report(manager: SubscriptionManager, every: float) -> None:
    """Say how far the subscriptions are, each time that they have moved."""
    await _tell_what_rests(manager)
    before: dict[str, tuple[int, int]] = {}
    while True:
        await asyncio.sleep(every)
        try:
            for lag in await manager.lag():
                now = (lag.position, lag.horizon)
                if before.get(lag.subscription) != now:
                    states = manager.subscriptions[lag.subscription].states.values()
                    fields = {"projection": lag.subscription, "position": lag.position, "of": lag.horizon}
                    shards = ",".join(sorted({str(each) for each in states})) or "none here"
                    more = {"behind_seconds": round(lag.seconds, 1), "shards": shards}
                    logger.info("working", extra=fields | more)
                before[lag.subscription] = now
        except MainstayError as error:
            logger.warning("cannot say how far it is: %s", error)
