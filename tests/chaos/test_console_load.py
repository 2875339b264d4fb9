"""Fifty who look, the short form: counted in processor time, as the rate says more about the machine."""

import pytest

from tests.chaos.console_load import measure, together

pytestmark = pytest.mark.thorough

VIEWERS = 50
SHARE = 0.2
"""Of one processor; about 0.1 are needed."""


async def test_fifty_viewers_cost_a_small_part_of_one_processor(dsn):
    found = await measure(dsn, viewers=VIEWERS, seconds=3.0, rounds=4)
    watched = together([with_viewers for _, with_viewers in found])

    assert watched.bytes_read > VIEWERS * 500  # all of them were shown something
    assert watched.python + watched.server < SHARE, found
