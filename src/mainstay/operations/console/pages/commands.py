"""Commands: the list, and a page for each."""

import asyncio
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.commands.lifecycle import TERMINAL, CommandStatus
from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.pages.frame import ask, command_path, go_to, page, render, said_in
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import commands as questions
from mainstay.operations.console.questions import conversations, troubleshooting

_DECISIONS: Final[dict[str, Operation]] = {
    "retry": troubleshooting.retry_command,
    "complete": troubleshooting.complete_command,
    "cancel": troubleshooting.cancel_command,
}
_STEPS: Final = 100
"""Of the conversation, on the page of a command."""
_SAID: Final = {
    "retry": "Retried. It waits to be received.",
    "complete": "Completed.",
    "cancel": "Canceled.",
    "asked": "Asked to end. Its worker stops it, unless it ends before.",
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
    said = _SAID.get(request.query_params.get("said", ""))
    shown = await _shown(request, dict(request.path_params))
    return page(request, "command.html", status, **{"said": said, "problem": None, "fields": {}} | shown | values)


async def _shown(request: Request, which: dict[str, Any]) -> dict[str, Any]:
    """What is known of a command, and its conversation."""
    facts, tree = await asyncio.gather(
        ask(request, questions.show_command, which),
        ask(request, conversations.show_conversation, {"asked": which["command_id"], "limit": _STEPS}),
    )
    status = facts.command.status
    return {
        "facts": facts,
        "tree": tree,
        "waits": status is CommandStatus.IN_TROUBLESHOOTING_QUEUE,
        "ended": status in TERMINAL,
    }


async def _part(request: Request) -> str:
    """The same, as it is now, for whoever looks on."""
    which = said_in(request, ("domain", "command_id"))
    shown = await _shown(request, which)
    return render(request, "_command.html", said=None, problem=None, fields={}, **shown)


async def _call_off(request: Request) -> Response:
    """Cancel a command that waits for a worker, or ask for the end of one that is handled."""
    which = dict(request.path_params)
    form = await form_of(request)
    fields = {"reason": form.get("reason", ""), "running": "running" in form}
    try:
        status = await ask(request, questions.cancel_waiting, fields | which)
    except InvalidInputError as error:
        return await _command(request, 400, problem=str(error), fields=form)
    said = "cancel" if status is CommandStatus.CANCELED else "asked"
    return go_to(request, command_path(**which), said=said)


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
    said = "proposed" if done.state.value == "PROPOSED" else decision
    return go_to(request, command_path(**which), said=said)


def _result(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"result: not valid JSON: {error}") from error


ROUTES: Final = (
    Route("/commands", _commands),
    Route("/commands/{domain}/{command_id:uuid}", _one),
    Route("/commands/{domain}/{command_id:uuid}/call-off", _call_off, methods=["POST"]),
    Route("/commands/{domain}/{command_id:uuid}/{decision}", _decide, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"command": _part}
