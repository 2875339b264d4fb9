"""``mainstay projections``: subscriptions, how far they are, and letting them go on or not."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mainstay.errors import ConfigurationError, InvalidOperationError
from mainstay.operations.cli import dead_letters, projection_code, rebuilding
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, Yes, name_of
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn, Interval, Reason, Watch

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator
    from mainstay.operations.projections import ShardOverview
    from mainstay.storage.postgres.feed_questions import SubscriptionOverview

HELP = "See how far projections are, pause and resume them, and decide on events that they could not handle."

Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The projection, as `projections list` names it.", show_default=False)
]
_LONG = 10.0
"""Seconds behind that are shown in yellow."""


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("lag")(lag)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("forget")(forget)
    letters = typer.Typer(name="dead-letters", help=dead_letters.HELP, no_args_is_help=True, rich_markup_mode=None)
    dead_letters.add_to(letters)
    group.add_typer(letters)
    projection_code.add_to(group)
    group.command("rebuild")(rebuilding.rebuild)


def list_(*, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the projections that are known: whether they run, how far they are behind, and why they stopped."""
    found = ask(dsn, lambda operator: operator.projections.list())
    from rich.text import Text

    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, count, table
    from mainstay.projections.checks import REBUILD

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No projection is known yet: one is made known when a process that has it starts.")
        return
    rows = table(
        ("projection", FOLDED), ("status", WHOLE), ("shards", NUMBER), ("position", NUMBER), ("events\nbehind", NUMBER),
        ("time\nbehind", NUMBER), ("dead\nletters", NUMBER), ("run by", FOLDED),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            each.subscription, _status(each), str(each.shards), f"{each.position:,}", _behind(each), _late(each),
            count(each.dead_letters, "red"), ", ".join(each.owners),
        )  # fmt: skip
    out.show(rows)
    for each in found:
        if each.status == "STOPPED":
            out.show("", Text.assemble((f"{each.subscription} stopped: ", "red"), each.reason or ""))
            serving = each.subscription.removesuffix(REBUILD)
            if serving == each.subscription:
                out.note(f"Once that is mended, go on with this event: mainstay projections resume {quote(serving)}")
            else:
                command = f"mainstay projections rebuild MODULE:NAME {serving}"
                out.note(f"Once that is mended, go on with it: {command}; or drop it: {command} --cancel")
        elif each.status == "PAUSED":
            by = f"{each.subscription} is paused by {each.actor or 'somebody'}: "
            out.show("", Text.assemble((by, "yellow"), each.reason or "no reason was given"))


def lag(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this projection's shards.", show_default=False)
    ] = None,
    at_most: Annotated[
        float | None,
        typer.Option(
            "--at-most",
            metavar="SECONDS",
            min=0.0,
            help="Exit with code 1 if one is further behind.",
            show_default=False,
        ),
    ] = None,
    watch: Watch = False,
    interval: Interval = 2.0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show whether each shard of the projections runs, and how far it is behind, in events and in time.

    The time is how long ago the next event was recorded. Events that a projection does not want count until it has
    passed them by. From 100,000 on they are not counted: it is the difference of positions then.
    """  # fmt: skip
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if watch:
        with suppress(KeyboardInterrupt):  # that is how one stops watching
            asyncio.run(_watch(out, dsn, name, interval))
        return
    found = ask(dsn, lambda operator: operator.projections.shards(name))
    _print_lags(out, found, None)
    if at_most is not None and any(each.lag.seconds > at_most for each in found):
        raise typer.Exit(Exit.FOUND)


async def _watch(out: "Output", dsn: str | None, name: str | None, interval: float) -> None:
    from rich.live import Live

    from mainstay.operations.cli.connection import connected

    before: dict[tuple[str, int], tuple[float, int]] = {}
    async with connected(dsn) as operator, AsyncExitStack() as stack:
        live = None
        if out.console.is_terminal and not out.as_json:
            live = stack.enter_context(Live(console=out.console, auto_refresh=False))
        while True:
            found = await operator.projections.shards(name)
            rates = _rates(before, found)
            if live:
                live.update(_lag_table(found, rates), refresh=True)
            else:
                _print_lags(out, found, rates)
            await asyncio.sleep(interval)


def _rates(
    before: dict[tuple[str, int], tuple[float, int]], found: "list[ShardOverview]"
) -> dict[tuple[str, int], float]:
    """Positions per second since the last look, by shard; notes this look."""
    now = time.monotonic()
    rates: dict[tuple[str, int], float] = {}
    for shard in (each.state for each in found):
        key, position = (shard.subscription, shard.shard), shard.checkpoint.position
        if key in before:
            moment, number = before[key]
            rates[key] = (position - number) / max(now - moment, 0.001)
        before[key] = (now, position)
    return rates


def _print_lags(out: "Output", found: "list[ShardOverview]", rates: dict[tuple[str, int], float] | None) -> None:
    if out.as_json:
        out.document([{**asdict(each.lag), "status": each.state.status, "owned": each.owned} for each in found])
    elif not found:
        out.show("No projection is known yet: one is made known when a process that has it starts.")
    else:
        out.show(_lag_table(found, rates))


def _lag_table(found: "list[ShardOverview]", rates: dict[tuple[str, int], float] | None) -> "Table":
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, duration, table

    rows = table(
        ("projection", FOLDED), ("shard", NUMBER), ("status", WHOLE), ("position", NUMBER), ("of", NUMBER),
        ("events\nbehind", NUMBER), ("time\nbehind", NUMBER),
        *([("a second", NUMBER), ("ready in", NUMBER)] if rates is not None else []),
    )  # fmt: skip
    for each in found:
        state, behind = each.state, each.lag
        rate = (rates or {}).get((state.subscription, state.shard), 0.0)
        ready = duration(behind.events / rate) if rate > 0 and behind.events else ""
        rows.add_row(
            state.subscription, f"{state.shard + 1} of {state.shards}" if state.shards > 1 else "",
            _status_word(state.status, owned=int(each.owned), of=1),
            f"{state.checkpoint.position:,}", f"{behind.horizon:,}", _about(behind.events, exact=behind.exact),
            _seconds(behind.seconds), *([f"{rate:,.0f}", ready] if rates is not None else []),
        )  # fmt: skip
    return rows


def pause(*, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Let a projection rest in all processes, once the batches in hand are done. Exit code 5 if it does already."""
    who = name_of(operator)
    if not ask(dsn, lambda person: person.projections.pause(name, operator=who, reason=reason)):
        raise InvalidOperationError(f"{name} does not run; see `mainstay projections list`")
    _done(f"Paused {name}.", "It goes on where it is with: mainstay projections resume", "paused", as_json=as_json)


def resume(
    *, name: Name, reason: Reason = None, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Let a projection go on that was paused, or that an error stopped: with the very event that it stopped at.

    Exit code 5 if it is neither.
    """
    who = name_of(operator)
    if not ask(dsn, lambda person: person.projections.resume(name, operator=who), reason=reason):
        raise InvalidOperationError(f"{name} is neither paused nor stopped; see `mainstay projections list`")
    _done(f"Resumed {name}.", "A process that has it goes on within a second or so.", "resumed", as_json=as_json)


def forget(
    *,
    name: Name,
    yes: Yes = False,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Forget a projection that nobody runs any more: its checkpoints and its dead letters. Its tables stay.

    A process that has it would begin it anew. Exit code 5 if somebody runs it.
    """
    if not yes and (as_json or not sys.stdin.isatty()):
        raise ConfigurationError("it asks before it forgets, and there is nobody to ask: add --yes")

    async def asked(person: "Operator") -> bool:
        (found,) = await person.projections.list(name)
        what = f"{name}, at position {found.position:,}, with {found.dead_letters:,} dead letters"
        if not yes and not await asyncio.to_thread(typer.confirm, f"Forget {what}?"):
            return False
        await person.projections.forget(name)
        return True

    if not ask(dsn, asked, who=operator, reason=reason):
        typer.echo("Nothing was changed.")
        raise typer.Exit(Exit.FOUND)
    _done(f"Forgot {name}.", "Its tables are as they were.", "forgotten", as_json=as_json)


def _done(words: str, more: str, what: str, *, as_json: bool) -> None:
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({what: True})
    else:
        out.show(f"[green]{words}[/] {more}")


def _status(each: "SubscriptionOverview") -> "Text":
    return _status_word(each.status, owned=each.owned, of=each.shards)


def _status_word(status: str, *, owned: int, of: int) -> "Text":
    """Whether it runs; of so many shards, so many are run by somebody."""
    from rich.text import Text

    if status != "ACTIVE":
        word, style = status.lower(), "red" if status == "STOPPED" else "yellow"
    elif owned == of:
        word, style = "running", "green"
    elif owned:
        word, style = f"running {owned} of {of}", "yellow"
    else:
        word, style = "not running", "yellow"
    return Text(word, style=style)


def _behind(each: "SubscriptionOverview") -> "Text":
    return _about(each.events, exact=each.exact)


def _about(events: int, *, exact: bool) -> "Text":
    from rich.text import Text

    return Text(f"{'' if exact else '~'}{events:,}", style="" if events else "bright_black")


def _late(each: "SubscriptionOverview") -> "Text":
    return _seconds(each.seconds)


def _seconds(seconds: float) -> "Text":
    from rich.text import Text

    from mainstay.operations.cli.output import duration

    style = "yellow" if seconds > _LONG else "" if seconds else "bright_black"
    return Text(duration(seconds), style=style)
