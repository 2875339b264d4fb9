"""Optimistic locking among processes: of 32 writers of one stream exactly one wins each version, on every engine.

In memory, and within one process on every engine, it is `RacingContract`.
"""

import subprocess
import sys
from uuid import UUID

import pytest

from mainstay.events.stream import StreamId
from tests.support.event_writer import log_at

pytestmark = pytest.mark.thorough

PROCESSES, WRITERS, EACH = 4, 8, 4
STREAM = StreamId("Shared", "1")


def started(place: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.event_writer", place, "1", str(EACH), str(WRITERS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def every_version_is_won_once(place: str) -> None:
    processes = [started(place) for _ in range(PROCESSES)]
    try:
        said = [each.communicate(timeout=240)[0].split() for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()
    async with log_at(place, 2) as log:
        found = await log.read_stream(STREAM, limit=10_000)
        feed = await log.read_feed(limit=10_000)

    won = [UUID(line) for lines in said for line in lines[1:]]
    assert [lines[0] for lines in said] == ["ready"] * PROCESSES
    assert [each.returncode for each in processes] == [0] * PROCESSES
    assert len(won) == PROCESSES * WRITERS * EACH
    assert [each.version for each in found] == list(range(1, len(won) + 1))
    assert sorted(each.event.event_id for each in found) == sorted(won)
    assert [each.position for each in found] == sorted(each.position for each in found)
    assert feed.events == found


@pytest.mark.timeout(300)
async def test_of_32_writers_one_wins_each_version_in_a_file(tmp_path):
    await every_version_is_won_once(str(tmp_path / "events.sqlite"))


@pytest.mark.timeout(300)
async def test_of_32_writers_one_wins_each_version_on_postgresql(postgres_server, dsn):
    await every_version_is_won_once(dsn)
