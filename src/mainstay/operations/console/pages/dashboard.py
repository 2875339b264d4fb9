"""The first page: how it is with everything."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.console.asking import Desk
from mainstay.operations.console.overview import FRESH
from mainstay.operations.console.pages.frame import ask, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import dashboard as questions


async def _dashboard(request: Request) -> Response:
    """How it is with everything."""
    return page(request, "dashboard.html", overview=await ask(request, questions.overview))


async def _numbers(request: Request) -> str:
    desk: Desk = request.state.console_desk
    return render(request, "_dashboard.html", overview=await desk.watch.overview(patience=FRESH))


ROUTES: Final = (Route("/", _dashboard),)
LIVE: Final[dict[str, Part]] = {"dashboard": _numbers}
