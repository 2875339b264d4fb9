"""What was decided on a command, as a table or a document."""

from typing import Any

from mainstay.commands.ledger import StreamName
from mainstay.operations.cli.output import NUMBER, WHOLE, Output, facts, table
from mainstay.operations.ledger import Decided


def stream_text(stream: StreamName) -> str:
    """A stream as people write it: ``Category/id``, or ``Category/id@tenant``."""
    tenant = "" if stream.tenant_id is None else f"@{stream.tenant_id}"
    return f"{stream.category}/{stream.stream_id}{tenant}"


def decided_document(decided: Decided) -> dict[str, Any]:
    """For ``--json``."""
    decision = decided.decision
    return {
        "decided_at": decision.decided_at,
        "handler": decision.handler,
        "handler_version": decision.handler_version,
        "stream": decision.stream._asdict(),
        "version_read": decision.version_read,
        "version": decision.version,
        "tombstoned": decided.tombstoned,
        "events": list(decided.events),
        "sends": [{"domain": domain, "command_id": command_id} for domain, command_id in decision.sends],
    }


def show_decided(out: Output, decided: Decided) -> None:
    """For people."""
    decision = decided.decision
    read = f"version {decision.version_read}"
    became = f", and made it version {decision.version}" if decision.events else ", and appended nothing"
    out.show(
        "[bold]Decision[/]",
        facts(
            [
                ("stream", stream_text(decision.stream)),
                ("read", read + became),
                ("handler", f"{decision.handler}, version {decision.handler_version}"),
                ("sent", "\n".join(f"{domain} {command_id}" for domain, command_id in decision.sends) or None),
                ("events", "gone: the stream is tombstoned" if decided.tombstoned else None),
            ]
        ),
    )
    if decided.events:
        rows = table(("version", NUMBER), "event", ("position", NUMBER), ("id", WHOLE))
        for each in decided.events:
            rows.add_row(str(each.version), each.event_type, str(each.position), str(each.event_id))
        out.show(rows)
