"""The small HTTP server of a worker process: ``/health/live``, ``/health/ready`` and, if asked for, ``/metrics``.

It runs in a thread of its own, so that it answers also while a handler blocks the event loop: that is when the answer
matters. It listens on loopback unless told otherwise, and tells nothing but names of workers, numbers and reasons.
"""

import asyncio
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import orjson

from mainstay.app import SubscriptionManager, Worker
from mainstay.errors import ConfigurationError, shown
from mainstay.metrics import IN_FLIGHT, SLOTS, Observation, listening, observed
from mainstay.operations.prometheus import PrometheusRecorder
from mainstay.telemetry import get_logger

logger = get_logger(__name__)

_HIGHEST_PORT = 65535


class HealthServer:
    """Answers probes for workers and subscriptions, from a thread; a context manager of the event loop they run on.

    Args:
        workers: Of this process.
        managers: The subscription managers of this process.
        host: Where to listen.
        port: 0: any that is free; see `port`.
        metrics: Serve ``/metrics`` too.

    Raises:
        ConfigurationError: Not a port, or it cannot be listened on.
        MissingDependencyError: Metrics without ``prometheus-client``.
    """

    def __init__(
        self,
        workers: Sequence[Worker] = (),
        *,
        managers: Sequence[SubscriptionManager] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        metrics: bool = True,
    ) -> None:
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= _HIGHEST_PORT:
            raise ConfigurationError(f"a port is a whole number from 0 to {_HIGHEST_PORT}, not {shown(port)}")
        self._workers = list(workers)
        self._managers = list(managers)
        self._address = (host, port)
        self._recorder = PrometheusRecorder() if metrics else None
        self._server: ThreadingHTTPServer | None = None
        self._stack = ExitStack()

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return self._server.server_address[1] if self._server else 0

    async def __aenter__(self) -> Self:
        """Listen."""
        try:
            server = ThreadingHTTPServer(self._address, _handler_of(self))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on {self._address[0]}:{self._address[1]}: {error}") from error
        server.daemon_threads = True
        self._server = server
        if self._recorder:
            self._stack.enter_context(listening(self._recorder))
        self._stack.enter_context(observed(self._also_idle))
        threading.Thread(target=server.serve_forever, name="mainstay-probes", daemon=True).start()
        logger.info("listening for probes on %s:%d", self._address[0], self.port, extra={"port": self.port})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        self._stack.close()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a path; called from the server's threads."""
        match path:
            case "/health/live":
                return self._health("live")
            case "/health/ready":
                return self._health("ready")
            case "/metrics" if self._recorder:
                return HTTPStatus.OK, self._recorder.content_type, self._recorder.text()
        there = ["/health/live", "/health/ready", *(["/metrics"] if self._recorder else [])]
        return _json(HTTPStatus.NOT_FOUND, {"there is": there})

    def _also_idle(self) -> Iterable[Observation]:
        """Nothing, of workers that may not run: those that do say more themselves."""
        for worker in self._workers:
            yield from (Observation(metric, 0, (worker.domain,)) for metric in (IN_FLIGHT, SLOTS))

    def _health(self, what: str) -> tuple[HTTPStatus, str, bytes]:
        found = [worker.health() for worker in self._workers]
        probes = [manager.probe() for manager in self._managers]
        bad = any(getattr(one, what) for one in (*found, *probes))
        body = {
            "status": "unavailable" if bad else "ok",
            "workers": [
                {"domain": one.domain, "worker": one.worker, "reasons": list(getattr(one, what))} for one in found
            ],
            "subscriptions": [{"manager": one.name, "reasons": list(getattr(one, what))} for one in probes],
        }
        return _json(HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK, body)


def _json(status: HTTPStatus, body: dict[str, Any]) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", orjson.dumps(body)


def _handler_of(server: HealthServer) -> type[BaseHTTPRequestHandler]:
    class Answers(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            status, kind, body = server.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A probe every second is nothing to tell."""

    return Answers
