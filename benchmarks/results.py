"""What a run found: medians, spreads, ratios and reached goals, as data for the table, the page and the chart."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.line_up import Peer
from benchmarks.measurements import Sample
from benchmarks.scenario import Goal, Scenario
from benchmarks.scenarios import GOALS


@dataclass
class Cell:
    """One peer in one scenario."""

    samples: list[Sample] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float | None:
        """The middle of the samples, or None if there are none."""
        return statistics.median(sample.value for sample in self.samples) if self.samples else None

    @property
    def spread(self) -> float:
        """Half the distance from the least to the greatest sample, as a part of the median."""
        values = [sample.value for sample in self.samples]
        return (max(values) - min(values)) / 2 / statistics.median(values) if values else 0.0


def _figures(samples: Sequence[Sample], name: str) -> list[float]:
    """The samples' values, or what was seen beside them under this name."""
    return [sample.extra[name] if name else sample.value for sample in samples]


@dataclass
class Results:
    """Everything about one run.

    Args:
        scenarios: Rows, in order.
        peers: Columns, in order.
        server: The server's settings.
        rounds: How often each cell was to be measured.
        smoke: Whether sizes were small, so that the figures say nothing about speed.
    """

    scenarios: tuple[Scenario, ...]
    peers: tuple[Peer, ...]
    server: dict[str, str]
    rounds: int
    smoke: bool
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def cell(self, scenario: str, peer: str) -> Cell:
        """The cell of a row and a column."""
        return self.cells.setdefault((scenario, peer), Cell())

    def median(self, scenario: str, peer: str) -> float | None:
        """The median of a cell, or None if it was not measured."""
        found = self.cells.get((scenario, peer))
        return found.median if found else None

    def ratio(self, scenario: Scenario, peer: str) -> float | None:
        """How many times better mainstay is than a peer: its rate by the peer's, or the peer's time by its."""
        if scenario.kind == "memory":  # a quotient of two small gains means nothing
            return None
        found = self._quotient((scenario.key, scenario.ours), (scenario.key, peer))
        return 1 / found if found and scenario.unit == "ms" else found

    def reached(self) -> list[tuple[Goal, float]]:
        """Each goal that was measured, with the ratio found."""
        found = []
        ours = {scenario.key: scenario.ours for scenario in self.scenarios}
        for goal in GOALS:
            by = (goal.against or goal.scenario, goal.peer)
            quotient = self._quotient((goal.scenario, ours.get(goal.scenario, "")), by, goal)
            if quotient is not None:
                found.append((goal, quotient))
        return found

    def _quotient(self, of: tuple[str, str], by: tuple[str, str], goal: Goal | None = None) -> float | None:
        """The median over the rounds of one cell's figure by another's, taken round by round.

        A machine that others use is slow for minutes and fast again. What stands side by side in one round met the same
        machine; what stands in different rounds did not.
        """
        if of not in self.cells or by not in self.cells:
            return None
        ours = _figures(self.cells[of].samples, goal.ours if goal else "")
        theirs = _figures(self.cells[by].samples, goal.beside if goal else "")
        pairs = list(zip(ours, theirs, strict=False))
        return statistics.median(one / other for one, other in pairs) if pairs else None

    def beside(self, scenario: str, peer: str, name: str) -> float | None:
        """The median of something else that was seen while a cell was measured."""
        cell = self.cells.get((scenario, peer))
        seen = [sample.extra[name] for sample in cell.samples if name in sample.extra] if cell else []
        return statistics.median(seen) if seen else None

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Scenario, peer and message of each measurement that failed."""
        return [(scenario, peer, cell.error) for (scenario, peer), cell in self.cells.items() if cell.error]

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {
            "format": 1,
            "started": self.started.isoformat(timespec="seconds"),
            "smoke": self.smoke,
            "rounds": self.rounds,
            "machine": machine(),
            "server": self.server,
            "peers": {
                peer.key: {
                    "title": peer.title,
                    "keeps": peer.keeps,
                    "requirements": peer.requirements,
                    **self.about.get(peer.key, {}),
                    **({"missing": self.missing[peer.key]} if peer.key in self.missing else {}),
                }
                for peer in self.peers
            },
            "scenarios": {
                scenario.key: {
                    "title": scenario.title,
                    "unit": scenario.unit,
                    "note": scenario.note,
                    "peers": {peer: self._cell_as_json(scenario, peer) for peer in self._measured(scenario)},
                }
                for scenario in self.scenarios
            },
            "goals": [{**asdict(goal), "found": ratio, "held": goal.held(ratio)} for goal, ratio in self.reached()],
        }

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")

    def _measured(self, scenario: Scenario) -> list[str]:
        return [peer.key for peer in self.peers if (scenario.key, peer.key) in self.cells]

    def _cell_as_json(self, scenario: Scenario, peer: str) -> dict[str, Any]:
        cell = self.cell(scenario.key, peer)
        return {
            "median": cell.median,
            "spread": cell.spread,
            "values": [sample.value for sample in cell.samples],
            "extra": [sample.extra for sample in cell.samples],
            "mainstay_is_better_by": self.ratio(scenario, peer),
            **({"error": cell.error} if cell.error else {}),
        }


def machine() -> dict[str, Any]:
    """What the run ran on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def figure(value: float | None, unit: str) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return ""
    if unit == "MB":
        return f"{value:.1f} MB"
    if unit == "ms":
        return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"  # noqa: PLR2004  # three digits at most
    return f"{round(value, -1):,.0f}/s" if value >= 1_000 else f"{value:.0f}/s"  # noqa: PLR2004  # three digits at most


def times(ratio: float | None) -> str:
    """A ratio with as many digits as mean something."""
    if ratio is None:
        return ""
    return f"{ratio:.1f}x" if ratio >= 1.95 else f"{ratio:.2f}x"  # noqa: PLR2004  # two or three digits
