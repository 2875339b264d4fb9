"""The program: which commands there are, and what happens around each of them."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mainstay.operations.cli import (
    batches,
    breakers,
    commands,
    console,
    demo,
    doctor,
    events,
    keys,
    limits,
    numbers,
    pauses,
    processes,
    projections,
    prune,
    rehearsals,
    relay,
    schedules,
    schema,
    send,
    trace,
    trail,
    tsq,
    worker,
    workers,
)
from mainstay.operations.cli.exits import EXIT_CODES_HELP, Exit, report

NAME = "mainstay"
_HELP = "Reliable commands and event sourcing on nothing but PostgreSQL."


class _SeenEnoughError(Exception):
    """Whoever reads our output has gone."""


class _Program(TyperGroup):
    """Says that the reader has gone by an error of our own: typer would make exit code 1 of a broken pipe."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _SeenEnoughError from error


def build() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name=NAME,
        cls=_Program,
        help=_HELP,
        epilog=EXIT_CODES_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich's help looks nicer, and takes as long again as everything else
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    demo.add_to(app)
    worker.add_to(app)
    workers.add_to(app)
    relay.add_to(app)
    console.add_to(app)
    send.add_to(app)
    numbers.add_to(app)
    pauses.add_to(app)
    doctor.add_to(app)
    prune.add_to(app)
    trail.add_to(app)
    rehearsals.add_to(app)
    trace.add_to(app)
    for name, module in (
        ("commands", commands),
        ("tsq", tsq),
        ("batches", batches),
        ("schedules", schedules),
        ("processes", processes),
        ("limits", limits),
        ("breakers", breakers),
        ("keys", keys),
        ("events", events),
        ("projections", projections),
        ("schema", schema),
    ):
        group = typer.Typer(name=name, help=module.HELP, no_args_is_help=True, rich_markup_mode=None)
        module.add_to(group)
        app.add_typer(group)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit.

    Args:
        arguments: Instead of those of the command line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        code = build()(args=given, prog_name=NAME, standalone_mode=False) or Exit.OK
        sys.stdout.flush()
    except (BrokenPipeError, _SeenEnoughError):  # as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error ends as a sentence and a code
        code = report(error, as_json=as_json)
    sys.exit(int(code))


def _print_version(asked: bool) -> None:
    if asked:
        from mainstay import __version__

        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of the program itself."""
