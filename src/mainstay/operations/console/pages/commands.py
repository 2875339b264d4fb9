"""Commands: the list, and a page for each."""

from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mainstay.commands.lifecycle import TERMINAL
from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.pages.frame import ask, page
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import commands as questions
from mainstay.operations.console.questions import troubleshooting

_DECISIONS: Final[dict[str, Operation]] = {
    "retry": troubleshooting.retry_command,
    "complete": troubleshooting.complete_command,
    "cancel": troubleshooting.cancel_command,
}
_SAID: Final = {
    "retry": "Retried. It waits to be received.",
    "complete": "Completed.",
    "cancel": "Canceled.",
    "proposed": "Proposed. A second operator has to approve it.",
}


async def _commands(request: Request) -> Response:
    """Commands by any mix of conditions, newest first."""
    fields = {name: value for name, value in request.query_params.items() if value}
    try:
        found = await ask(request, questions.list_commands, fields)
    except InvalidInputError as error:
        return page(request, "commands.html", 400, found=None, fields=fields, problem=str(error))
    return page(request, "commands.html", found=found, fields=fields, problem=None)


async def _one(request: Request) -> Response:
    """Everything about one command."""
    return await _command(request)


async def _command(request: Request, status: int = 200, **values: Any) -> Response:
    facts = await ask(request, questions.show_command, dict(request.path_params))
    waits = facts.command.status.value == "IN_TROUBLESHOOTING_QUEUE"
    said = _SAID.get(request.query_params.get("said", ""))
    given: dict[str, Any] = {"said": said, "problem": None, "fields": {}} | values
    return page(
        request, "command.html", status, facts=facts, waits=waits, ended=facts.command.status in TERMINAL, **given
    )


async def _decide(request: Request) -> Response:
    """Retry, complete or cancel one command, and show what became of it."""
    decision = request.path_params["decision"]
    operation = _DECISIONS.get(decision)
    if operation is None:
        raise HTTPException(404, "there is no such decision")
    which = {name: request.path_params[name] for name in ("domain", "command_id")}
    form = await form_of(request)
    fields: dict[str, Any] = {"reason": form.get("reason", "")}
    try:
        if decision == "complete" and form.get("result", "").strip():
            fields["result"] = _result(form["result"])
        done = await ask(request, operation, fields | which)
    except InvalidInputError as error:
        del request.path_params["decision"]
        return await _command(request, 400, problem=str(error), fields=form)
    root = str(request.scope.get("root_path", ""))
    said = "proposed" if done.state.value == "PROPOSED" else decision
    target = f"{root}/commands/{quote(which['domain'], safe='')}/{which['command_id']}?said={said}"
    return RedirectResponse(target, 303)


def _result(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"result: not valid JSON: {error}") from error


ROUTES: Final = (
    Route("/commands", _commands),
    Route("/commands/{domain}/{command_id:uuid}", _one),
    Route("/commands/{domain}/{command_id:uuid}/{decision}", _decide, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {}
