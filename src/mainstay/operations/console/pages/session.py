"""Logging in and out."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.console.access import Access, form_of
from mainstay.operations.console.pages.frame import go_to, page
from mainstay.operations.console.pages.streaming import Part


async def _login(request: Request) -> Response:
    """The form, and what it sends."""
    access: Access = request.state.console_access
    if access.tokens is None:
        raise HTTPException(404, "there is nothing to log in to here")
    goes_to = _inside(request.query_params.get("next", "/"))
    if request.method != "POST":
        return page(request, "login.html", problem=None, goes_to=goes_to)
    token = (await form_of(request)).get("token", "").strip()
    if access.tokens.user_of(token) is None:
        return page(request, "login.html", 401, problem="Nobody has this token.", goes_to=goes_to)
    response = go_to(request, goes_to)
    access.log_in(response, request, token)
    return response


async def _logout(request: Request) -> Response:
    """End the session of this browser."""
    access: Access = request.state.console_access
    response = go_to(request, "/login")
    access.log_out(response, request)
    return response


def _inside(path: str) -> str:
    """A path of the console; its first page for anything that leads elsewhere."""
    leads_elsewhere = not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable()
    return "/" if leads_elsewhere else path


ROUTES: Final = (
    Route("/login", _login, methods=["GET", "POST"]),
    Route("/logout", _logout, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {}
