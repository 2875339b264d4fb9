"""Showing a run while it goes on: live on a terminal, a line now and then where the output goes elsewhere."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mainstay.operations.demo.run import Situation

_BAR: Final = 32
_LINE_EVERY: Final = 2.0
_STATES: Final = (
    ("ready", "waiting", "blue"),
    ("deferred", "for later", "blue"),
    ("in_progress", "in progress", "cyan"),
    ("completed", "completed", "green"),
    ("failed", "failed", "yellow"),
    ("canceled", "canceled", "bright_black"),
    ("troubleshooting", "troubleshooting", "red"),
)
_WORKER_STYLES: Final = {"working": "green", "killed": "red", "starting": "blue", "stopped": "bright_black"}


@dataclass(slots=True)
class _Phase:
    name: str
    began: float
    seconds: float | None = None


class _Screen:
    """Keeps the phases."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._phases: list[_Phase] = []
        self._situation: Situation | None = None

    def _end_phase(self) -> _Phase | None:
        if not self._phases or self._phases[-1].seconds is not None:
            return None
        self._phases[-1].seconds = time.monotonic() - self._phases[-1].began
        return self._phases[-1]

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began


class PlainScreen(_Screen):
    """A line for each thing that happens, and one every two seconds; no control codes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._said = 0.0

    def __enter__(self) -> Self:
        """Nothing to set up."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last phase has ended."""
        self._end_phase()

    def begin(self, phase: str) -> None:
        """Say what begins."""
        self._end_phase()
        self._phases.append(_Phase(phase, time.monotonic()))
        self.note(phase)

    def note(self, text: str) -> None:
        """Say what happened, and when."""
        self._console.print(f"{self._elapsed:6.1f} s  {text}")

    def update(self, situation: Situation) -> None:
        """Say how far it is, if that was a while ago."""
        if time.monotonic() - self._said < _LINE_EVERY:
            return
        self._said = time.monotonic()
        numbers = [f"sent {situation.sent:,}"] + [
            f"{word} {getattr(situation, name):,}" for name, word, _ in _STATES if getattr(situation, name)
        ]
        rates = ", ".join(f"{each.per_second:,.0f}" for each in situation.workers if each.state == "working")
        self.note("; ".join(numbers) + (f"; handled per second by each worker: {rates}" if rates else ""))


class LiveScreen(_Screen):
    """Phases, bars and workers, redrawn all the time."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=10)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw a last time."""
        if error is None:
            self._end_phase()
        self._live.stop()

    def begin(self, phase: str) -> None:
        """Show what begins."""
        self._end_phase()
        self._phases.append(_Phase(phase, time.monotonic()))

    def note(self, text: str) -> None:
        """Show what happened, as a phase that took no time."""
        current = self._phases[-1]
        self._phases.insert(-1, _Phase(text, time.monotonic(), -1.0))
        self._phases[-1] = current

    def update(self, situation: Situation) -> None:
        """Keep it for the next time that is drawn."""
        self._situation = situation

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = [self._list_phases()]
        if self._situation:
            parts += ["", self._list_states(self._situation), "", _list_workers(self._situation)]
        return Group(*parts)

    def _list_phases(self) -> Table:
        rows = Table.grid(padding=(0, 2, 0, 0))
        for each in self._phases:
            if each.seconds is None:
                rows.add_row(self._spinner, Text(each.name), Text(f"{time.monotonic() - each.began:5.1f} s", "cyan"))
            elif each.seconds < 0:
                rows.add_row(Text("✗", "red"), Text(each.name, "red"), "")
            else:
                rows.add_row(Text("✓", "green"), Text(each.name), Text(f"{each.seconds:5.1f} s", "bright_black"))
        return rows

    @staticmethod
    def _list_states(situation: Situation) -> Table:
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(min_width=15)
        rows.add_column()
        rows.add_column(justify="right", min_width=7)
        shown = [("sent", "sent", "white"), *_STATES]
        for name, word, style in shown:
            number = getattr(situation, name)
            bar = ProgressBar(situation.total, number, width=_BAR, complete_style=style, finished_style=style)
            rows.add_row(Text(word, style), bar, Text(f"{number:,}", style if number else "bright_black"))
        return rows


def _list_workers(situation: Situation) -> Table:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(min_width=15)
    rows.add_column()
    for _ in range(3):
        rows.add_column(justify="right", min_width=9)
    for each in situation.workers:
        rows.add_row(
            f"worker {each.number}",
            Text(each.state, _WORKER_STYLES.get(each.state, "")),
            Text(f"process {each.pid}", "bright_black"),
            f"{each.handled:,} handled",
            f"{each.per_second:,.0f}/s" if each.state == "working" else "",
        )
    return rows


def screen_for(console: Console) -> PlainScreen | LiveScreen:
    """The screen that a console can show."""
    return LiveScreen(console) if console.is_terminal and not console.is_dumb_terminal else PlainScreen(console)
