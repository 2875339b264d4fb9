"""Serving the console's application for as long as a block lasts."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mainstay.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from mainstay.operations.operator import Operator


@dataclass(frozen=True, slots=True)
class Served:
    """A console that is served.

    Args:
        url: Where it is.
        stop: Lets it end, with the streams of open pages.
        ended: Done when it has ended.
    """

    url: str
    stop: Callable[[], None]
    ended: "asyncio.Task[None]"


@asynccontextmanager
async def serving(operator: "Operator", address: tuple[str, int], **options: Any) -> AsyncIterator[Served]:
    """Serve the console while the block lasts. Signals are the caller's affair.

    Args:
        operator: What it asks.
        address: Host and port; port 0 is any that is free.
        **options: As for `mainstay.operations.console.console`.

    Raises:
        MissingDependencyError: The extra is not installed.
        ConfigurationError: Somebody else listens there, or it is no address.
    """
    from mainstay.operations.console import console as application

    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError('serving the console needs uvicorn: pip install "mainstay[console]"') from error

    class Server(uvicorn.Server):
        """One that leaves signals alone: uvicorn, when it has ended, kills the process with them."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    host, port = address
    try:
        listening = socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
    with listening:
        served = application(operator, **options)
        config = uvicorn.Config(
            served, log_config=None, lifespan="off", server_header=False, timeout_graceful_shutdown=5
        )
        server = Server(config)

        def stop() -> None:
            server.should_exit = True
            served.close()

        shown = f"[{host}]" if ":" in host else host
        task = asyncio.create_task(server.serve(sockets=[listening]), name="mainstay-console")
        try:
            yield Served(f"http://{shown}:{listening.getsockname()[1]}/", stop, task)
        finally:
            stop()
            await task
