"""``mainstay schedules``: commands that are sent again and again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mainstay.commands.schedule import DEFAULT_CATCH_UP_LIMIT, CatchUp
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Reason

if TYPE_CHECKING:
    from datetime import datetime

    from mainstay.commands.schedule import Schedule

HELP = "Send commands again and again, at times by the database's clock."

Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", show_default=False)]


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("set")(set_)
    group.command("remove")(remove)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("run")(run)


def list_(*, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List schedules by name: when each is due, and why one cannot be fired."""
    found = ask(dsn, lambda operator: operator.schedules.list(domain))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document([_plain(each) for each in found])
    elif found:
        _show(found, out)
    else:
        out.show("No schedules found." if domain else "No schedules were set yet.")


def set_(
    *,
    name: Name,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="Who handles the commands.", show_default=False)],
    command_type: Annotated[str, typer.Argument(metavar="TYPE", help="Name of the handler.", show_default=False)],
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron",
            "-c",
            metavar="FIELDS",
            help="When: minute, hour, day of month, month, day of week, in one argument: '*/5 * * * *'.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", "-e", metavar="SECONDS", help="Instead of --cron: the distance of due times.", show_default=False
        ),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", "-z", metavar="ZONE", help="Which the fields are in: Europe/Berlin.")
    ] = "UTC",
    data: Annotated[str, typer.Option("--data", metavar="JSON", help="JSON object that each command carries.")] = "{}",
    catch_up: Annotated[
        str,
        typer.Option(
            "--catch-up",
            metavar="HOW",
            help="What becomes of due times that no worker was there to fire: skip (nothing, if the newest is over a "
            "minute old), one (the newest is fired) or all.",
        ),
    ] = "one",
    catch_up_limit: Annotated[
        int, typer.Option("--catch-up-limit", metavar="N", help="For --catch-up all: how many, the newest of them.")
    ] = DEFAULT_CATCH_UP_LIMIT,
    reply_to: Annotated[
        str | None, typer.Option("--reply-to", metavar="QUEUE", help="Gets the replies.", show_default=False)
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", help="Of each command.", show_default="3")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="Commands with the same key are handled one at a time.", show_default=False
        ),
    ] = None,
    unique_key: Annotated[
        str | None,
        typer.Option(
            "--unique-key",
            metavar="KEY",
            help="None is sent at a due time while a command with this unique key has not ended.",
            show_default=False,
        ),
    ] = None,
    unique_for: Annotated[
        float | None,
        typer.Option(
            "--unique-for",
            metavar="SECONDS",
            help="Nor for so long after it was sent, if it is completed.",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Say when it would be due, next and after that, and set nothing.")
    ] = False,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Set a schedule; one of this name is changed, and keeps its next due time unless its rule changes.

    A worker of the domain must run, or nothing is sent.
    """
    from mainstay.serialization import checked_object, from_json

    wanted: dict[str, Any] = {
        "name": name,
        "domain": domain,
        "command_type": command_type,
        "data": checked_object(from_json(data), what="--data"),
        "cron": cron,
        "every": every,
        "timezone": timezone,
        "catch_up": catch_up,
        "catch_up_limit": catch_up_limit,
        "reply_to": reply_to,
        "max_attempts": max_attempts,
        "key": key,
        "unique_key": unique_key,
        "unique_for": unique_for,
    }
    if preview:
        _tell_times(ask(dsn, lambda person: person.schedules.preview(**wanted)), wanted, as_json=as_json)
    else:
        made = ask(dsn, lambda person: person.schedules.set(**wanted), who=operator, reason=reason)
        _tell("Set", made, as_json=as_json)


def remove(
    *, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Remove a schedule; commands that it sent stay."""
    ask(dsn, lambda person: person.schedules.remove(name), who=operator, reason=reason)
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"removed": name})
    else:
        out.show(f"[green]Removed schedule {_shown(name)}.[/]")


def pause(*, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Let a schedule not be fired until it is resumed."""
    done = ask(dsn, lambda person: person.schedules.pause(name), who=operator, reason=reason)
    _tell("Paused", done, as_json=as_json)


def resume(
    *, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Let a paused schedule be fired from now on; what was due meanwhile is not."""
    done = ask(dsn, lambda person: person.schedules.resume(name), who=operator, reason=reason)
    _tell("Resumed", done, as_json=as_json)


def run(*, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Send a schedule's command now, also if it is paused; its due times stay as they are."""
    sent = ask(dsn, lambda person: person.schedules.run_now(name), who=operator, reason=reason)
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"name": name, "command_id": sent.command_id})
    else:
        out.show(f"[green]Sent command {sent.command_id}.[/]")


def _plain(schedule: "Schedule") -> dict[str, Any]:
    """A schedule for programs; durations in seconds, and its rule in words."""
    from dataclasses import asdict

    durations = {"every": schedule.every, "unique_for": schedule.unique_for}
    seconds = {name: None if value is None else value.total_seconds() for name, value in durations.items()}
    return asdict(schedule) | seconds | {"in_words": _in_words(schedule)}


def _in_words(schedule: "Schedule") -> str:
    from mainstay.operations.wording import schedule_in_words

    return schedule_in_words(schedule.cron, schedule.every.total_seconds() if schedule.every else None)


def _shown(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _tell(what: str, schedule: "Schedule", *, as_json: bool) -> None:
    from mainstay.operations.cli.output import Output, moment

    out = Output(as_json=as_json)
    if as_json:
        out.document(_plain(schedule))
        return
    due = moment(schedule.next_due_at)
    state = "It is paused." if schedule.is_paused else f"It is due {due}." if due else "It is never due again."
    rule = f" It fires {_shown(_in_words(schedule))}, {schedule.timezone}." if what == "Set" and schedule.cron else ""
    out.show(f"[green]{what} schedule {_shown(schedule.name)}.[/]{rule} {state}")


def _tell_times(due: "Sequence[datetime]", wanted: dict[str, Any], *, as_json: bool) -> None:
    """When a schedule would be due."""
    from mainstay.operations.cli.output import Output
    from mainstay.operations.wording import schedule_in_words

    out = Output(as_json=as_json)
    words = schedule_in_words(wanted["cron"], wanted["every"])
    if as_json:
        out.document({"name": wanted["name"], "in_words": words, "upcoming": due})
        return
    out.show(f"It would fire {_shown(words)}:" if due else f"It would fire {_shown(words)}, and is never due.")
    for each in due:
        out.show(f"  {each:%a %d %b %Y, %H:%M:%S} {_shown(wanted['timezone'])}")
    out.show("Nothing was set.")


def _show(found: "Sequence[Schedule]", out: Any) -> None:
    from rich.text import Text

    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, count, table

    rows = table(
        ("name", FOLDED), ("domain", FOLDED), ("type", FOLDED), ("when", FOLDED), ("cron", WHOLE), ("zone", FOLDED),
        ("catch up", WHOLE), ("next", NUMBER), ("last", NUMBER), ("sent", NUMBER),
        ("skipped", NUMBER), ("error", FOLDED),
    )  # fmt: skip
    for each in found:
        words = _in_words(each)
        catch_up = f"all, {each.catch_up_limit}" if each.catch_up is CatchUp.ALL else each.catch_up.lower()
        rows.add_row(
            each.name,
            each.domain,
            each.command_type,
            "" if words == each.cron else words,
            each.cron or "",
            each.timezone if each.cron else "",
            catch_up,
            Text("paused", "yellow") if each.is_paused else ago(each.next_due_at) or "never",
            ago(each.last_due_at),
            count(each.sent_count),
            count(each.skipped_count),
            Text(each.last_error or "", "red"),
        )
    out.show(rows)
