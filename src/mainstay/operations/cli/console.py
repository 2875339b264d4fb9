"""``mainstay console``: serves the operators' console."""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.options import Dsn, LogLevel, checked_log_level

if TYPE_CHECKING:
    from mainstay.operations.operator import Operator

PORT: Final = 8055
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_HOW = (
    "the console does not start without authentication: --token-env NAME names a variable with users as "
    "NAME:ROLE:TOKEN (role viewer or operator), --auth MODULE:NAME a function of the request that gives the User, and "
    "--demo lets everybody on this machine in as operator"
)


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("console")(console)


def console(
    *,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0: any that is free.")] = PORT,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            show_default=False,
            help="The environment variable that lists users, as NAME:ROLE:TOKEN separated by spaces; roles are viewer "
            "and operator, tokens have 16 characters at least.",
        ),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            "--auth",
            metavar="MODULE:NAME",
            show_default=False,
            help="A function of the request that gives the User, or None. The current directory is searched first.",
        ),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="Everybody on this machine is an operator, and there is a load generator; on loopback only."
        ),
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="MODULE:NAME",
            show_default=False,
            help="Where the handlers are, as for `mainstay worker`: fields that their models mark as personal are "
            "masked, and states are shown of the aggregates that they are called with.",
        ),
    ] = None,
    aggregates: Annotated[
        list[str] | None,
        typer.Option(
            "--aggregate",
            metavar="MODULE:NAME",
            show_default=False,
            help="A class of aggregates whose states are shown, too; several times for several.",
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            "--events",
            metavar="MODULE[:NAME]",
            show_default=False,
            help="The module that defines the event classes; with a name, an EventRegistry or a store in it, whose "
            "upcasters are used.",
        ),
    ] = None,
    personal: Annotated[
        list[str] | None,
        typer.Option("--personal", metavar="FIELD", help="Mask fields of this name everywhere.", show_default=False),
    ] = None,
    projections: Annotated[
        str | None,
        typer.Option(
            "--projections",
            metavar="MODULE:NAME",
            show_default=False,
            help="Where the projections are, as for `mainstay projections rebuild`: dead letters can be handled again, "
            "and tables rebuilt, from here.",
        ),
    ] = None,
    log_level: LogLevel = "warning",
    dsn: Dsn = None,
) -> None:
    """Serve the operators' console, pages and JSON API, until SIGTERM or SIGINT.

    It listens on loopback unless told otherwise, and does not start without one of --token-env, --auth and --demo.
    Behind a proxy that ends TLS, let the proxy send X-Forwarded-Proto.
    """
    from mainstay.operations.cli import logs

    logs.set_up(checked_log_level(log_level), as_json=False)
    if sum(each is not None for each in (token_env, auth)) + demo != 1:
        raise ConfigurationError(_HOW)
    if demo and host not in _LOOPBACK:
        raise ConfigurationError(f"--demo lets everybody in, so it listens on loopback only, not on {host}")
    code = {"registry": registry, "aggregates": aggregates or (), "events": events, "projections": projections}
    asyncio.run(_run(dsn, (host, port), token_env=token_env, auth=auth, personal=personal or (), demo=demo, **code))


async def _run(
    dsn: str | None, address: tuple[str, int], *, token_env: str | None, auth: str | None, **rest: Any
) -> None:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.loading import ANYTHING, here, registry_of
    from mainstay.operations.readability import codec_of
    from mainstay.operations.subscribing import PROJECTIONS

    who = _auth(token_env, auth)
    path = rest["registry"]
    found = None if path is None else here(path)
    known: dict[str, Any] = {
        "personal": rest["personal"],
        "demo": rest["demo"],
        "aggregates": [here(each, ANYTHING) for each in rest["aggregates"]],
        "events": None if rest["events"] is None else codec_of(rest["events"]).registry,
    }
    projections = None if rest["projections"] is None else here(rest["projections"], PROJECTIONS)
    async with connected(dsn, max_size=8, prepare=True, serves=True) as operator:
        if projections is not None:
            known["projections"] = _projecting(operator, projections, rest["projections"])
        registry = None if path is None else await registry_of(found, path, operator.pool)
        await _serve(operator, address, auth=who, registry=registry, **known)


def _projecting(operator: "Operator", found: Any, path: str) -> Any:
    """What makes the manager when it is first needed, and room for its connections."""
    from mainstay.operations.subscribing import connections_for, manager_of

    async def make() -> Any:
        manager = await manager_of(found, path, operator.pool, registers=False)
        await operator.pool.resize(1, operator.pool.max_size + connections_for(manager))
        return manager

    return make


def _auth(token_env: str | None, auth: str | None) -> Any:
    from mainstay.operations.console import Anybody, TokenAccess
    from mainstay.operations.loading import ANYTHING, here

    if token_env is not None:
        text = os.environ.get(token_env, "")
        if not text.strip():
            raise ConfigurationError(f"the environment variable {token_env} is not set, or empty: {_HOW}")
        return TokenAccess.read(text)
    if auth is None:
        return Anybody()
    found = here(auth, ANYTHING)
    if not callable(found):
        raise ConfigurationError(f"{auth} is no function of the request")
    return found


async def _serve(operator: "Operator", address: tuple[str, int], **options: Any) -> None:
    import signal

    from mainstay.operations.cli.serving import serving

    async with serving(operator, address, **options) as served:
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, served.stop)
        typer.echo(f"The console is at {served.url} (Ctrl-C ends it)")
        await served.ended
