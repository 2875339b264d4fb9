"""The long form: ``python -m tests.chaos [--seconds N] [--seed S] [--events N]``.

Rounds of all scenarios, each round with a seed of its own, until the time is over; then the storm over the feed of
events; then all figures, and exit code 1 if anything did not hold. MAINSTAY_CHAOS_COMMANDS says how many commands the
largest scenario works on.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from rich.console import Console

from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.chaos import feed, scenarios, storm
from tests.chaos.report import Report, recoveries_table, table
from tests.support.servers import Server, reachable_directory

Scenario = Callable[[str], Coroutine[Any, Any, Report]]


def round_of(embedded: EmbeddedServer, commands: int, seed: int) -> list[Scenario]:
    """All scenarios, each to be given its database."""
    restart = partial(embedded.restart, "immediate")
    return [
        partial(storm.everything, commands=commands, seed=seed, restart=restart, timed=True),
        partial(scenarios.workers_killed, commands=commands, seed=seed),
        partial(scenarios.server_restarted, commands=commands // 4, seed=seed, restart=restart),
        partial(scenarios.backends_terminated, commands=commands // 4, seed=seed),
        partial(scenarios.commits_cut, commands=commands // 10, seed=seed),
        partial(scenarios.workers_frozen, commands=commands // 15, seed=seed),
        partial(scenarios.bad_neighbours, commands=commands // 10, seed=seed),
    ]


def run(console: Console, *, seconds: float, seed: int, commands: int) -> list[Report]:
    """Rounds until the time is over, at least one scenario."""
    end = time.monotonic() + seconds
    reports: list[Report] = []
    with (
        reachable_directory(in_memory=False) as directory,
        EmbeddedServer(directory / "data", port=0) as embedded,
    ):
        server = Server("18", embedded.dsn("postgres"), is_ours=True)
        for this_seed in range(seed, sys.maxsize):
            for scenario in round_of(embedded, commands, this_seed):
                if reports and time.monotonic() >= end:
                    return reports
                with server.database() as name, console.status(f"seed {this_seed}, {len(reports)} done"):
                    report = asyncio.run(scenario(server.dsn(name)))
                reports.append(report)
                verdict = "holds" if report.holds else f"DOES NOT HOLD: {', '.join(report.wrong)}\n{report.log}"
                console.print(
                    f"seed {this_seed}  {report.scenario}: {report.faults} faults, "
                    f"{report.commands:,} commands, {report.seconds:.1f} s, {verdict}",
                    markup=False,
                )
                if report.recoveries:
                    console.print(recoveries_table(report.recoveries))
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break things and print the figures.")
    parser.add_argument("--seconds", type=float, default=600, help="how long; a scenario that has begun is finished")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next has the next")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the storm over the feed; 0 leaves it out")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 180)
    commands = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "20000"))
    reports = run(console, seconds=arguments.seconds, seed=arguments.seed, commands=commands)
    raged = feed.long_storm(console, events=arguments.events, seed=arguments.seed) if arguments.events else None
    console.print(table(reports))
    if raged:
        feed.show(raged)
    return 0 if all(report.holds for report in (*reports, *filter(None, [raged]))) else 1


if __name__ == "__main__":
    sys.exit(main())
