"""The run as a chart: an SVG of a few kilobytes that follows the reader's light or dark colours.

A panel for each scenario, each with a scale of its own: a send and a batch differ by a factor of thirty, and it is the
peers that are to be compared, not the scenarios. The figures stand beside the bars, so the lengths need no axis.
"""

from html import escape

from benchmarks.line_up import BARE_EVENTS, BARE_NOTIFY, BARE_SQL, MAINSTAY, MAINSTAY_EVENTS
from benchmarks.results import Results, figure
from benchmarks.scenario import Scenario

SHOWN = (
    "send",
    "send-16",
    "send-batch",
    "work-100",
    "work-2x100",
    "transactional",
    "sync",
    "latency",
    "append-1",
    "append-100",
    "append-8",
    "append-work",
    "feed",
    "project",
)
OURS = {MAINSTAY, MAINSTAY_EVENTS}
LIMITS = {BARE_SQL, BARE_NOTIFY, BARE_EVENTS}
COLUMNS = 2
WIDTH, LABEL, FIGURE, BAR, GAP, TITLE, MARGIN = 420, 96, 76, 16, 6, 34, 18

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .quiet { fill: #59636e }
  .ours { fill: #0969da }
  .theirs { fill: #9aa4af }
  .limit { fill: none; stroke: #9aa4af; stroke-dasharray: 3 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .theirs { fill: #656c76 }
    .limit { stroke: #656c76 }
  }
"""


def draw(results: Results) -> str:
    """The chart as the text of an SVG file."""
    panels = [
        (scenario, bars)
        for scenario in results.scenarios
        if scenario.key in SHOWN and (bars := _bars(results, scenario))
    ]
    rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    parts: list[str] = []
    top = MARGIN
    for row in rows:
        for column, (scenario, bars) in enumerate(row):
            parts.append(_panel(scenario, bars, MARGIN + column * (WIDTH + 2 * MARGIN), top))
        top += TITLE + max(len(bars) for _, bars in row) * (BAR + GAP) + MARGIN
    width = COLUMNS * (WIDTH + 2 * MARGIN)
    parts.append(
        f'<text class="quiet" x="{MARGIN}" y="{top + 8}">Commands or events a second, or the time of one; medians of '
        f"{results.rounds} rounds in one run on one PostgreSQL with fsync on.</text>"
    )
    height = top + 8 + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Speed of mainstay and its peers">\n<style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bars(results: Results, scenario: Scenario) -> list[tuple[str, str, float]]:
    found = []
    for peer in results.peers:
        median = results.median(scenario.key, peer.key)
        if median is not None:
            kind = "ours" if peer.key in OURS else "limit" if peer.key in LIMITS else "theirs"
            found.append((peer.title, kind, median))
    return found


def _panel(scenario: Scenario, bars: list[tuple[str, str, float]], left: int, top: int) -> str:
    longest = max(value for _, _, value in bars) or 1.0
    room = WIDTH - LABEL - FIGURE
    lines = [f'<text class="title" x="{left}" y="{top + 14}">{escape(scenario.title)}</text>']
    for number, (title, kind, value) in enumerate(bars):
        y = top + TITLE - 8 + number * (BAR + GAP)
        length = max(1.0, room * value / longest)
        shown = figure(value, scenario.unit)
        lines += [
            f'<text class="{"title" if kind == "ours" else "name"}" x="{left}" y="{y + 13}">{escape(title)}</text>',
            f'<rect class="{kind}" x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text class="quiet" x="{left + LABEL + length + 6:.1f}" y="{y + 13}">{shown}</text>',
        ]
    return "\n".join(lines)
