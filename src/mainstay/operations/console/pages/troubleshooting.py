"""Troubleshooting: what waits for an operator."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.console.pages.frame import ask, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import troubleshooting as questions


async def _troubleshooting(request: Request) -> Response:
    """What waits for an operator, by what went wrong."""
    return page(request, "troubleshooting.html", **await _waiting(request))


async def _waiting(request: Request) -> dict[str, Any]:
    fields = {name: request.query_params.get(name, "") for name in ("domain", "command_type")}
    return {
        "fields": fields,
        "groups": await ask(request, questions.list_failure_groups, fields),
        "waiting": await ask(request, questions.list_troubleshooting, fields),
    }


async def _list(request: Request) -> str:
    return render(request, "_troubleshooting.html", **await _waiting(request))


ROUTES: Final = (Route("/troubleshooting", _troubleshooting),)
LIVE: Final[dict[str, Part]] = {"troubleshooting": _list}
