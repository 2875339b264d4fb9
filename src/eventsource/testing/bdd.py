"""Given, when, then."""

from mainstay.testing.steps import (
    given_events,
    then_event_count,
    then_event_published,
    then_event_sequence,
    then_no_events_published,
    when_command,
)

__all__ = [
    "given_events",
    "then_event_count",
    "then_event_published",
    "then_event_sequence",
    "then_no_events_published",
    "when_command",
]
