"""What a group touches: as much as it commits, however much there is, whatever plans were made before (decision 5)."""

import json
from typing import Any
from uuid import uuid4

import pytest

from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.event_rows import names_of
from tests.integration.postgres.test_plans import (
    AT_ONCE,
    QUEUE,
    RECEIVE,
    ROWS,
    TABLES,
    Counting,
    Session,
    fill,
    prepare,
    send,
    session,
)
from tests.support.thorough import every

EVENTS, GROUPS = queries.load("events"), queries.load("groups")
OF_EVENTS = ["stream", "event", "kind", "event_tag"]
STREAMS = [StreamId("Planned", f"{n:04}") for n in range(AT_ONCE)]
#: How many rows of a table may be fetched for one command: looked at, locked, changed.
LOOKUPS = {"command": 9, QUEUE: 8, "stream": 6, "kind": 1}
FILL_EVENTS = """
    insert into eventsource.stream (category, tenant_id, stream_id, version, created_at)
    select 'Filled', '', 'stream ' || n, 1, now() from generate_series(1, %(rows)s) as n;
    insert into eventsource.event (
        position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at, payload)
    select nextval('eventsource.event_position'), s.stream_no, 1, 1, 1, gen_random_uuid(), now(), now(), '{}'
    from eventsource.stream as s where s.category = 'Filled';
"""


def group(received: list[tuple[Any, ...]], version: int) -> dict[str, Any]:
    """A command for each stream, at this version, each with one event."""
    count = len(received)
    outcomes = [
        {"command_id": str(key), "msg_id": msg_id, "lease_no": lease_no, "verb": "COMPLETE"}
        | {"stream": n, "version": version + 1, "last": n}
        for n, (key, msg_id, lease_no) in enumerate(received, 1)
    ]
    nothing = dict.fromkeys(["correlation_ids", "causation_ids", "actor_ids", "metadata", "tags"])
    return nothing | {
        "domain": "orders",
        "outcomes": json.dumps(outcomes),
        "sends": False,
        **names_of(STREAMS[:count]),
        "expected": [version] * count,
        "counts": [1] * count,
        "places": list(range(1, count + 1)),
        "versions": [version + 1] * count,
        "event_ids": [uuid4() for _ in range(count)],
        "kind_categories": ["Planned"],
        "kind_types": ["Done"],
        "kinds": [1] * count,
        "payloads": ["{}"] * count,
        "occurred_at": ["2026-01-01T00:00:00+00:00"] * count,
        "event_versions": [1] * count,
    }


def decide(conn: Session, version: int) -> None:
    """Receive, and commit it as a group."""
    received = conn.execute(RECEIVE, [AT_ONCE]).fetchall()
    with conn.transaction():
        conn.execute(EVENTS["hold_streams"], names_of(STREAMS))
        ((fates, _),) = conn.execute(GROUPS["commit_group"], group(received, version)).fetchall()
    conn.execute("select pg_stat_force_next_flush()")

    assert fates == ["APPLIED"] * AT_ONCE


@pytest.mark.parametrize("is_new", every(2, [False, True]), ids=["later", "first"])
def test_a_group_is_committed_by_lookups_only(server, database, is_new) -> None:
    prepare(server, database)
    with session(server, database) as worker:
        for version in range(2):
            send(server, database)
            decide(worker, version)
        fill(server, database, deferred=ROWS, completed=ROWS)
        with session(server, database) as conn:
            for part in FILL_EVENTS.split(";\n")[:2]:
                conn.execute(part.encode(), {"rows": ROWS} if "%(rows)s" in part else None)
        send(server, database)
        with session(server, database) as other, Counting(server, database, TABLES + OF_EVENTS) as counts:
            decide(other if is_new else worker, 2)

    print(counts)
    for table, counted in counts.items():
        assert counted["seq_tup_read"] == 0, table
        assert counted["idx_tup_fetch"] <= LOOKUPS.get(table, 0) * AT_ONCE, (table, counted)
