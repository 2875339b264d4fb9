"""What the console can ask and do, by room; `mainstay.operations.console.asking` says how it is declared.

To add a room: a module here, and its name in the import below, which makes its operations known.
"""

from mainstay.operations.console.questions import (
    actions,
    batches,
    commands,
    conversations,
    dashboard,
    editing,
    events,
    limits,
    load,
    processes,
    projections,
    rebuilding,
    schedules,
    search,
    streams,
    trail,
    troubleshooting,
)

__all__ = [
    "actions",
    "batches",
    "commands",
    "conversations",
    "dashboard",
    "editing",
    "events",
    "limits",
    "load",
    "processes",
    "projections",
    "rebuilding",
    "schedules",
    "search",
    "streams",
    "trail",
    "troubleshooting",
]
