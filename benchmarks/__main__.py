"""``python -m benchmarks``: measure mainstay beside its peers. ``--smoke`` only shows that every benchmark works."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.chart import draw
from benchmarks.laboratory import Laboratory, without_password
from benchmarks.line_up import LINE_UP, pick
from benchmarks.results import Results
from benchmarks.rounds import Run, output_paths
from benchmarks.scenarios import SCENARIOS, choose
from benchmarks.server import server
from benchmarks.tables import markdown, print_tables, surroundings

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
WIDTH = 130  # columns, where there is no terminal to ask


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="small sizes, one round: a minute or two, no figures of use"
    )
    parser.add_argument("--dsn", help="measure on this server instead of the embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, help=f"how often each cell is measured (default {ROUNDS})")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help=", ".join(row.key for row in SCENARIOS))
    parser.add_argument("--peers", nargs="+", metavar="PEER", help=", ".join(peer.key for peer in LINE_UP))
    parser.add_argument("--pin", action="append", default=[], metavar="NAME==VERSION", help="another release of a peer")
    parser.add_argument("--seconds", type=float, help="how long a measurement of snapshot goes on (default 120)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.svg")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one measurement (default 600)")
    return parser


def main() -> int:
    """Run; 0 unless a measurement failed."""
    parser = options()
    given = parser.parse_args()
    if given.smoke and given.write_docs:
        parser.error("--write-docs needs a full run: the figures of a smoke run say nothing about speed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # databases are dropped and processes ended on the way out
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    json_path, page_path, chart_path = output_paths(ROOT)
    with server(given.dsn) as dsn:
        laboratory = Laboratory(dsn)
        try:
            scenarios = choose(given.only, smoke=given.smoke, seconds=given.seconds)
            taking_part = {peer for scenario in scenarios for peer in scenario.peers}
            results = Results(
                scenarios=scenarios,
                peers=tuple(peer for peer in pick(given.peers, given.pin) if peer.key in taking_part),
                server=laboratory.server(),
                rounds=given.rounds or (1 if given.smoke else ROUNDS),
                smoke=given.smoke,
            )
            console.print(f"{surroundings(results)} [dim]{without_password(dsn)}[/]")
            Run(results, laboratory, console, given.timeout, lambda: results.write(json_path)).run()
        finally:
            laboratory.close()
    print_tables(console, results)
    console.print(f"[dim]All figures: {json_path.relative_to(ROOT)}[/]")
    if given.write_docs:
        chart_path.write_text(draw(results), encoding="utf-8")
        page_path.write_text(markdown(results, chart_path.name), encoding="utf-8")
        console.print(f"[dim]Written: {page_path.relative_to(ROOT)}, {chart_path.relative_to(ROOT)}[/]")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
