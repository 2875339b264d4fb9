"""What pruning reads: a chunk by lookups, however much there is. Plans are made on empty tables (decision 5)."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from mainstay.storage.postgres import queries
from tests.integration.postgres.test_plans import FILL as COMMANDS
from tests.integration.postgres.test_process_plans import FILL as PROCESSES
from tests.integration.postgres.test_process_plans import Crowded

SQL = queries.load("operations")
MANY = 20_000
CHUNK = 100
BATCHES = """
insert into commandbus.batch (batch_id, domain, on_complete, created_at, completed_at)
select gen_random_uuid(), 'orders', jsonb_build_object('command_id', gen_random_uuid()), t.ts, t.ts
from (select now() - interval '1 h' as ts) as t, generate_series(1, %(batches)s)
"""
ACTIONS = """
with made as (
    insert into commandbus.operator_action (action_id, action, state, created_at, ended_at)
    select gen_random_uuid(), 'RETRY', 'DONE', now() - n * interval '1 min', now() - n * interval '1 min'
    from generate_series(1, %(actions)s) as n
    returning action_id
)
insert into commandbus.operator_item (action_id, position, domain, command_id, state)
select m.action_id, n, 'orders', gen_random_uuid(), 'APPLIED' from made as m, generate_series(1, 1000) as n
"""


@pytest.fixture
def db(server, database) -> Iterator[Crowded]:
    crowded = Crowded(server, database)
    with crowded.session:
        yield crowded


def reads_a_chunk(db: Crowded, query: str, *, forget: bool) -> None:
    """The second chunk reads its own rows: an upper bound far from what there is."""
    asked: dict[str, Any] = {"completed": "0 s", "audit": "0 s", "forget": forget, "limit": CHUNK}
    ((*_, last_at, last_id),) = db.ask(SQL[query], **asked, after=None, after_id=UUID(int=0))

    def prune() -> None:
        ((walked, pruned, *_),) = db.ask(SQL[query], **asked, after=last_at, after_id=last_id)
        assert walked == CHUNK
        assert pruned == (0 if forget and query == "prune" else CHUNK)

    assert db.read_by(prune) <= 50 * CHUNK


def keep_plans(db: Crowded) -> None:
    for query in ("prune", "prune_processes", "prune_batches", "prune_actions"):
        for _ in range(10):
            asked = {"completed": "0 s", "audit": "0 s", "forget": True, "limit": CHUNK}
            db.ask(SQL[query], **asked, after=None, after_id=UUID(int=0))


@pytest.mark.parametrize("forget", [False, True], ids=["slim", "forget"])
def test_pruning_commands_reads_a_chunk(db, forget) -> None:
    keep_plans(db)
    db.fill(COMMANDS, deferred=0, completed=MANY)
    db.fill(BATCHES, batches=2_000)

    reads_a_chunk(db, "prune", forget=forget)


@pytest.mark.parametrize("forget", [False, True], ids=["slim", "forget"])
def test_pruning_processes_reads_a_chunk(db, forget) -> None:
    keep_plans(db)
    db.fill(PROCESSES, processes=MANY)

    reads_a_chunk(db, "prune_processes", forget=forget)


@pytest.mark.parametrize("forget", [False, True], ids=["slim", "forget"])
def test_pruning_batches_reads_a_chunk(db, forget) -> None:
    keep_plans(db)
    db.fill(BATCHES, batches=MANY // 5)

    reads_a_chunk(db, "prune_batches", forget=forget)


def test_pruning_an_action_reads_a_chunk_of_its_items(db) -> None:
    keep_plans(db)
    db.fill(ACTIONS, actions=MANY // 1000)
    asked = {"completed": "0 s", "audit": "0 s", "limit": CHUNK}
    db.ask(SQL["prune_actions"], **asked)

    def prune() -> None:
        assert db.ask(SQL["prune_actions"], **asked) == [(CHUNK, 0)]

    assert db.read_by(prune) <= 50 * CHUNK
