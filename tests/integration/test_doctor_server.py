"""The doctor on a server of its own: what only a whole server can have, and a server without a fault."""

import asyncio

import psycopg
import pytest

from mainstay.storage.postgres.doctor import Level, Limits, examine
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import install_schema
from tests.support.cli import run
from tests.support.servers import open_pool


@pytest.fixture
def own_dsn(data_dir):
    settings = {"max_prepared_transactions": "4", "wal_level": "replica", "max_wal_senders": "4"}
    with EmbeddedServer(data_dir, settings=settings) as server:
        found = server.dsn()
        install_schema(found)
        yield found


def test_what_holds_back_vacuum_over_restarts_is_named_and_its_advice_mends_it(own_dsn):
    async def look():
        async with open_pool(own_dsn) as pool:
            return await examine(pool, Limits(long_transaction=0.0))

    fit = run("doctor", "--dsn", own_dsn, "--strict")
    with psycopg.connect(own_dsn, autocommit=True) as conn:
        conn.execute("begin")
        conn.execute("insert into commandbus.sleeper values ('w', 'shop', now())")
        conn.execute("prepare transaction 'it''s forgotten'")
        conn.execute("select pg_create_physical_replication_slot('old_standby', true)")
        sick = {check.name: check for check in asyncio.run(look()) if check.level is not Level.OK}
        told = run("doctor", "--dsn", own_dsn, "--json", "--strict")
        for check in sick.values():
            conn.execute(check.advice.split("`")[1])

    assert (fit.code, "Fit: nothing to do." in fit.out) == (0, True)
    assert set(sick) == {"prepared transactions", "replication slots"}
    assert "it's forgotten" in sick["prepared transactions"].seen
    assert "old_standby" in sick["replication slots"].seen
    assert told.code == 1
    assert [each["name"] for each in told.json["checks"] if each["level"] == "WARNING"] == ["replication slots"]
    assert all(check.level is Level.OK for check in asyncio.run(look()))
