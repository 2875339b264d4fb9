"""The proxy breaks connections exactly where it is told to: what the tests of lost connections rest on."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.support.proxy import Proxy


@pytest.fixture
def proxy(empty_dsn: str) -> Iterator[Proxy]:
    with Proxy(empty_dsn) as running:
        yield running


@pytest.fixture
def table(empty_dsn: str) -> str:
    with psycopg.connect(empty_dsn) as conn:
        conn.execute("create table t (n int)")
    return "t"


def rows(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("select count(*) from t").fetchone()
    assert row is not None
    return row[0]


def insert_through(dsn: str, *, pipeline: bool) -> None:
    with psycopg.connect(dsn) as conn:
        if pipeline:
            with conn.pipeline():
                conn.execute("insert into t values (%s)", [1])
                conn.execute("insert into t values (%s)", [2])
                conn.commit()
        else:
            conn.execute("insert into t values (%s)", [1])
            conn.execute("insert into t values (%s)", [2])


@pytest.mark.parametrize("pipeline", [False, True])
def test_without_an_order_everything_passes(proxy: Proxy, table: str, empty_dsn: str, pipeline) -> None:
    insert_through(proxy.dsn, pipeline=pipeline)

    assert rows(empty_dsn) == 2
    assert proxy.accepted == 1


@pytest.mark.parametrize("pipeline", [False, True])
def test_a_connection_cut_before_commit_leaves_nothing(proxy: Proxy, table: str, empty_dsn: str, pipeline) -> None:
    cut = proxy.cut_before("COMMIT")

    with pytest.raises(psycopg.OperationalError):
        insert_through(proxy.dsn, pipeline=pipeline)

    assert cut.happened.is_set()
    assert rows(empty_dsn) == 0


@pytest.mark.parametrize("pipeline", [False, True])
def test_a_connection_cut_after_commit_leaves_what_was_committed(
    proxy: Proxy, table: str, empty_dsn: str, pipeline
) -> None:
    cut = proxy.cut_after("COMMIT")

    with pytest.raises(psycopg.OperationalError):
        insert_through(proxy.dsn, pipeline=pipeline)

    assert cut.happened.is_set()
    assert rows(empty_dsn) == 2


def test_an_order_is_carried_out_once(proxy: Proxy, table: str, empty_dsn: str) -> None:
    proxy.cut_before("insert into t")

    with pytest.raises(psycopg.OperationalError):
        insert_through(proxy.dsn, pipeline=False)
    insert_through(proxy.dsn, pipeline=False)

    assert rows(empty_dsn) == 2


def test_a_prepared_statement_is_seen_when_it_runs(proxy: Proxy, table: str) -> None:
    insert = sql.SQL("insert into t values (%s)")
    with psycopg.connect(proxy.dsn) as conn:
        conn.execute(insert, [1], prepare=True)
        cut = proxy.cut_before("insert into t")

        with pytest.raises(psycopg.OperationalError):
            conn.execute(insert, [2], prepare=True)

    assert cut.happened.is_set()


def test_all_connections_are_cut_and_new_ones_refused(proxy: Proxy) -> None:
    first, second = psycopg.connect(proxy.dsn), psycopg.connect(proxy.dsn)
    proxy.refuse()

    broken = proxy.cut_all()

    assert broken == 2
    for conn in (first, second):
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn)
    proxy.refuse(refusing=False)
    with psycopg.connect(proxy.dsn) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_proxy_can_be_closed_twice(empty_dsn: str) -> None:
    proxy = Proxy(empty_dsn)
    dsn = proxy.dsn

    proxy.close()
    proxy.close()

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
