"""A decision on many commands: what it would do is shown first, then it is made, and its action's page follows it."""

from typing import Any, Final

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.commands.store import Action
from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import status_of
from mainstay.operations.console.pages.frame import ask, go_to, page
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import actions as questions
from mainstay.operations.console.questions.troubleshooting import MOST_IDS, Selected, list_troubleshooting
from mainstay.operations.intake import exact_json

_CONDITIONS: Final = tuple(name for name in Selected.model_fields if name != "command_ids")
_NONE: Final = "none"
_UNITS: Final = {"s": 1, "min": 60, "h": 3600}


async def _preview(request: Request) -> Response:
    """What a decision would do."""
    asked = request.query_params
    return await _shown(request, _which(asked), {"action": asked.get("action", "")})


async def _decide(request: Request) -> Response:
    """Make the decision, and go to the page of its action; if it cannot be made, show anew what it would do."""
    form = await form_of(request)
    which = {name: form.get(name, "") for name in (*_CONDITIONS, "command_ids")}
    try:
        fields = which | {"action": form.get("action", ""), "reason": form.get("reason", "")}
        fields |= {"expect": form.get("expect", "")}
        begun = await ask(request, questions.begin_action, fields | _told(form))
    except (InvalidInputError, InvalidOperationError) as error:
        return await _shown(request, which, form, status_of(error), str(error))
    return go_to(request, f"/actions/{begun.action.action_id}")


def _which(asked: "ImmutableMultiDict[str, str]") -> dict[str, str]:
    """What was chosen: ticked commands, or all that meet the conditions."""
    if asked.get("scope") != "ticked":
        return {name: asked.get(name, "") for name in _CONDITIONS}
    ids = asked.getlist("command_id")
    return {"domain": asked.get("domain", ""), "command_ids": ",".join(ids) or _NONE}


async def _shown(
    request: Request, which: dict[str, str], fields: dict[str, str], status: int = 200, problem: str | None = None
) -> Response:
    """The page of a decision that is not made yet."""
    values: dict[str, Any] = {"fields": fields, "which": which, "action": None, "seen": None}
    try:
        values["action"] = _action(fields.get("action", ""))
        if ids := which.get("command_ids"):
            values["which"] = which = await _still_waiting(request, which, ids)
        values["seen"] = await ask(request, questions.show_preview, which)
    except InvalidInputError as error:
        status, problem = 400, problem or str(error)
    return page(request, "decide.html", status, **values, problem=problem)


async def _still_waiting(request: Request, which: dict[str, str], ids: str) -> dict[str, str]:
    """The ticked commands that wait still: others would be left alone anyway."""
    if ids == _NONE:
        raise InvalidInputError("no command is ticked: go back and tick some, or decide on all of them")
    found = await ask(request, list_troubleshooting, which | {"limit": MOST_IDS})
    waiting = ",".join(str(each.command_id) for each in found.commands)
    return which | {"command_ids": waiting or ids}  # no ids at all would mean all commands


def _action(text: str) -> Action:
    try:
        return Action(text)
    except ValueError as error:
        raise InvalidInputError("a decision is RETRY, COMPLETE or CANCEL") from error


def _told(form: dict[str, str]) -> dict[str, Any]:
    """What goes with a decision: the rate of a retry, the result of a completion."""
    told: dict[str, Any] = {}
    if form.get("action") == Action.RETRY and (number := form.get("rate", "").strip()):
        try:
            told["rate"] = float(number) / _UNITS[form.get("rate_unit", "s")]
        except (ValueError, KeyError) as error:
            raise InvalidInputError("rate: how many commands, and a second, a minute or an hour") from error
    if form.get("action") == Action.COMPLETE and (text := form.get("result", "").strip()):
        told["result"] = exact_json(text.encode())
    return told


ROUTES: Final = (
    Route("/troubleshooting/decide", _preview, methods=["GET"]),
    Route("/troubleshooting/decide", _decide, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {}
