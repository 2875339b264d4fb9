"""Batches: the list, and a page for each."""

from typing import Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mainstay.commands.lifecycle import BatchStatus
from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.pages.frame import ask, page, render
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
        fields = _asked(request)
        return page(
            request, "batches.html", 400, problem=str(error), found=None, fields=fields, batch_statuses=BatchStatus
        )


def _asked(request: Request) -> dict[str, str]:
    return {name: request.query_params.get(name, "") for name in _FIELDS}


async def _listed(request: Request) -> dict[str, Any]:
    fields = _asked(request)
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
    which = {name: request.query_params.get(name, "") for name in ("domain", "batch_id")}
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
        status = 400 if isinstance(error, InvalidInputError) else 409
        return await _batch(request, status, problem=str(error), reason=fields["reason"])
    root = str(request.scope.get("root_path", ""))
    if what == "seal":
        target = f"{root}/batches/{quote(which['domain'], safe='')}/{which['batch_id']}?said=seal"
        return RedirectResponse(target, 303)
    return RedirectResponse(f"{root}/actions/{done.action.action_id}", 303)


ROUTES: Final = (
    Route("/batches", _batches),
    Route("/batches/{domain}/{batch_id:uuid}", _one),
    Route("/batches/{domain}/{batch_id:uuid}/{what}", _act, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"batches": _list, "batch": _progress}
