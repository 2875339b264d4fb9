"""The application: guard, headers, routes, and what is answered when something goes wrong."""

from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from mainstay.app import SubscriptionManager
from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError, MainstayError
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.registry import EventRegistry
from mainstay.operations.console import api, pages
from mainstay.operations.console.access import Access, Anybody, Hook, TokenAccess
from mainstay.operations.console.asking import Desk, status_of
from mainstay.operations.console.building import Building, Projecting, projecting_of
from mainstay.operations.console.carrying import Carrying
from mainstay.operations.console.keeping import Budget, Shared
from mainstay.operations.console.masking import Masking
from mainstay.operations.console.overview import FRESH, Watch
from mainstay.operations.console.pages import frame
from mainstay.operations.console.rendering import STATIC
from mainstay.operations.demo.generating import Generator
from mainstay.operations.operator import Operator
from mainstay.operations.states import States, aggregates_in
from mainstay.telemetry import get_logger

logger = get_logger(__name__)

_POLICY: Final = (
    b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
    b"connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'"
)
HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_SAFE = {"GET", "HEAD"}
_SHORTEST_SECRET = 16


def console(
    operator: Operator,
    *,
    auth: TokenAccess | Hook | Anybody,
    registry: HandlerRegistry | None = None,
    personal: Iterable[str] = (),
    secret: str | None = None,
    aggregates: Iterable[type[AggregateRoot[Any]]] = (),
    events: EventRegistry | None = None,
    projections: SubscriptionManager | Projecting | None = None,
    demo: bool = False,
) -> "Console":
    """The console as an ASGI application: to be served by itself, or mounted in a Starlette or FastAPI application.

    Args:
        operator: What it asks and does; the caller opens and closes it.
        auth: Who may use it: `TokenAccess`, a function of the request that gives a `User` or None (or a promise of
            one), or `Anybody`.
        registry: The handlers: fields that their models mark as personal are masked, edited payloads must fit their
            models, and the states are shown of the aggregates that they are called with.
        personal: Names of fields that are masked in every command and every event.
        secret: Signs forms and sessions; 16 characters at least. Several processes behind one address need the same,
            unless ``auth`` is `TokenAccess`, whose tokens they share.
        aggregates: More classes of aggregates whose states are shown.
        events: The classes of events, with their upcasters; all classes that this process has, unless given.
        projections: The manager of the application's projections, or a coroutine function that gives it when it is
            first needed: dead letters are handled again, and tables rebuilt, from here. It need not be started.
        demo: Offer the load generator, whose commands the handlers of ``mainstay demo`` handle.

    Raises:
        ConfigurationError: There is no authentication, or the secret is too short.
    """
    if secret is not None and len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(f"secret needs {_SHORTEST_SECRET} characters at least")
    access = Access(auth, None if secret is None else secret.encode())
    if registry is not None:
        operator.use_registry(registry)
    kinds = [*aggregates, *(aggregates_in(registry) if registry else ())]
    states = States(kinds, events)
    budget = Budget()
    masking, building = Masking(registry, personal, events), Building(projecting_of(projections))
    desk = Desk(
        operator,
        masking,
        Watch(operator, budget),
        states,
        Carrying(operator),
        building,
        Shared(FRESH, budget),
        generator=Generator(operator.bus) if demo else None,
    )
    routes = [*pages.ROUTES, *api.routes(), Mount("/static", _Assets(directory=STATIC))]
    handlers: Any = {HTTPException: _refused, MainstayError: _went_wrong, Exception: _failed}
    inner = Starlette(routes=routes, exception_handlers=handlers)
    return Console(inner, access, desk)


class Console:
    """The application with its guard: what stands before every route.

    Args:
        inner: The routes.
        access: Knows who asks.
        desk: What operations work with.
    """

    def __init__(self, inner: ASGIApp, access: Access, desk: Desk) -> None:
        self._inner = inner
        self._access = access
        self._desk = desk

    def close(self) -> None:
        """End all streams, which a server that stops would wait for; the browser asks again where there is one.

        What operators decided on many commands stays where it is; it can be gone on with.
        """
        self._desk.closing.set()
        if self._desk.generator is not None:
            self._desk.generator.close()
        self._desk.carrying.close()
        self._desk.building.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), "console_access": self._access, "console_desk": self._desk}
        request = Request(scope, receive)
        new_form = self._access.note_form(request)

        async def hardened(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*_without_ours(message.get("headers", ())), *HEADERS]
                if new_form is not None:
                    carrier = Response()
                    self._access.keep_form(carrier, request, new_form)
                    message["headers"] += [each for each in carrier.raw_headers if each[0] == b"set-cookie"]
            await send(message)

        try:
            refused = await self._guard(request)
        except HTTPException as error:
            refused = _refused(request, error)
        except MainstayError as error:
            refused = _went_wrong(request, error)
        await (refused or self._inner)(scope, receive, hardened)

    async def _guard(self, request: Request) -> Response | None:
        """Refuse who is not known and what they may not; None lets the request through."""
        path = _path(request)
        if path.startswith("/static/") and request.method in _SAFE:
            return None
        user = await self._access.user(request)
        request.state.console_user = user
        is_open = path == "/login" and self._access.has_sessions
        if user is None and not is_open:
            return self._unknown(request, path)
        if request.method in _SAFE:
            return None
        if not (is_open or path == "/logout") and not (user and user.is_operator):
            raise HTTPException(403, "viewers change nothing: this needs the role operator")
        await self._access.check_origin(request, user)
        return None

    def _unknown(self, request: Request, path: str) -> Response:
        if self._access.has_sessions and request.method in _SAFE and not path.startswith(("/api/", "/live/")):
            back = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{frame.root_of(request)}/login?next={quote(back, safe='')}", 303)
        raise HTTPException(401, "log in first", {"WWW-Authenticate": "Bearer"})


class _Assets(StaticFiles):
    """Static files, which have a version in their address."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _without_ours(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What was answered, without what is said anew; pages are not kept unless they say otherwise."""
    kept = [each for each in headers if each[0].lower() not in dict(HEADERS)]
    if not any(name.lower() == b"cache-control" for name, _ in kept):
        kept.append((b"cache-control", b"no-store"))
    return kept


def _path(request: Request) -> str:
    return request.url.path.removeprefix(frame.root_of(request)) or "/"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - that is what it is registered for
    response = _said(request, error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


def _went_wrong(request: Request, error: Exception) -> Response:
    return _said(request, status_of(error), str(error))


def _failed(request: Request, error: Exception) -> Response:
    logger.error("the console failed at %s", request.url.path, exc_info=error)
    return _said(request, 500, "Something went wrong in the console itself; its log says what.")


def _said(request: Request, status: int, detail: str) -> Response:
    title = HTTPStatus(status).phrase
    if _path(request).startswith(("/api/", "/live/")):
        return api.problem(status, title, detail)
    return frame.page(request, "error.html", status, code=status, title=title, detail=detail)
