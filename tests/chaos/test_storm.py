"""Every fault in turn, the short form: one round, and nothing is asserted about time."""

import os

import pytest

from tests.chaos.storm import everything

pytestmark = pytest.mark.thorough

COMMANDS = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "1000"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))


@pytest.mark.timeout(600 + COMMANDS / 10)
async def test_whatever_happens_in_whatever_order_nothing_is_lost_or_doubled(restartable_server, restartable_dsn):
    report = await everything(
        restartable_dsn, COMMANDS, SEED, lambda: restartable_server.restart("immediate"), timed=False
    )

    print(report)
    assert report.holds, f"{', '.join(report.wrong)} (seed {SEED})"
    assert report.opened > 0
    assert report.skipped > 0
