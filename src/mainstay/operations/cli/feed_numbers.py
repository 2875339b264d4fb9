"""Events and projections in a line each, for `mainstay stats`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from mainstay.operations.cli.output import counted, duration
from mainstay.storage.postgres.feed_questions import EventNumbers, SubscriptionOverview


@dataclass(frozen=True, slots=True)
class Feed:
    """How it is with events and projections.

    Attributes:
        numbers: Of events.
        projections: All that are known.
    """

    numbers: EventNumbers
    projections: Sequence[SubscriptionOverview]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "events": self.numbers,
            "projections": [
                {
                    "projection": each.subscription,
                    "status": each.status,
                    "shards": each.shards,
                    "owned": each.owned,
                    "events": each.events,
                    "seconds": each.seconds,
                    "dead_letters": each.dead_letters,
                }
                for each in self.projections
            ],
        }

    def lines(self) -> list[RenderableType]:
        """For people; nothing of what there is not."""
        told: list[RenderableType] = []
        if self.numbers.last_seconds is not None:
            about, ago = "" if self.numbers.exact else "about ", duration(self.numbers.last_seconds)
            what = f"{self.numbers.events:,} in {counted(self.numbers.streams, 'stream')}"
            told.append(Text(f"events       {about}{what}, the last {ago} ago"))
        if self.projections:
            told.append(self._projections())
        return told

    def _projections(self) -> Text:
        standing = Counter(_standing(each) for each in self.projections)
        words = [(f"{standing[word]} {word}", style) for word, style in _STYLES.items() if standing[word]]
        line = Text("projections  ")
        for number, (word, style) in enumerate(words):
            line.append(", " if number else "").append(word, style=style)
        slowest = max(self.projections, key=lambda each: each.events)
        if slowest.events:
            seconds = max(each.seconds for each in self.projections)
            about = "" if slowest.exact else "about "
            line.append(f"; the slowest {about}{counted(slowest.events, 'event')} behind ({duration(seconds)})")
        if letters := sum(each.dead_letters for each in self.projections):
            line.append("; ").append(counted(letters, "dead letter"), style="red")
        return line


_STYLES = {"running": "green", "not running": "yellow", "paused": "yellow", "stopped": "red"}


def _standing(each: SubscriptionOverview) -> str:
    if each.status != "ACTIVE":
        return each.status.lower()
    return "running" if each.owned == each.shards else "not running"
