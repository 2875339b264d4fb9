"""Actions: what operators decided on many commands, and what can be done about each."""

from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation, status_of
from mainstay.operations.console.pages.frame import ask, go_to, page, render, said_in
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import actions as questions

_DOINGS: Final[dict[str, Operation]] = {
    "continue": questions.continue_action,
    "approve": questions.approve_action,
    "stop": questions.stop_action,
    "undo": questions.undo_action,
}
_RULING: Final[dict[str, Any]] = {"problem": None, "refused": None, "said": None, "fields": None}


async def _actions(request: Request) -> Response:
    """What operators decided, newest first, and what they must keep to."""
    said = "The rules were changed." if request.query_params.get("said") == "rules" else None
    try:
        return page(request, "actions.html", **await _decided(request), **_RULING | {"said": said})
    except InvalidInputError as error:
        state, given = request.query_params.get("state", ""), _RULING | {"problem": str(error)}
        return page(request, "actions.html", 400, found=None, state=state, after="", rules=None, **given)


async def _rule(request: Request) -> Response:
    """Change what operators must keep to."""
    form = await form_of(request)
    told = {name: form.get(name, "") for name in ("approve_above", "reason_required", "reason")}
    try:
        await ask(request, questions.set_rules, told)
    except InvalidInputError as error:
        given = _RULING | {"refused": str(error), "fields": told}
        return page(request, "actions.html", status_of(error), **await _decided(request), **given)
    return go_to(request, "/actions", said="rules")


async def _decided(request: Request) -> dict[str, Any]:
    fields = said_in(request, ("state", "after"))
    found = await ask(request, questions.list_actions, fields)
    return fields | {"found": found, "rules": await ask(request, questions.show_rules)}


async def _list(request: Request) -> str:
    return render(request, "_actions.html", **await _decided(request))


async def _action(request: Request) -> Response:
    """One action: how far it is, and its commands."""
    return await _one(request)


async def _one(request: Request, status: int = 200, **values: Any) -> Response:
    found = await _followed(request, {"action_id": request.path_params["action_id"]})
    given: dict[str, Any] = {"problem": None, "fields": {}} | values
    return page(request, "action.html", status, **found, **given)


async def _followed(request: Request, which: dict[str, Any]) -> dict[str, Any]:
    """An action and a page of its commands."""
    asked = said_in(request, ("state", "after"))
    facts = await ask(request, questions.show_action, which)
    return {"facts": facts, "steps": await ask(request, questions.list_action_commands, asked | which), "asked": asked}


async def _progress(request: Request) -> str:
    found = await _followed(request, {"action_id": request.query_params.get("action_id", "")})
    return render(request, "_action.html", **found, fields={})


async def _do(request: Request) -> Response:
    """Continue, approve, stop or undo an action, and show how far it is."""
    operation = _DOINGS.get(request.path_params["doing"])
    if operation is None:
        raise HTTPException(404, "there is nothing of this name that can be done about an action")
    key: UUID = request.path_params["action_id"]
    form = await form_of(request)
    told = {"reason": form.get("reason", "")} if "reason" in operation.asks.model_fields else {}
    try:
        await ask(request, operation, told | {"action_id": key})
    except (InvalidInputError, InvalidOperationError) as error:
        return await _one(request, status_of(error), problem=str(error), fields=form)
    return go_to(request, f"/actions/{key}")


ROUTES: Final = (
    Route("/actions", _actions),
    Route("/actions/rules", _rule, methods=["POST"]),
    Route("/actions/{action_id:uuid}", _action),
    Route("/actions/{action_id:uuid}/{doing}", _do, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"actions": _list, "action": _progress}
