"""The run's tables, for the terminal (rich) and for the documentation (Markdown)."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from benchmarks.line_up import BARE_NOTIFY, MAINSTAY, MAINSTAY_EVENTS, Peer, Room
from benchmarks.results import Results, figure, machine, times
from benchmarks.scenario import Scenario

HOW = (
    "Every figure is the median of {rounds} rounds in one run on one server; in each round every library is measured "
    "once, in turn. Under a figure: how many times faster mainstay was, as the median of the rounds' ratios."
)

KEPT = "left of a command, kept of an event"

BESIDE = (
    "",
    "latency: send returns after",
    "handler starts after that",
    "95 % start within",
    "worker's memory at 100",
)


def print_tables(console: Console, results: Results) -> None:
    """Print everything a reader at the terminal wants to see."""
    for room in _rooms(results):
        console.print(_speed(results, room))
    if goals := results.reached():
        table = Table(title="Ratios to keep", title_justify="left")
        for name in ("", "found", "goal", ""):
            table.add_column(name, justify="right" if name else "left")
        for goal, ratio in goals:
            verdict = "" if results.smoke else "[green]reached[/]" if goal.held(ratio) else "[red]missed[/]"
            table.add_row(goal.title, f"{ratio:.2f}", goal.bound, verdict)
        console.print(table)
    if beside := list(_beside(results)):
        table = Table(title="Beside the rates", title_justify="left")
        for name in BESIDE:
            table.add_column(name, justify="right" if name else "left")
        for cells in beside:
            table.add_row(*cells)
        console.print(table)
    console.print(_about(results))
    if results.smoke:
        console.print("[yellow]A smoke run shows that every benchmark works. Its figures say nothing about speed.[/]")
    for scenario, peer, error in results.failures:
        console.print(f"[red]failed[/] {scenario}, {peer}: {escape(error)}")


def _rooms(results: Results) -> list[Room]:
    return list(dict.fromkeys(scenario.room for scenario in results.scenarios))


def _speed(results: Results, room: Room) -> Table:
    table = Table(title=f"mainstay and its peers: {room}", title_justify="left", show_lines=True)
    table.add_column("")
    columns = _columns(results, room)
    for peer in columns:
        table.add_column(peer.title, justify="right", no_wrap=True)
    for scenario in _about_room(results, room):
        table.add_row(scenario.title, *(_cell(results, scenario, peer) for peer in columns))
    return table


def _about_room(results: Results, room: Room) -> list[Scenario]:
    return [scenario for scenario in results.scenarios if scenario.room == room]


def _columns(results: Results, room: Room) -> list[Peer]:
    measured = {peer for (_, peer), cell in results.cells.items() if cell.samples or cell.error}
    return [peer for peer in results.peers if peer.key in measured and peer.room == room]


def _cell(results: Results, scenario: Scenario, peer: Peer) -> str | Group:
    cell = results.cells.get((scenario.key, peer.key))
    if cell is None:
        return "[dim]-[/]"
    if cell.median is None:
        return "[red]failed[/]"
    shown = figure(cell.median, scenario.unit)
    if peer.key in {MAINSTAY, MAINSTAY_EVENTS}:
        return f"[bold]{shown}[/]"
    ratio = results.ratio(scenario, peer.key)
    if ratio is None:
        return shown
    return f"{shown}\n[{'green' if ratio >= 1 else 'dim'}]{times(ratio)}[/]"


def _beside(results: Results) -> Iterable[list[str]]:
    for peer in results.peers:
        latency = [
            figure(results.beside("latency", peer.key, name), "ms")
            for name in ("send_ms", "after_send_returned_ms", "p95_ms")
        ]
        if peer.key == BARE_NOTIFY:
            latency[1] = "(there and back)"  # its send waits for the answer
        memory = results.beside("work-100", peer.key, "memory")
        if memory or latency[0]:
            yield [peer.title, *latency, f"{memory / 2**20:.0f} MB" if memory else ""]


def _about(results: Results) -> Table:
    table = Table(title="How they were run", title_justify="left", show_lines=True)
    for name in ("", "releases", "settings", KEPT):
        table.add_column(name)
    for title, releases, settings, keeps in _settings(results):
        table.add_row(title, escape(releases), escape(settings), keeps)
    return table


def _settings(results: Results) -> Iterable[tuple[str, str, str, str]]:
    for peer in results.peers:
        if peer.key in results.missing:
            yield peer.title, "not installed", results.missing[peer.key].splitlines()[-1], peer.keeps
        elif about := results.about.get(peer.key):
            releases = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
            yield peer.title, releases, about["settings"], peer.keeps


def surroundings(results: Results) -> str:
    """The machine and the server, in a sentence."""
    where, server = machine(), results.server
    return (
        f"{where['cores']} cores ({where['cpu']}) shared by PostgreSQL and its clients; Python {where['python']}; "
        f"PostgreSQL {server['server_version']}, fsync {server['fsync']}, synchronous_commit "
        f"{server['synchronous_commit']}, shared_buffers {server['shared_buffers']}; {results.started:%Y-%m-%d}."
    )


def markdown(results: Results, chart: str) -> str:
    """The page for the documentation.

    Args:
        results: The run.
        chart: Name of the chart's file beside the page.
    """
    lines = [
        "# Speed",
        "",
        "<!-- Written by `python -m benchmarks --write-docs`; do not edit. -->",
        "",
        f"![mainstay and its peers]({chart})",
        "",
        f"{HOW.format(rounds=results.rounds)}",
        "",
        surroundings(results),
    ]
    for room in _rooms(results):
        columns = [peer for peer in _columns(results, room) if peer.key != BARE_NOTIFY]
        lines += ["", f"## {room.capitalize()}", "", _row(["", *(peer.title for peer in columns)])]
        lines.append(_row(["---", *("---:" for _ in columns)]))
        lines += [
            _row([scenario.title, *(_markdown_cell(results, scenario, peer) for peer in columns)])
            for scenario in _about_room(results, room)
        ]
    notify = results.median("latency", BARE_NOTIFY)
    if notify is not None:
        lines += ["", f"In the same run a bare NOTIFY took {figure(notify, 'ms')} one way."]
    notes = [f"- {scenario.title}: {scenario.note}." for scenario in results.scenarios if scenario.note]
    if notes:
        lines += ["", *notes]
    lines += ["", "## Ratios to keep", "", _row(["", "found", "goal"]), _row(["---", "---:", "---:"])]
    lines += [_row([goal.title, f"{ratio:.2f}", goal.bound]) for goal, ratio in results.reached()]
    lines += ["", "## Beside the rates", "", _row(list(BESIDE)), _row(["---", *("---:" for _ in BESIDE[1:])])]
    lines += [_row(cells) for cells in _beside(results)]
    lines += ["", "## How they were run", "", _row(["", "releases", "settings", KEPT])]
    lines.append(_row(["---"] * 4))
    lines += [_row(list(cells)) for cells in _settings(results)]
    lines += ["", "Run it yourself: `make bench`. What is measured and how: `benchmarks/README.md`.", ""]
    return "\n".join(lines)


def _markdown_cell(results: Results, scenario: Scenario, peer: Peer) -> str:
    median = results.median(scenario.key, peer.key)
    if median is None:
        return "-"
    shown = figure(median, scenario.unit)
    if peer.key in {MAINSTAY, MAINSTAY_EVENTS}:
        return f"**{shown}**"
    ratio = results.ratio(scenario, peer.key)
    return f"{shown}<br>{times(ratio)}" if ratio else shown


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
