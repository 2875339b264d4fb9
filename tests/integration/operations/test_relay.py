"""``mainstay relay``: publishing from a process of its own."""

import signal
from uuid import uuid4

import psycopg
import pytest
from redis import Redis

from tests.support.cli import program, read_until, run
from tests.support.relayed import REDIS
from tests.support.waiting import eventually_sync

CODE = "tests.support.relayed"


@pytest.fixture
def topic():
    name = f"orders-{uuid4().hex[:12]}"
    yield name
    with Redis.from_url(REDIS) as redis:
        if keys := redis.keys(f"mainstay:{{{name}}}*"):
            redis.delete(*keys)


def test_events_are_published_until_it_is_told_to_end_and_projections_show_how_far_it_is(dsn, topic, tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text(
        "".join(
            f'{{"category": "{category}", "stream_id": "1", "event_type": "{kind}", "payload": {{}}, '
            '"occurred_at": "2026-01-01T00:00:00Z"}\n'
            for category, kind in (("Order", "OrderPlaced"), ("Cart", "CartFilled"))
        )
    )
    environment = {"DATABASE_URL": dsn, "TEST_TOPIC": topic}
    options = ("relay", f"{CODE}:bus", "--category", "Order", "--name", "orders out", "--shards", "2", "--json")
    with program(*options, env=environment) as running, Redis.from_url(REDIS) as redis:
        read_until(running, lambda line: '"message":"started"' in line)
        assert run("events", "import", str(events), "--dsn", dsn).code == 0
        eventually_sync(lambda: redis.xlen(f"mainstay:{{{topic}}}:0"))
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
        ((_, entry),) = redis.xrange(f"mainstay:{{{topic}}}:0")

    assert running.returncode == 0
    assert (entry[b"stream"], entry[b"type"]) == (b"Order/1", b"OrderPlaced")
    (listed,) = run("projections", "list", "--dsn", dsn, "--json").json
    assert (listed["subscription"], listed["shards"]) == ("orders out", 2)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from eventsource.shard where owner is not null").fetchone() == (0,)


@pytest.mark.thorough
def test_a_broker_that_is_away_is_waited_for(dsn):
    with program("relay", f"{CODE}:away", "--json", env={"DATABASE_URL": dsn}) as running:
        read_until(running, lambda line: "waiting for the broker: Redis, for topic events" in line)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"{CODE}:number"], "is int: it must be a bus, a Relay"),
        ([f"{CODE}:relay", "--category", "Order"], "is no bus, and says itself what it publishes"),
        ([f"{CODE}:bus", "--on-error", "ignore"], "on_error of a projection is 'stop' or 'dead_letter'"),
    ],
)
def test_what_cannot_be_run_is_refused(dsn, arguments, said):
    refused = run("relay", *arguments, "--dsn", dsn)

    assert refused.code == 2
    assert said in " ".join(refused.err.split())
