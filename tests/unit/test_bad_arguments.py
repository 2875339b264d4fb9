"""Arguments that cannot be: every constructor and every duration says so when it is given them."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    CommandBus,
    Config,
    HandlerRegistry,
    InvalidInputError,
    MemoryCommandStore,
    RetryPolicy,
    SendRequest,
    TroubleshootingQueue,
    Worker,
    handler,
)
from mainstay.errors import ConfigurationError, PoolClosedError

DOMAIN = "orders"
NAN, INF = float("nan"), float("inf")
NO_TEXT = [7, b"orders", ["orders"], object()]
DOMAINS = [
    "",
    " ",
    "Orders",
    "a b",
    "a.b",
    'a"b',
    "a%sb",
    "ä",
    "_a",
    "x" * 38,
    "a\x00",
    "a\n",
    "\ud800",
    None,
    *NO_TEXT,
]
TYPES = ["", " ", "a\x00", "a\nb", "x" * 201, "\ud800", None, *NO_TEXT]
COUNTS = [0, -1, 1.5, "3", True, NAN, object()]
DURATIONS = [-1, -0.001, NAN, INF, "10", timedelta(-1), 1e300, 10**400, timedelta.max, True, object()]


async def got_through(
    call: Callable[[Any], Any], values: Iterable[Any], expected: type[Exception] = InvalidInputError
) -> list[str]:
    """What did not get the expected error, which must also say something."""
    wrong = []
    for value in values:
        try:
            answer = call(value)
            if inspect.isawaitable(answer):
                answer = await answer
        except expected as error:
            if not str(error).strip():
                wrong.append(f"{value!r:.60}: no message")
        except Exception as error:  # noqa: BLE001 - the test reports it
            wrong.append(f"{value!r:.60}: {type(error).__name__}: {error!s:.100}")
        else:
            wrong.append(f"{value!r:.60}: gave {answer!r:.60}")
    return wrong


async def test_what_counts_is_a_whole_number() -> None:
    bus = CommandBus(MemoryCommandStore())

    assert await got_through(lambda value: CommandBus(MemoryCommandStore(), value), COUNTS) == []
    assert await got_through(lambda value: CommandBus(MemoryCommandStore(), payload_limit=value), COUNTS) == []
    assert (
        await got_through(
            lambda value: bus.send_batch([SendRequest(DOMAIN, "Do", uuid4(), {})], chunk_size=value), COUNTS
        )
        == []
    )


async def test_a_duration_fits_into_a_century() -> None:
    bus = CommandBus(MemoryCommandStore())

    assert await got_through(lambda value: bus.send(DOMAIN, "Do", uuid4(), {}, delay=value), DURATIONS) == []


async def test_stores_are_pools_or_stores() -> None:
    bad = [None, 5, "postgresql://localhost", object(), AsyncConnectionPool]

    for build in (CommandBus, TroubleshootingQueue, lambda store: Worker(store, DOMAIN)):
        assert await got_through(build, bad, ConfigurationError) == []


@pytest.mark.parametrize("when", ["never opened", "closed"])
async def test_a_worker_does_not_wait_for_a_pool_that_is_not_open(when: str) -> None:
    pool = AsyncConnectionPool("host=127.0.0.1 port=1", min_size=0, max_size=4, open=False)
    if when == "closed":
        await pool.open()
        await pool.close()

    with pytest.raises(PoolClosedError, match="open it"):
        await asyncio.wait_for(Worker(pool, DOMAIN).run(), 60)


async def test_workers_are_checked() -> None:
    store = MemoryCommandStore()
    worker = Worker(store, DOMAIN)
    leases = [*DURATIONS, 0, 0.5]
    names = ["a b", "a\x00", "ä", "x" * 51, "\ud800", 5, b"x"]

    assert await got_through(lambda value: Worker(store, value), DOMAINS) == []
    for name, values in {
        "registry": [5, "x", {}, object(), HandlerRegistry],
        "visibility_timeout": leases,
        "retry_policy": [5, "x", object(), RetryPolicy],
        "name": names,
    }.items():
        assert (
            await got_through(lambda value, n=name: Worker(store, DOMAIN, **{n: value}), values, ConfigurationError)
            == []
        )
    assert await got_through(worker.run, [0, -1, 1.5, "4", None, True, NAN], ConfigurationError) == []
    assert await got_through(lambda value: worker.run(1, value), [0, *DURATIONS], ConfigurationError) == []


async def test_handlers_are_checked() -> None:
    registry = HandlerRegistry()

    async def do(command, context):
        return None

    def plain(command, context):
        return None

    class Empty:
        pass

    for build in (handler, registry.decorator, lambda *names, **more: registry.register(*names, do, **more)):

        def made(*names, _build=build, **more):
            built = _build(*names, **more)
            return built(do) if callable(built) else built

        assert await got_through(lambda value, m=made: m(value, "Do"), DOMAINS) == []
        assert await got_through(lambda value, m=made: m(DOMAIN, value), TYPES) == []
        for name, values in {"timeout": [0, *DURATIONS], "retry_policy": [5, "x", object(), RetryPolicy]}.items():
            assert (
                await got_through(
                    lambda value, m=made, n=name: m(DOMAIN, "Do", **{n: value}), values, ConfigurationError
                )
                == []
            )
    assert (
        await got_through(lambda value: registry.register(DOMAIN, "Do", value), [None, 5, "x"], ConfigurationError)
        == []
    )
    assert await got_through(registry.add, [do, None, 5], ConfigurationError) == []
    assert await got_through(registry.register_instance, [Empty(), None, 5], ConfigurationError) == []
    assert registry.registered_handlers() == []


async def test_policies_and_settings_are_checked() -> None:
    numbers = [*DURATIONS, None]
    url = {"database_url": "postgresql://localhost"}

    for name, values in {
        "max_attempts": COUNTS,
        "backoff_schedule": [None, 5, "abc", b"x", [None], ["1"], *([value] for value in DURATIONS)],
        "jitter": [-0.1, 1.1, NAN, INF, "0", None],
    }.items():
        assert await got_through(lambda value, n=name: RetryPolicy(**{n: value}), values, ConfigurationError) == []
    for name, values in {
        "max_attempts": COUNTS,
        "base": numbers,
        "maximum": numbers,
        "multiplier": [0, 0.5, -1, NAN, INF, "2", None],
    }.items():
        assert (
            await got_through(lambda value, n=name: RetryPolicy.exponential(**{n: value}), values, ConfigurationError)
            == []
        )
    for name, values in {
        "database_url": ["", None, 5, b"x"],
        "max_retries": [0, -1, "3", None, 1.5, NAN, True],
        "vt_seconds": [0, 4, -1, "30", None, NAN, INF, 1e300, 10**400],
        "backoff_base": numbers,
        "max_backoff": numbers,
        "backoff_multiplier": [0, 0.5, NAN, INF, "2", None],
    }.items():
        assert await got_through(lambda value, n=name: Config(**{**url, n: value}), values, ConfigurationError) == []
    for name in ("MAX_RETRIES", "VT_SECONDS", "BACKOFF_BASE", "BACKOFF_MULTIPLIER", "MAX_BACKOFF"):
        texts = ["x", "-1", "nan", "inf", "1e400", "1,5", "0x10", "9" * 5000, " ", "\x00"]
        assert (
            await got_through(
                lambda value, n=name: Config.from_env({"DATABASE_URL": "x", n: value}), texts, ConfigurationError
            )
            == []
        )
    assert await got_through(Config.from_env, [{}, {"DATABASE_URL": ""}], ConfigurationError) == []


async def test_a_policy_of_very_many_attempts_is_made_at_once() -> None:
    for more in ({"base": 0}, {"multiplier": 1.000001}, {"base": 1e-9, "multiplier": 1.01}):
        policy = RetryPolicy.exponential(max_attempts=2**31 - 1, **more)

        assert len(policy.backoff_schedule) <= 10_000
        assert 0 <= policy.get_backoff(2**30) <= 300
