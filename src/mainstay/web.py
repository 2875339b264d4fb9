"""Read your own writes over HTTP: a header that says how far a server's answer, or the next one, must have read.

A response to a request that appended events, or sent a command and waited for its reply, says their position in
`POSITION`. A client that sends it along with what it asks next is not answered from a read model that has not come so
far: whichever process answers, the request waits first, not longer than it is allowed to. Every response repeats the
highest position known, so that a client only ever keeps the last one it was told.

What becomes of a request whose read model is late is a choice (``on_late``). Who sends the header asks for it, so
``"refuse"`` is what is done unless said otherwise: 503 with ``Retry-After``, and the client asks again; so do Vault
Enterprise (``X-Vault-Index``, 412) and Neo4j (bookmarks). ``"pass"`` answers from what is there and says so in
`BEHIND`, which suits pages that are better old than missing; MediaWiki's ChronologyProtector does that.

How it fails. A projection that is paused, stopped or unknown is late at once: no request waits for what does not come.
A position that nobody gave out costs its sender the longest wait, and the server one of the questions that all who wait
share. What a transaction appended that was rolled back is waited for all the same, and the wait ends: the feed goes on.

The middleware is plain ASGI (or WSGI), needs no framework, and keeps nothing: any number of server processes may stand
side by side.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias

from mainstay.errors import ConfigurationError, EventError, InvalidInputError, StorageError, shown
from mainstay.positions import note_position, noting
from mainstay.retry import as_seconds
from mainstay.telemetry import get_logger

POSITION = "Mainstay-Position"
"""The header: a whole number, in requests and in responses."""
BEHIND = "Mainstay-Behind"
"""The header of a response that was given all the same: which projections had not come so far."""
PATIENCE = 1.0
"""Seconds that a request waits, unless told otherwise."""

_RETRY_AFTER = "1"
_LARGEST = 2**63 - 1
_DIGITS = 19
_LATE = (TimeoutError, EventError, StorageError)

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
WSGIApp: TypeAlias = Callable[..., Iterable[bytes]]
OnLate: TypeAlias = Literal["refuse", "pass"]

logger = get_logger(__name__)


class Waiter(Protocol):
    """What waits for projections: a `Mainstay`."""

    async def wait_until(self, projection: str, position: int, *, timeout: float) -> None:
        """Wait until it has come so far."""
        ...


class BlockingWaiter(Protocol):
    """The same for code that blocks: a `SyncMainstay`."""

    def wait_until(self, projection: str, position: int, *, timeout: float) -> None:
        """Wait until it has come so far."""
        ...


class _Rules:
    """What both faces are told, checked."""

    def __init__(self, source: Any, projections: Any, timeout: timedelta | float, on_late: OnLate, header: str) -> None:
        if not callable(getattr(source, "wait_until", source)):
            raise ConfigurationError(
                "source is what waits for projections (a Mainstay, a SyncMainstay), or a function that gives it, not "
                f"{shown(source)}"
            )
        if isinstance(projections, str) or not (callable(projections) or isinstance(projections, Sequence)):
            raise ConfigurationError(
                f"projections is a list of names, or a function of the request that gives one, not {shown(projections)}"
            )
        if on_late not in {"refuse", "pass"}:
            raise ConfigurationError(f"on_late is 'refuse' or 'pass', not {shown(on_late)}")
        if not isinstance(header, str) or not header.replace("-", "").isalnum() or not header.isascii():
            raise ConfigurationError(f"header is a name of letters, digits and '-', not {shown(header)}")
        self._source = source
        self._projections = projections
        self.timeout = as_seconds(timeout)
        self.refuses = on_late == "refuse"
        self.header = header

    def waiter(self) -> Any:
        """What waits, which a server may open after its middleware is made."""
        return self._source if hasattr(self._source, "wait_until") else self._source()

    def projections(self, request: Any) -> Sequence[str]:
        """Those that a request is answered from."""
        names: Sequence[str] = self._projections(request) if callable(self._projections) else self._projections
        return tuple(dict.fromkeys(names))

    def position(self, text: str) -> int:
        """What a request's header says.

        Raises:
            InvalidInputError: No position.
        """
        if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS or int(text) > _LARGEST:
            raise InvalidInputError(
                f"{self.header} is the whole number that a response said, not {shown(text)}: send it as it was"
            )
        return int(text)

    def told(self, position: int | None, behind: Sequence[str]) -> list[tuple[str, str]]:
        """The headers of a response."""
        headers = [] if position is None else [(self.header, str(position))]
        return [*headers, (BEHIND, ", ".join(behind))] if behind else headers

    def late(self, wanted: int, behind: Sequence[str]) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body of the refusal (RFC 9457, 9110)."""
        names = ", ".join(behind)
        body = _problem(503, "Not there yet", f"what position {wanted} did is not yet in: {names}; ask again")
        return [*_kind(body), ("Retry-After", _RETRY_AFTER), *self.told(wanted, behind)], body


def _problem(status: int, title: str, detail: str) -> bytes:
    return json.dumps({"status": status, "title": title, "detail": detail}).encode()


def _kind(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]


def _note_late(name: str, error: Exception) -> None:
    if not isinstance(error, TimeoutError):
        logger.warning("a request does not wait for projection %s: %s", name, error)


class ReadYourWrites:
    """ASGI middleware: requests see what those before them wrote, whichever server process answers.

    ::

        app.add_middleware(ReadYourWrites, mainstay, projections=["orders"])

    Args:
        app: The application; frameworks give it.
        source: The `Mainstay` whose projections are waited for, or a function without arguments that gives it: for one
            that is opened when the server starts.
        projections: Names of those that answers are given from; or a function of the ASGI scope that gives those of a
            request: ``lambda scope: ["orders"] if scope["path"].startswith("/orders") else []``.
        timeout: Seconds (or timedelta) that a request waits for all of them.
        on_late: What becomes of a request whose time is over: ``"refuse"`` it with 503, or ``"pass"`` it on.
        header: Another name than `POSITION`.

    Raises:
        ConfigurationError: Something of this is none of that.
    """

    def __init__(
        self,
        app: ASGIApp,
        source: Waiter | Callable[[], Waiter],
        projections: Sequence[str] | Callable[[Scope], Sequence[str]] = (),
        *,
        timeout: timedelta | float = PATIENCE,
        on_late: OnLate = "refuse",
        header: str = POSITION,
    ) -> None:
        self._app = app
        self._rules = _Rules(source, projections, timeout, on_late, header)
        self._name = header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = [value for name, value in scope["headers"] if name == self._name]
        try:
            wanted = max((self._rules.position(value.decode("latin-1").strip()) for value in sent), default=None)
        except InvalidInputError as error:
            body = _problem(400, "Not a position", str(error))
            await self._answer(send, 400, _kind(body), body)
            return
        behind = () if wanted is None else await self._behind(scope, wanted)
        if wanted is not None and behind and self._rules.refuses:
            await self._answer(send, 503, *self._rules.late(wanted, behind))
            return
        with noting() as noted:
            note_position(wanted)

            async def telling(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    told = _raw(self._rules.told(noted.position, behind))
                    message = {**message, "headers": [*message.get("headers", ()), *told]}
                await send(message)

            await self._app(scope, receive, telling)

    async def _behind(self, scope: Scope, wanted: int) -> Sequence[str]:
        """Which of a request's projections have not come so far when its time is over."""
        names = self._rules.projections(scope)
        if not names:
            return ()
        waiter = self._rules.waiter()
        late = await asyncio.gather(*(self._is_late(waiter, name, wanted) for name in names))
        return [name for name, is_late in zip(names, late, strict=True) if is_late]

    async def _is_late(self, waiter: Waiter, name: str, wanted: int) -> bool:
        try:
            await waiter.wait_until(name, wanted, timeout=self._rules.timeout)
        except _LATE as error:
            _note_late(name, error)
            return True
        return False

    async def _answer(self, send: Send, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        await send({"type": "http.response.start", "status": status, "headers": _raw(headers)})
        await send({"type": "http.response.body", "body": body})


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]


class ReadYourWritesWSGI:
    """WSGI middleware, for Django and Flask: what `ReadYourWrites` does, with a `SyncMainstay`.

    Args:
        app: The application.
        source: The `SyncMainstay` whose projections are waited for, or a function without arguments that gives it.
        projections: Names, or a function of the WSGI environment that gives those of a request.
        timeout: Seconds (or timedelta) that a request waits for all of them.
        on_late: ``"refuse"`` with 503, or ``"pass"``.
        header: Another name than `POSITION`.

    Raises:
        ConfigurationError: Something of this is none of that.
    """

    def __init__(
        self,
        app: WSGIApp,
        source: BlockingWaiter | Callable[[], BlockingWaiter],
        projections: Sequence[str] | Callable[[dict[str, Any]], Sequence[str]] = (),
        *,
        timeout: timedelta | float = PATIENCE,
        on_late: OnLate = "refuse",
        header: str = POSITION,
    ) -> None:
        self._app = app
        self._rules = _Rules(source, projections, timeout, on_late, header)
        self._name = "HTTP_" + header.upper().replace("-", "_")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        text = environ.get(self._name)
        try:
            wanted = None if text is None else self._rules.position(text.strip())
        except InvalidInputError as error:
            body = _problem(400, "Not a position", str(error))
            start_response("400 Bad Request", _kind(body))
            return [body]
        behind = () if wanted is None else self._behind(environ, wanted)
        if wanted is not None and behind and self._rules.refuses:
            headers, body = self._rules.late(wanted, behind)
            start_response("503 Service Unavailable", headers)
            return [body]
        with noting() as noted:
            note_position(wanted)

            def telling(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                return start_response(status, [*headers, *self._rules.told(noted.position, behind)], *rest)

            return self._app(environ, telling)

    def _behind(self, environ: dict[str, Any], wanted: int) -> Sequence[str]:
        """Which of a request's projections have not come so far when its time is over, one after the other."""
        late: list[str] = []
        for name in self._rules.projections(environ):
            try:
                self._rules.waiter().wait_until(name, wanted, timeout=self._rules.timeout)
            except _LATE as error:
                _note_late(name, error)
                late.append(name)
        return late
