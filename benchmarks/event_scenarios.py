"""What is measured of events, with whom, and how much of it."""

from benchmarks.line_up import BARE_EVENTS, EVENTSOURCE_PY, EVENTSOURCING, MAINSTAY_EVENTS
from benchmarks.scenario import Goal, Scenario

ALL = (MAINSTAY_EVENTS, EVENTSOURCE_PY, EVENTSOURCING, BARE_EVENTS)

EVENT_SCENARIOS = (
    Scenario("append-1", "append 1 event", "append", ALL, 2_000, smoke=40),
    Scenario("append-10", "append 10 events", "append", ALL, 10_000, {EVENTSOURCE_PY: 3_000}, smoke=0, events=10),
    Scenario("append-100", "append 100 events", "append", ALL, 40_000, {EVENTSOURCE_PY: 4_000}, smoke=200, events=100),
    Scenario("append-8", "append 1 event, 8 writers", "append", ALL, 6_400, smoke=80, writers=8),
    Scenario("append-32", "append 1 event, 32 writers", "append", ALL, 9_600, smoke=0, writers=32),
    Scenario(
        "append-work",
        "append 1 event and work 3 ms, 16 writers",
        "append",
        (MAINSTAY_EVENTS, EVENTSOURCING, BARE_EVENTS),
        6_400,
        {EVENTSOURCING: 1_600},
        smoke=80,
        writers=16,
        work=0.003,
        note="the work is pg_sleep, in the transaction; eventsource-py takes no other work into its own",
    ),
    Scenario("stream", "read a stream of 1,000 events", "stream", ALL, 40, smoke=0, events=1_000),
    Scenario("feed", "read the feed into typed events", "feed", ALL, 20_000, smoke=1_000),
    Scenario(
        "project",
        "projection that writes a row for each event",
        "project",
        ALL,
        6_000,
        {EVENTSOURCE_PY: 2_000, EVENTSOURCING: 2_000},
        smoke=200,
        note="exactly once but with eventsource-py, whose checkpoint is not in the transaction of the row",
    ),
    Scenario("load", "load an aggregate of 1,000 events", "load", ALL, 40, smoke=2, events=1_000),
    Scenario(
        "load-snapshot",
        "the same from a snapshot",
        "load",
        (MAINSTAY_EVENTS, EVENTSOURCE_PY, EVENTSOURCING),
        200,
        smoke=2,
        events=1_000,
        snapshots=True,
        note="of its first 950 events, the other 50 are read",
    ),
)

EVENT_GOALS = (
    Goal("append 1 event, against eventsource-py", "append-1", EVENTSOURCE_PY, 3.0),
    Goal("append 1 event, against eventsourcing", "append-1", EVENTSOURCING, 2.0),
    Goal("append 100 events, against eventsource-py", "append-100", EVENTSOURCE_PY, 15.0),
    Goal("append 100 events, against eventsourcing", "append-100", EVENTSOURCING, 1.7),
    Goal("8 writers, against bare inserts in no order", "append-8", BARE_EVENTS, 0.75),
    Goal("32 writers, against bare inserts in no order", "append-32", BARE_EVENTS, 0.75),
    Goal("3 ms of work after an append, against eventsourcing", "append-work", EVENTSOURCING, 8.0),
    Goal("feed into typed events, against eventsource-py", "feed", EVENTSOURCE_PY, 3.0),
    Goal("projection exactly once, against bare SQL", "project", BARE_EVENTS, 0.4),
    Goal("load of 1,000 events, against eventsource-py", "load", EVENTSOURCE_PY, 1 / 3, at_most=True),
)
