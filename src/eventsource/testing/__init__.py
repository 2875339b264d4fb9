"""For tests of what stands on events."""

from eventsource.testing.assertions import EventAssertions
from eventsource.testing.bdd import (
    given_events,
    then_event_count,
    then_event_published,
    then_event_sequence,
    then_no_events_published,
    when_command,
)
from eventsource.testing.builder import EventBuilder
from eventsource.testing.harness import InMemoryTestHarness

__all__ = [
    "EventAssertions",
    "EventBuilder",
    "InMemoryTestHarness",
    "given_events",
    "then_event_count",
    "then_event_published",
    "then_event_sequence",
    "then_no_events_published",
    "when_command",
]
