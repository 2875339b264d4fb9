"""A hot stream: each of its commands is done, in one attempt, whoever is quicker.

``python -m tests.chaos.hot_stream`` is the long form, and says how fast the others are beside it.
"""

from contextlib import ExitStack

import pytest

from tests.chaos.hot_stream import Bench
from tests.chaos.test_transfers import end, start
from tests.chaos.transfer_process import Mode, Part
from tests.support.servers import open_pool

PROCESSES = 2
COMMANDS = 400

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]


@pytest.mark.parametrize("mode", ["group", "single"])
async def test_no_command_for_a_hot_stream_starves_or_spends_an_attempt(dsn: str, mode: Mode) -> None:
    with ExitStack() as stack:
        fleet = [start(Part(dsn, mode, snapshots=50)) for _ in range(PROCESSES)]
        stack.callback(end, fleet)
        async with open_pool(dsn) as pool:
            found = await Bench(pool, seed=1).run(COMMANDS, heat=True)
    print(f"{mode}: {found}")

    assert found.unfinished == 0
    assert found.attempts == 1
    assert found.receipts <= 3, "somebody else was quicker ten times, several times over"
