"""Projections: the list, and a page for each."""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation, status_of
from mainstay.operations.console.pages.frame import ask, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import projections as questions
from mainstay.operations.console.questions import rebuilding

_ACTIONS: Final[dict[str, Operation]] = {
    "pause": questions.pause_projection,
    "resume": questions.resume_projection,
    "discard": questions.discard_dead_letters,
    "replay": rebuilding.replay_dead_letters,
    "rebuild": rebuilding.rebuild_projection,
    "swap": rebuilding.swap_projection,
    "drop": rebuilding.drop_rebuild,
}
_SAID: Final = {
    "pause": "Paused: it rests in all processes, once the batches in hand are done.",
    "resume": "Resumed: a process that has it goes on within a second or so.",
    "discard": "Discarded: these events are not handled any more.",
    "drop": "Dropped: the old tables serve on.",
}


async def _projections(request: Request) -> Response:
    """What follows the feed."""
    return page(request, "projections.html", projections=await ask(request, questions.list_projections))


async def _list(request: Request) -> str:
    return render(request, "_projections.html", projections=await ask(request, questions.list_projections))


async def _one(request: Request) -> Response:
    """One projection."""
    return await _projection(request, request.query_params.get("subscription", ""))


async def _projection(request: Request, name: str, status: int = 200, problem: str | None = None) -> Response:
    facts = await ask(request, questions.show_projection, {"subscription": name})
    said = _SAID.get(request.query_params.get("said", ""))
    return page(request, "projection.html", status, facts=facts, said=said, problem=problem)


async def _shards(request: Request) -> str:
    fields = {"subscription": request.query_params.get("subscription", "")}
    return render(request, "_projection.html", facts=await ask(request, questions.show_projection, fields))


async def _letters(request: Request) -> Response:
    """Dead letters of a projection, whatever became of them."""
    fields: dict[str, Any] = dict(request.query_params)
    every = {"status": None} if fields.get("status") == "ALL" else {}
    found = await ask(request, questions.list_dead_letters, fields | every)
    return page(request, "dead_letters.html", found=found, fields=fields)


async def _letter(request: Request) -> Response:
    """One dead letter, with its event."""
    fields = dict(request.query_params)
    facts = await ask(request, questions.show_dead_letter, fields)
    return page(request, "dead_letter.html", facts=facts)


async def _act(request: Request) -> Response:
    """Do something about a projection, and show what became of it."""
    action = request.path_params["action"]
    operation = _ACTIONS.get(action)
    if operation is None:
        raise HTTPException(404, "there is no such action")
    form = await form_of(request)
    fields: dict[str, Any] = {name: form[name] for name in operation.asks.model_fields if name in form}
    if "position" in form:
        fields["positions"] = [form["position"]]
    name = str(fields.get("subscription", ""))
    try:
        await ask(request, operation, fields)
    except (InvalidInputError, InvalidOperationError) as error:
        return await _projection(request, name, status_of(error), str(error))
    return go_to(request, "/projections/one", subscription=name, said=action)


ROUTES: Final = (
    Route("/projections", _projections),
    Route("/projections/one", _one),
    Route("/projections/dead-letters", _letters),
    Route("/projections/dead-letter", _letter),
    Route("/projections/one/{action}", _act, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"projections": _list, "projection": _shards}
