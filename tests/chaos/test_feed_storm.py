"""The feed under a storm, the short form: ``python -m tests.chaos.feed`` is the long one."""

import os

import pytest

from tests.chaos.feed import show, storm

pytestmark = pytest.mark.thorough

EVENTS = int(os.environ.get("MAINSTAY_CHAOS_EVENTS", "3000"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))


@pytest.mark.timeout(300 + EVENTS / 10)
def test_readers_miss_nothing_whatever_writers_do_and_a_naive_one_does(postgres_server, dsn):
    result = storm(dsn, events=EVENTS, writers=8, processes=2, seed=SEED)

    show(result)
    assert result.holds
    assert sum(seen.missed for seen in result.naive) > 0
