"""Schedules: the list, and a page for each."""

from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError, NotUniqueError, QueueNotFoundError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.pages.frame import ask, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import schedules as questions
from mainstay.operations.wording import every_in_words

_MOST: Final = 200
_ACTIONS: Final[dict[str, Operation]] = {
    "pause": questions.pause_schedule,
    "resume": questions.resume_schedule,
    "run": questions.run_schedule,
    "remove": questions.remove_schedule,
}
_SAID: Final = {
    "pause": "Paused. It is not fired until it is resumed.",
    "resume": "Resumed. What was due meanwhile is not fired.",
    "remove": "Removed. Commands that it sent stay.",
}


async def _schedules(request: Request) -> Response:
    """All schedules, by name."""
    said = _SAID.get(request.query_params.get("said", ""))
    return page(request, "schedules.html", said=said, **await _listed(request))


async def _listed(request: Request) -> dict[str, Any]:
    domain = request.query_params.get("domain", "")
    found = await ask(request, questions.list_schedules, {"domain": domain})
    return {"domain": domain, "found": found[:_MOST], "total": len(found), "every_in_words": every_in_words}


async def _list(request: Request) -> str:
    return render(request, "_schedules.html", **await _listed(request))


async def _one(request: Request) -> Response:
    """Everything about one schedule."""
    name = request.query_params.get("name", "")
    return await _schedule(request, name, said=_SAID.get(request.query_params.get("said", "")))


async def _schedule(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    facts = await ask(request, questions.show_schedule, {"name": name})
    given: dict[str, Any] = {"said": None, "problem": None, "reason": ""} | values
    return page(request, "schedule.html", status, facts=facts, every_in_words=every_in_words, **given)


async def _facts(request: Request) -> str:
    facts = await ask(request, questions.show_schedule, {"name": request.query_params.get("name", "")})
    return render(request, "_schedule.html", facts=facts, every_in_words=every_in_words)


async def _act(request: Request) -> Response:
    """Pause, resume, fire or remove a schedule."""
    what = request.path_params["what"]
    operation = _ACTIONS.get(what)
    if operation is None:
        raise HTTPException(404, "there is no such thing to do")
    form = await form_of(request)
    fields = {name: form.get(name, "") for name in ("name", "reason")}
    try:
        done = await ask(request, operation, fields)
    except (InvalidInputError, NotUniqueError, QueueNotFoundError) as error:
        status = 400 if isinstance(error, InvalidInputError) else 409
        return await _schedule(request, fields["name"], status, problem=str(error), reason=fields["reason"])
    root = str(request.scope.get("root_path", ""))
    if what == "run":
        return RedirectResponse(f"{root}/commands/{quote(done.domain, safe='')}/{done.command_id}", 303)
    if what == "remove":
        return RedirectResponse(f"{root}/schedules?said=remove", 303)
    return RedirectResponse(f"{root}/schedules/one?{urlencode({'name': fields['name'], 'said': what})}", 303)


ROUTES: Final = (
    Route("/schedules", _schedules),
    Route("/schedules/one", _one),
    Route("/schedules/{what}", _act, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"schedules": _list, "schedule": _facts}
