"""Listing streams costs what is listed, however many streams there are (counted in pages, not in time)."""

import psycopg
import pytest

STREAMS = 60_000
PAGE = 50
#: Three or four for each step of the index, two of them for each pair of category and tenant.
FEW_PAGES = 60
FILL = """
insert into eventsource.stream (category, tenant_id, stream_id, version, created_at)
select (array['Cart', 'Order', 'Zebra'])[1 + n %% 3], case when n %% 1000 = 0 then 'tenant ' || n / 3000 else '' end,
    'no ' || n, 1, now()
from generate_series(1, %s) as n
"""
ASKED = {"category": None, "tenant": None, "prefix": "", "after": ("", "", "")}
LIST = "select stream_no from eventsource.list_streams(%s, %s, %s, %s, %s, %s, %s)"
NAIVE = """
select s.stream_no from eventsource.stream as s
where left(s.stream_id, 4) = %s order by s.category, s.tenant_id, s.stream_id limit %s
"""


@pytest.fixture
def many(server, database):
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        conn.execute("alter table eventsource.stream set (autovacuum_enabled = false)")
        conn.execute(FILL, [STREAMS])
        yield conn


def pages(conn, statement, parameters):
    """How many rows it gave, and how many pages it looked at once it was planned."""
    conn.execute(statement, parameters)
    ((explained,),) = conn.execute(f"explain (analyze, buffers, format json) {statement}", parameters).fetchone()
    plan = explained["Plan"]
    return plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"after": ("Order", "", "no 5")},
        {"category": "Zebra"},
        {"category": "Zebra", "after": ("Zebra", "", "no 5")},
        {"tenant": "tenant 7"},
        {"tenant": "tenant 7", "category": "Order"},
        {"prefix": "no 59"},
        {"prefix": "no 59", "category": "Zebra", "tenant": ""},
        {"prefix": "no 59", "tenant": "tenant 19"},
        {"prefix": "none", "tenant": ""},
    ],
)
def test_a_page_of_streams_costs_what_is_on_it(many, asked):
    asked = ASKED | asked

    found, looked_at = pages(many, LIST, [asked["category"], asked["tenant"], asked["prefix"], *asked["after"], PAGE])

    assert found <= PAGE
    assert looked_at <= FEW_PAGES


def test_one_statement_for_all_of_it_walks_over_what_it_does_not_want(many):
    assert pages(many, NAIVE, ["none", PAGE])[1] > 10 * FEW_PAGES
