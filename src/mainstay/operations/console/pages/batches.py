"""Batches: the list, and a page for each."""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.commands.lifecycle import BatchStatus
from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation, status_of
from mainstay.operations.console.pages.frame import ask, batch_path, go_to, page, render, said_in
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import batches as questions

_ACTIONS: Final[dict[str, Operation]] = {
    "cancel": questions.cancel_batch,
    "retry": questions.retry_batch,
    "seal": questions.seal_batch,
}
_FIELDS: Final = ("domain", "status", "after")


async def _batches(request: Request) -> Response:
    """Batches, newest first."""
    try:
        return page(request, "batches.html", problem=None, **await _listed(request))
    except InvalidInputError as error:
        given = {"fields": said_in(request, _FIELDS), "found": None, "batch_statuses": BatchStatus}
        return page(request, "batches.html", 400, problem=str(error), **given)


async def _listed(request: Request) -> dict[str, Any]:
    fields = said_in(request, _FIELDS)
    found = await ask(request, questions.list_batches, fields)
    return {"fields": fields, "found": found, "batch_statuses": BatchStatus}


async def _list(request: Request) -> str:
    return render(request, "_batches.html", **await _listed(request))


async def _one(request: Request) -> Response:
    """Everything about one batch."""
    return await _batch(request)


async def _batch(request: Request, status: int = 200, **values: Any) -> Response:
    which = {name: request.path_params[name] for name in ("domain", "batch_id")}
    facts = await ask(request, questions.show_batch, which)
    trouble = await ask(request, questions.show_batch_trouble, which)
    said = "Sealed. It ends with what it has." if request.query_params.get("said") == "seal" else None
    given: dict[str, Any] = {"said": said, "problem": None, "reason": ""} | values
    return page(request, "batch.html", status, facts=facts, trouble=trouble, **given)


async def _progress(request: Request) -> str:
    which = said_in(request, ("domain", "batch_id"))
    return render(request, "_batch.html", facts=await ask(request, questions.show_batch, which))


async def _act(request: Request) -> Response:
    """Cancel, retry or seal a batch, and show what becomes of it."""
    what = request.path_params["what"]
    operation = _ACTIONS.get(what)
    if operation is None:
        raise HTTPException(404, "there is no such thing to do")
    which = {name: request.path_params[name] for name in ("domain", "batch_id")}
    form = await form_of(request)
    fields: dict[str, Any] = {"reason": form.get("reason", "")}
    if what == "cancel":
        fields["running"] = form.get("running", "")
    try:
        done = await ask(request, operation, fields | which)
    except (InvalidInputError, InvalidOperationError) as error:
        return await _batch(request, status_of(error), problem=str(error), reason=fields["reason"])
    if what == "seal":
        return go_to(request, batch_path(**which), said=what)
    return go_to(request, f"/actions/{done.action.action_id}")


ROUTES: Final = (
    Route("/batches", _batches),
    Route("/batches/{domain}/{batch_id:uuid}", _one),
    Route("/batches/{domain}/{batch_id:uuid}/{what}", _act, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"batches": _list, "batch": _progress}
