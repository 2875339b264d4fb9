"""Who cannot connect is told why, and nobody's password."""

import asyncio
import traceback

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mainstay import Mainstay
from mainstay.errors import DatabaseNotFoundError, LoginRefusedError, StorageUnavailableError
from tests.support.cli import run

SECRET = "s3cret-and-shown-to-nobody"
RULES = """\
local all wants_password scram-sha-256
local all stays_out      reject
local all who            peer map=nobody
local all all            trust
"""


@pytest.fixture(scope="module")
def address(all_clusters):
    """A server that lets some roles not in."""
    cluster = all_clusters.blank()
    (cluster.data / "pg_hba.conf").write_text(RULES)
    cluster.start()
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute("create role wants_password login password 'another'; create role stays_out login")
        conn.execute("create role who login; create role never nologin")
    yield cluster.dsn("postgres")
    all_clusters.close()


@pytest.mark.parametrize(
    ("part", "kind", "says"),
    [
        ({"dbname": "no such"}, DatabaseNotFoundError, 'has no database "no such"'),
        ({"user": "nobody"}, LoginRefusedError, 'has no role "nobody"'),
        ({"user": "wants_password"}, LoginRefusedError, 'refused the password of "wants_password"'),
        ({"user": "wants_password", "password": ""}, LoginRefusedError, "wants a password, and none was given"),
        ({"user": "stays_out"}, LoginRefusedError, "does not let this user in: pg_hba.conf rejects"),
        ({"user": "who"}, LoginRefusedError, "does not let this user in: Peer authentication failed"),
        ({"user": "never"}, LoginRefusedError, 'in: role "never" is not permitted to log in'),
        ({"port": "1"}, StorageUnavailableError, "the database cannot be reached: "),
    ],
)
def test_whoever_cannot_connect_is_told_why(address, part, kind, says, monkeypatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    dsn = make_conninfo(address, **{"password": SECRET, **part})

    async def connect() -> None:
        async with Mainstay.connect(dsn):
            pass

    with pytest.raises(StorageUnavailableError) as refused:
        asyncio.run(connect())

    assert type(refused.value) is kind
    assert says in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    told = run("stats", "--dsn", dsn)
    assert told.code == 3
    assert says in told.err
    assert SECRET not in told.err
