"""``mainstay commands``: looking at commands, and canceling those that wait."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from mainstay.commands.carried import ACTOR, TENANT
from mainstay.errors import ConfigurationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who
from mainstay.operations.cli.options import (
    AsJson,
    CommandId,
    Domain,
    Dsn,
    Limit,
    Offset,
    Reason,
    Running,
    Since,
    Status,
    Tenant,
    Type,
    Until,
)
from mainstay.operations.cli.times import period

if TYPE_CHECKING:
    from mainstay.commands.command import CommandMetadata
    from mainstay.commands.handler import HandlerRegistry
    from mainstay.operations.cli.output import Output
    from mainstay.operations.ledger import Decided
    from mainstay.operations.operator import Operator

_WITH_OFFSET = ("domain", "command_type", "status", "tenant_id")
HELP = "Look at commands, cancel those that wait, and print their schemas."


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("show")(show)
    group.command("audit")(audit)
    group.command("cancel")(cancel)
    group.command("schema")(schema)


def list_(
    *,
    domain: Domain = None,
    command_type: Type = None,
    status: Status = None,
    tenant: Tenant = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", metavar="KEY", help="Only with this key.", show_default=False)
    ] = None,
    batch: Annotated[
        UUID | None, typer.Option("--batch", "-b", metavar="BATCH_ID", help="Only of this batch.", show_default=False)
    ] = None,
    correlation: Annotated[
        UUID | None,
        typer.Option("--correlation", metavar="ID", help="Only of this conversation.", show_default=False),
    ] = None,
    since: Since = None,
    until: Until = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="TEXT", help="Only with this in the payload; needs --since, too.", show_default=False
        ),
    ] = None,
    limit: Limit = 50,
    after: Annotated[
        UUID | None, typer.Option("--after", metavar="ID", help="Only what was sent before this.", show_default=False)
    ] = None,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List commands, newest first.

    To go on, give --after with the last id: pages do not move while commands are sent. --offset counts anew each time,
    and goes with --domain, --type, --status and --tenant only.
    """
    conditions: dict[str, Any] = {
        "domain": domain, "command_type": command_type, "status": status, "tenant_id": tenant, "key": key,
        "batch_id": batch, "correlation_id": correlation, "text": text,
        **period(since, until),
    }  # fmt: skip
    if offset and (after or any(conditions[name] for name in conditions if name not in _WITH_OFFSET)):
        raise ConfigurationError("--offset goes with --domain, --type, --status and --tenant only; go on with --after")
    found = ask(dsn, lambda operator: _list(operator, conditions, limit, offset, after))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    page = found[:limit]
    if as_json:
        out.document(page)
    elif not page:
        out.show("No commands found." if after or any(conditions.values()) else "No commands were sent yet.")
    else:
        show_commands(out, page)
        if len(found) > limit:
            go_on = f"--offset {offset + limit}" if offset else f"--after {page[-1].command_id}"
            out.note(f"There are more: {go_on} shows the next {limit}.")


async def _list(
    operator: "Operator", conditions: dict[str, Any], limit: int, offset: int, after: UUID | None
) -> "list[CommandMetadata]":
    """So many commands, and one more if there is another page."""
    from mainstay.commands.command import Place
    from mainstay.commands.search import Sought

    most = min(limit + 1, 10_000)
    if offset:
        named = {name: conditions[name] for name in _WITH_OFFSET}
        return await operator.commands(limit=most, offset=offset, **named)
    which = Sought(**conditions)
    found: list[CommandMetadata] = []
    place = None if after is None else Place.of(await operator.command(after, conditions["domain"]))
    while len(found) < most:  # each look reads so many at most; together they read what it takes
        part = await operator.search.commands(which, limit=most - len(found), after=place)
        found += part.commands
        place = part.next
        if place is None:
            break
    return found


def show_commands(out: "Output", found: "list[CommandMetadata]") -> None:
    """Print commands as a table."""
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, status, table

    rows = table(
        ("id", WHOLE), ("domain", FOLDED), ("type", FOLDED), ("status", WHOLE), ("attempts", NUMBER), ("sent", NUMBER)
    )
    for each in found:
        rows.add_row(
            str(each.command_id),
            each.domain,
            each.command_type,
            status(each.status),
            f"{each.attempts} of {each.max_attempts}",
            ago(each.created_at),
        )
    out.show(rows)


def show(*, command_id: CommandId, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show everything that is known of a command."""
    found, decided = asyncio.run(_shown(dsn, command_id, domain))
    from mainstay.operations.cli.decided import decided_document, show_decided
    from mainstay.operations.cli.output import Output, facts, moment, one_line, pretty_json, status

    out = Output(as_json=as_json)
    if as_json:
        out.document(asdict(found) | {"decision": decided and decided_document(decided)})
        return
    error = " ".join(part for part in (found.last_error_code, found.last_error_msg) if part)
    out.show(
        facts(
            [
                ("command", str(found.command_id)),
                ("domain", found.domain),
                ("type", found.command_type),
                ("status", status(found.status)),
                ("attempts", f"{found.attempts} of {found.max_attempts}"),
                ("sent", moment(found.created_at)),
                ("last change", moment(found.updated_at)),
                ("due", moment(found.due_at)),
                ("progress", one_line(found.progress) if found.progress else None),
                ("last error", error),
                ("correlation", str(found.correlation_id or "")),
                ("caused by", str(found.causation_id or "")),
                ("tenant", str((found.headers or {}).get(TENANT, ""))),
                ("wanted by", str((found.headers or {}).get(ACTOR, ""))),
                ("appended to", "" if found.position is None else f"position {found.position:,}"),
                ("batch", str(found.batch_id or "")),
                ("unique key", found.unique_key),
                ("reply to", found.reply_to),
                ("data", pretty_json(found.data)),
                ("result", pretty_json(found.result)),
            ]
        )
    )
    if decided is not None:
        show_decided(out, decided)
    out.note(f"What happened to it: mainstay commands audit {command_id}")
    out.note(f"What led to it, and what followed: mainstay trace {command_id}")


async def _shown(dsn: str | None, command_id: UUID, domain: str | None) -> "tuple[CommandMetadata, Decided | None]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        found = await operator.command(command_id, domain)
        return found, await operator.ledger.decided(found.domain, command_id)


def audit(*, command_id: CommandId, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show everything that happened to a command, in order."""
    trail = ask(dsn, lambda operator: operator.audit(command_id, domain))
    from mainstay.operations.cli.output import NUMBER, Output, one_line, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(trail)
        return
    rows = table("when", ("after", NUMBER), "event", ("details", {"overflow": "fold"}))
    before = trail[0].timestamp
    for event in trail:
        rows.add_row(
            f"{event.timestamp.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3],
            f"{(event.timestamp - before).total_seconds():,.3f} s",
            event.event_type.replace("_", " ").lower(),
            one_line(event.details),
        )
        before = event.timestamp
    out.show(rows)


def cancel(
    *,
    command_ids: Annotated[list[UUID], typer.Argument(metavar="ID", help="Commands that wait.", show_default=False)],
    running: Running = False,
    reason: Reason = None,
    operator: Who = None,
    domain: Domain = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Cancel commands that were not started yet. Exit code 5 if one of them could not be canceled."""
    how: dict[str, Any] = {"domain": domain, "reason": reason, "running": running}
    done = ask(dsn, lambda person: person.cancel(command_ids, **how), who=operator, reason=reason)
    from mainstay.operations.cli.acted import show_acted
    from mainstay.operations.cli.output import Output

    show_acted(Output(as_json=as_json), "Asked to end" if running else "Canceled", done)


def schema(
    *,
    registry: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="Where the handlers are, as for `mainstay worker`. No database is needed; a function that takes the "
            "pool is given none.",
            show_default=False,
        ),
    ],
    domain: Domain = None,
    command_type: Type = None,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of the commands that a registry handles.

    One of a typed command says what its payload must fit; one of any other command allows any JSON object. With --json:
    one object, by domain and type.
    """
    handlers = asyncio.run(_registry(registry))
    from mainstay.operations.cli.output import Output, pretty_json

    found = {
        each: {name: schema for name, schema in schemas.items() if command_type in (None, name)}
        for each, schemas in handlers.json_schemas().items()
        if domain in (None, each)
    }
    found = {each: schemas for each, schemas in found.items() if schemas}
    if not found:
        known = ", ".join(".".join(each) for each in handlers.registered_handlers())
        raise ConfigurationError(f"{registry} has no such command; it handles: {known}")
    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    for each, schemas in found.items():
        for name, document in schemas.items():
            out.show(f"[bold]{each}.{name}[/] version {document['x-command']['version']}", pretty_json(document) or "")


async def _registry(path: str) -> "HandlerRegistry":
    from mainstay.operations.loading import here, registry_of

    return await registry_of(here(path), path, None)
