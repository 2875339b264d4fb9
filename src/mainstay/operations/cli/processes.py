"""``mainstay processes``: where processes stand, and canceling them."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from mainstay.commands.process import ProcessStatus, StepStatus
from mainstay.errors import ConfigurationError, ProcessNotFoundError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Limit, Offset, Reason

if TYPE_CHECKING:
    from rich.table import Table

    from mainstay.commands.lifecycle import CommandStatus
    from mainstay.commands.process import ProcessEvent, ProcessMetadata, TakenEvent
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator

HELP = "See where processes stand, and cancel them."


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("show")(show)
    group.command("cancel")(cancel)


def process_status(text: str) -> ProcessStatus:
    """A process's status as it is written anywhere: in tables, in JSON, or by hand."""
    word = text.strip().upper().replace("-", "_").replace(" ", "_")
    try:
        return ProcessStatus.WAITING_FOR_REPLY if word == "WAITING" else ProcessStatus(word)
    except ValueError:
        known = ", ".join(status.value.lower().replace("_", "-") for status in ProcessStatus)
        raise ConfigurationError(f"no status {text!r}; there are: {known}") from None


ProcessId = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the process.", show_default=False)]


def list_(
    *,
    domain: Domain = None,
    process_type: Annotated[
        str | None, typer.Option("--type", "-t", metavar="TYPE", help="Only of this type.", show_default=False)
    ] = None,
    status: Annotated[
        ProcessStatus | None,
        typer.Option(
            "--status",
            "-s",
            metavar="STATUS",
            parser=process_status,
            help="Only in this status: waiting, compensating, completed, compensated, canceled or failed.",
            show_default=False,
        ),
    ] = None,
    batch_id: Annotated[
        UUID | None, typer.Option("--batch", metavar="ID", help="Only of this batch.", show_default=False)
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List processes, newest first."""
    found = ask(
        dsn,
        lambda operator: operator.processes.query(
            domain=domain, process_type=process_type, status=status, batch_id=batch_id, limit=limit, offset=offset
        ),
    )
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, table
    from mainstay.operations.cli.output import status as word

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        asked = domain or process_type or status or batch_id
        out.show("No processes found." if asked else "No processes were started yet.")
        return
    rows = table(
        ("id", WHOLE), ("domain", FOLDED), ("type", FOLDED), ("status", FOLDED), ("error", FOLDED),
        ("started", NUMBER), ("last change", NUMBER),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            str(each.process_id),
            each.domain,
            each.process_type,
            word(each.status),
            each.error_code or "",
            ago(each.created_at),
            ago(each.updated_at),
        )
    out.show(rows)


def show(*, process_id: ProcessId, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show a process, its state, its steps and what happened to it."""

    async def everything(
        operator: "Operator",
    ) -> "tuple[ProcessMetadata, dict[int, CommandStatus], list[ProcessEvent]]":
        found = await operator.processes.get(process_id)
        if found is None:
            raise ProcessNotFoundError(process_id)
        waiting = await operator.processes.waiting_for(found)
        return found, waiting, await operator.processes.get_audit_trail(process_id)

    found, waiting, trail = ask(dsn, everything)
    from mainstay.operations.cli.output import Output, facts, moment, pretty_json
    from mainstay.operations.cli.output import status as word

    out = Output(as_json=as_json)
    if as_json:
        out.document({"process": found, "waiting_for": waiting, "audit": trail})
        return
    error = " ".join(part for part in (found.error_code, found.error_message) if part)
    out.show(
        facts(
            [
                ("process", str(found.process_id)),
                ("domain", found.domain),
                ("type", found.process_type),
                ("status", word(found.status)),
                ("error", error),
                ("started", moment(found.created_at)),
                ("last change", moment(found.updated_at)),
                ("ended", moment(found.completed_at)),
                ("correlation", str(found.correlation_id)),
                ("batch", str(found.batch_id or "")),
                ("tenant", str(found.tenant_id or "")),
                ("wanted by", found.actor_id),
                ("deadlines", ", ".join(sorted(found.deadlines))),
                ("state", pretty_json(found.state)),
            ]
        ),
        "",
    )
    _show_steps(out, found, waiting)
    out.show("")
    _show_trail(out, trail)


def cancel(
    *, process_id: ProcessId, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Cancel a process: what it has done is undone by its worker, step by step."""
    ask(dsn, lambda person: person.processes.cancel(process_id, reason=reason, operator=name_of(operator)))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"process_id": process_id, "asked": True})
        return
    out.show(f"Asked process {process_id} to undo what it has done; its worker does it.")
    out.note(f"How far it is: mainstay processes show {process_id}")


def _show_steps(out: "Output", found: "ProcessMetadata", waiting: "dict[int, CommandStatus]") -> None:
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, table
    from mainstay.operations.cli.output import status as word

    rows = table(
        ("step", NUMBER), ("name", FOLDED), ("domain", FOLDED), ("status", FOLDED), ("command", WHOLE),
        ("sent", NUMBER), ("error", FOLDED),
    )  # fmt: skip
    events = sorted(found.events, key=lambda event: (event.taken_at or found.created_at, event.position))
    for step in found.steps:
        while events and (events[0].taken_at or found.created_at) <= step.sent_at:
            _show_event(rows, events.pop(0))
        stands = waiting.get(step.step_no) if step.status is StepStatus.SENT else None
        rows.add_row(
            str(step.step_no),
            step.name + (f" (undoes {step.undoes})" if step.undoes else ""),
            step.domain,
            word(stands or step.status),
            str(step.command_id),
            ago(step.sent_at),
            step.error_code or "",
        )
    for event in events:
        _show_event(rows, event)
    out.show(rows)


def _show_event(rows: "Table", event: "TakenEvent") -> None:
    from mainstay.operations.cli.output import ago

    status = "taken" if event.was_taken else "ignored"
    rows.add_row("", f"event {event.event_type}", "", status, str(event.event_id), ago(event.taken_at), "")


def _show_trail(out: "Output", trail: "list[ProcessEvent]") -> None:
    from mainstay.operations.cli.output import NUMBER, one_line, table

    rows = table("when", ("step", NUMBER), "event", ("details", {"overflow": "fold"}))
    for event in trail:
        rows.add_row(
            f"{event.timestamp.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3],
            str(event.step_no or ""),
            event.event_type.replace("_", " ").lower(),
            one_line(event.details),
        )
    out.show(rows)
