"""The short form: every scenario once. ``make chaos`` is the long one."""

import os

import pytest

from tests.chaos import scenarios
from tests.chaos.report import Report

COMMANDS = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "3000"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600 + COMMANDS / 10)]


def must_hold(report: Report) -> None:
    print(report)

    assert report.holds, f"{report.scenario}: {', '.join(report.wrong)} (seed {SEED})"


async def test_nothing_is_lost_or_doubled_when_workers_are_killed(dsn):
    must_hold(await scenarios.workers_killed(dsn, COMMANDS, SEED))


async def test_workers_reconnect_and_finish_when_the_server_restarts(restartable_server, restartable_dsn):
    must_hold(
        await scenarios.server_restarted(
            restartable_dsn, COMMANDS // 4, SEED, lambda: restartable_server.restart("immediate")
        )
    )


async def test_nothing_is_lost_or_doubled_when_backends_are_terminated(dsn):
    must_hold(await scenarios.backends_terminated(dsn, COMMANDS // 4, SEED))


async def test_nothing_is_lost_or_doubled_when_connections_break_around_commit(dsn):
    must_hold(await scenarios.commits_cut(dsn, COMMANDS // 15, SEED))


async def test_what_a_worker_says_after_its_lease_is_refused(dsn):
    report = await scenarios.workers_frozen(dsn, COMMANDS // 30, SEED)

    must_hold(report)
    assert report.refused > 0


async def test_without_the_guard_a_late_worker_doubles_and_overwrites(dsn):
    report = await scenarios.workers_frozen(dsn, COMMANDS // 30, SEED, naive=True)

    assert report.faults > 0
    assert report.doubled > 0
    assert report.stale_applied > 0
    assert report.illegal_trails > 0
    assert report.fsck_findings > 0


async def test_bad_handlers_poison_and_open_sessions_hold_up_nothing_else(dsn):
    must_hold(await scenarios.bad_neighbours(dsn, COMMANDS // 10, SEED))
