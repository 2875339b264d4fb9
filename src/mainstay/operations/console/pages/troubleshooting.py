"""Troubleshooting: what waits for an operator, by what went wrong and one by one."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.pages.frame import ask, page, render, said_in
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import troubleshooting as questions

FILTERS: Final = ("domain", "command_type", "error_code", "batch_id")


async def _troubleshooting(request: Request) -> Response:
    """What waits for an operator, by what went wrong, and the commands that wait longest."""
    try:
        found = await _waiting(request)
    except InvalidInputError as error:
        nothing: dict[str, Any] = {"groups": [], "waiting": None, "problem": str(error)}
        return page(request, "troubleshooting.html", 400, **nothing, fields=said_in(request, FILTERS), group_id=None)
    return page(request, "troubleshooting.html", **found, problem=None)


async def _group(request: Request) -> Response:
    """One failure group and its commands."""
    return page(request, "failure_group.html", **await _waiting(request))


async def _waiting(request: Request) -> dict[str, Any]:
    """The groups and the page of commands that an address asks for; that of a group has it in its path or query."""
    fields = said_in(request, FILTERS)
    group_id = request.path_params.get("group_id") or request.query_params.get("group_id") or None
    which = {**fields, "group_id": group_id or ""}
    asked = {**which, "after": request.query_params.get("after", "")}
    waiting = await ask(request, questions.list_troubleshooting, asked)
    groups = await ask(request, questions.list_failure_groups, which)
    return {"fields": fields, "group_id": group_id, "groups": groups, "waiting": waiting, "after": asked["after"]}


async def _list(request: Request) -> str:
    return render(request, "_troubleshooting.html", **await _waiting(request))


async def _one_group(request: Request) -> str:
    return render(request, "_failure_group.html", **await _waiting(request))


ROUTES: Final = (
    Route("/troubleshooting", _troubleshooting),
    Route("/troubleshooting/groups/{group_id}", _group),
)
LIVE: Final[dict[str, Part]] = {"troubleshooting": _list, "failure-group": _one_group}
