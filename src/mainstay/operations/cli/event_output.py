"""How events are shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from rich.text import Text

from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, facts, moment, pretty_json, table
from mainstay.operations.event_lines import document_of

if TYPE_CHECKING:
    from mainstay.events.log import RecordedEvent

_SHORT = 8
_EMPTIED = Text("emptied: its stream is tombstoned", style="bright_black")


def show_events(out: Output, events: "Sequence[RecordedEvent]", *, full: bool) -> None:
    """A table of a stream's events, or all that is stored of each."""
    if full:
        for number, each in enumerate(events):
            if number:
                out.show("")
            show_event(out, each, of_stream=True)
        return
    rows = table(
        ("version", NUMBER), ("position", NUMBER), ("type", FOLDED), ("recorded", WHOLE), ("caused by", WHOLE),
        ("actor", FOLDED),
    )  # fmt: skip
    for each in events:
        cause, recorded = each.event.causation_id, each.recorded_at.astimezone()
        rows.add_row(
            f"{each.version:,}", f"{each.position:,}", _type(each), f"{recorded:%Y-%m-%d %H:%M:%S}",
            "" if cause is None else f"{str(cause)[:_SHORT]}…", each.event.actor_id or "",
        )  # fmt: skip
    out.show(rows)


def show_event(out: Output, recorded: "RecordedEvent", *, of_stream: bool = False) -> None:
    """All that is stored of an event."""
    if out.as_json:
        out.document(document_of(recorded))
        return
    event = recorded.event
    out.show(
        facts(
            [
                ("event", Text.assemble((event.event_type, "bold"), f" version {event.event_version}")),
                ("stream", None if of_stream else f"{recorded.stream}"),
                ("version", f"{recorded.version:,}"),
                ("position", f"{recorded.position:,}"),
                ("id", str(event.event_id)),
                ("recorded", moment(recorded.recorded_at)),
                ("occurred", moment(event.occurred_at)),
                ("caused by", str(event.causation_id or "")),
                ("correlation", str(event.correlation_id or "")),
                ("actor", event.actor_id),
                ("tags", ", ".join(event.tags)),
                ("metadata", None if event.metadata is None else _pretty(event.metadata)),
                ("payload", _EMPTIED if recorded.tombstoned else _pretty(event.payload)),
            ]
        )
    )


def show_line(out: Output, recorded: "RecordedEvent", *, full: bool) -> None:
    """One event of the feed on one line or, in full, on as many as it needs."""
    if out.as_json:
        out.document(document_of(recorded))
        return
    event = recorded.event
    line = Text.assemble(
        (f"{recorded.position:>9,}  {recorded.recorded_at.astimezone():%H:%M:%S}  ", "bright_black"),
        (event.event_type, "bold cyan"),
        f"  {recorded.stream}",
        (f" v{recorded.version}  ", "bright_black"),
    )
    if recorded.tombstoned:
        line.append_text(_EMPTIED)
    elif not full:
        line.append_text(_corrupt(event.payload) or Text(" ".join(event.payload.decode().split())))
    out.console.print(line, no_wrap=not full, overflow="ellipsis", crop=True)
    if full and not recorded.tombstoned:
        metadata = None if event.metadata is None else _pretty(event.metadata)
        out.show(facts([("           metadata", metadata), ("           payload", _pretty(event.payload))]))


def _type(recorded: "RecordedEvent") -> Text:
    event = recorded.event
    shown = Text(event.event_type)
    if event.event_version > 1:
        shown.append(f" v{event.event_version}", style="bright_black")
    if not recorded.tombstoned and (problem := _corrupt(event.payload)):
        shown.append("  ").append_text(problem)
    return shown


def _pretty(document: bytes) -> Text | None:
    problem = _corrupt(document)
    if problem is None:
        return pretty_json(_value(document))
    return problem.append(f"\n{document.decode(errors='backslashreplace')}", style="default")


def _corrupt(document: bytes) -> Text | None:
    """What is wrong with a document that no class can read."""
    value = _value(document)
    if isinstance(value, dict):
        return None
    return Text("corrupt: not JSON" if value is None else "corrupt: no JSON object", style="red")


def _value(document: bytes) -> Any:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
