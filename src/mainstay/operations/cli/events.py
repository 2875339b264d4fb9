"""``mainstay events``: streams and the feed, as they are stored."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import UUID

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli import event_check, event_files
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, Dsn, Limit, Tenant
from mainstay.operations.cli.times import point

if TYPE_CHECKING:
    from mainstay.events.log import FeedFilter, RecordedEvent, StreamState
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator

HELP = "Look at streams of events and at the feed, and move events to and from files."

Category: TypeAlias = Annotated[
    str | None,
    typer.Option("--category", "-c", metavar="CATEGORY", help="Only streams of this category.", show_default=False),
]
Full: TypeAlias = Annotated[bool, typer.Option("--full", help="With everything that is stored: payload and metadata.")]
_NAME = "Its category and its id, such as Order/17; its tenant, if it has one, behind an @ or as --tenant."


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("streams")(streams)
    group.command("show")(show)
    group.command("tail")(tail)
    event_files.add_to(group)
    event_check.add_to(group)


# -- streams -----------------------------------------------------------------------------------------------------------


def streams(
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="Only those whose ids begin so.", show_default=False)
    ] = "",
    category: Category = None,
    tenant: Tenant = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="STREAM", help="Those behind this one.", show_default=False)
    ] = None,
    limit: Limit = 50,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List streams in the order of category, tenant and id, a page at a time, however many there are."""

    async def asked(operator: "Operator") -> "list[StreamState]":
        place = None if after is None else (await operator.events.stream(after)).stream
        return await operator.events.streams(
            category=category, tenant_id=tenant, prefix=prefix, after=place, limit=limit
        )

    found = ask(dsn, asked)
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, count, table

    out = Output(as_json=as_json)
    if as_json:
        out.document([_stream_document(each) for each in found])
        return
    if not found:
        filtered = prefix or category or tenant or after
        out.show("No streams found." if filtered else "No events were appended yet.")
        return
    tenants, closed = any(each.stream.tenant_id for each in found), any(_state(each) for each in found)
    rows = table(
        ("category", FOLDED), ("id", FOLDED), *([("tenant", FOLDED)] if tenants else []), ("events", NUMBER),
        ("begun", NUMBER), *([("state", WHOLE)] if closed else []),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            each.stream.category, str(each.stream.id), *([str(each.stream.tenant_id or "")] if tenants else []),
            count(each.version), ago(each.created_at), *([_state(each)] if closed else []),
        )  # fmt: skip
    out.show(rows)
    if len(found) == limit:
        out.note(f"There may be more: --after '{found[-1].stream}'")


def _stream_document(state: "StreamState") -> dict[str, Any]:
    from mainstay.deciding.store import stream_name

    return {
        **stream_name(state.stream)._asdict(),
        "version": state.version,
        "created_at": state.created_at,
        "archived": state.archived,
        "tombstoned": state.tombstoned,
        "reason": state.reason,
        "actor": state.actor,
    }


def _state(state: "StreamState") -> str:
    return "tombstoned" if state.tombstoned else "archived" if state.archived else ""


# -- events ------------------------------------------------------------------------------------------------------------


def show(
    *,
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help=_NAME, show_default=False)] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Whose stream it is.", show_default=False)
    ] = None,
    position: Annotated[
        int | None,
        typer.Option("--position", "-p", metavar="N", min=1, help="The event at this position.", show_default=False),
    ] = None,
    event_id: Annotated[
        UUID | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="The event with this id; without STREAM, all events are looked through.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="VERSION", min=1, help="As it was at this version.", show_default=False),
    ] = None,
    after: Annotated[int, typer.Option("--after", metavar="VERSION", min=0, help="Only later versions.")] = 0,
    limit: Limit = 50,
    full: Full = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show the last events of a stream, in order, or one event with all that is stored of it."""
    if [stream is not None or event_id is not None, position is not None] not in ([True, False], [False, True]):
        message = "name a stream, such as Order/17, or an event by --position or --id"
        if stream is not None:
            message = "--position counts the events of all streams: leave the stream out, or ask for its --at VERSION"
        elif position is not None:
            message = "name an event by --position or by --id, not by both"
        raise ConfigurationError(message)
    if position is not None or event_id is not None:
        recorded = ask(dsn, lambda operator: _one(operator, stream, tenant, position, event_id))
        from mainstay.operations.cli.event_output import show_event
        from mainstay.operations.cli.output import Output

        show_event(Output(as_json=as_json), recorded)
        return
    state, found = ask(dsn, lambda operator: _some(operator, stream or "", tenant, after, at, limit))
    from mainstay.operations.cli.event_output import show_events
    from mainstay.operations.cli.output import Output
    from mainstay.operations.event_lines import document_of

    out = Output(as_json=as_json)
    if as_json:
        out.document(_stream_document(state) | {"events": [document_of(each) for each in found]})
        return
    _show_state(out, state)
    if state.tombstoned:
        return
    out.show("")
    show_events(out, found, full=full)
    if found and found[0].version > after + 1:
        all_ = (at or state.version) - after
        out.note(f"The last {len(found):,} of {all_:,}. What came before: --at {found[0].version - 1}")


async def _one(
    operator: "Operator", stream: str | None, tenant: str | None, position: int | None, event_id: UUID | None
) -> "RecordedEvent":
    if position is not None or event_id is None:
        return await operator.events.at(position or 0)
    state = None if stream is None else await operator.events.stream(stream, tenant)
    return await operator.events.by_id(event_id, None if state is None else state.stream)


async def _some(  # noqa: PLR0917 - its only caller has them all
    operator: "Operator", name: str, tenant: str | None, after: int, at: int | None, limit: int
) -> "tuple[StreamState, list[RecordedEvent]]":
    state = await operator.events.stream(name, tenant)
    if state.tombstoned:
        return state, []
    return state, await operator.events.stream_events(state.stream, after=after, up_to=at, limit=limit)


def _show_state(out: "Output", state: "StreamState") -> None:
    from rich.text import Text

    from mainstay.operations.cli.output import facts, moment

    tombstone = None
    if state.tombstoned:
        tombstone = Text.assemble(("tombstoned", "red"), f" by {state.actor}: {state.reason}")
    archived = Text("archived: it takes no more events", style="yellow") if state.archived else None
    out.show(
        facts(
            [
                ("stream", str(state.stream)),
                ("events", f"{state.version:,}"),
                ("begun", moment(state.created_at)),
                ("state", tombstone or archived),
            ]
        )
    )


# -- the feed ----------------------------------------------------------------------------------------------------------


def tail(
    *,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="TYPE", help="Only events of this type; several times for several."),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", "-c", metavar="CATEGORY", help="Only of this category; several times for several."),
    ] = None,
    tenant: Tenant = None,
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, help="Begin so many events before.")] = 10,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Begin so long ago (10min, 2h), or at 2030-01-31T12:00.", show_default=False
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="POSITION", min=0, help="Begin after this position.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for what comes, until Ctrl-C.")] = True,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="Seconds between two looks.", min=0.05)
    ] = 0.25,
    full: Full = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Follow the feed: every event once it can be given out, in order. Ctrl-C ends it.

    What an open transaction holds back is shown when that ends; `mainstay doctor` names it. With --json each event is a
    document on a line of its own.
    """
    if since is not None and after is not None:
        raise ConfigurationError("give --since or --after, not both")
    from mainstay.events.log import FeedFilter
    from mainstay.operations.cli.output import Output

    wanted = FeedFilter(
        frozenset(types) if types else None, frozenset(categories) if categories else None, tenant or None
    )
    begin = {"last": last, "since": None if since is None else point(since), "after": after}
    with suppress(KeyboardInterrupt):  # that is how one stops following
        asyncio.run(_follow(Output(as_json=as_json), dsn, wanted, begin, interval if follow else None, full=full))


async def _follow(
    out: "Output", dsn: str | None, wanted: "FeedFilter", begin: dict[str, Any], interval: float | None, *, full: bool
) -> None:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.cli.event_output import show_line

    since, seen = begin["since"], 0
    async with connected(dsn) as operator:
        place = await operator.events.place(wanted, **begin)
        while True:
            page = await operator.events.page(place, wanted)
            for each in page.events:
                if since is None or each.recorded_at >= since:
                    show_line(out, each, full=full)
                    seen += 1
            place = page.position
            if place < page.horizon:
                continue
            if interval is None:
                if not seen:
                    out.note("No such events. What there is: mainstay events streams")
                return
            await asyncio.sleep(interval)
