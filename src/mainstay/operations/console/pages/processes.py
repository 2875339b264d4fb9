"""Processes: the list, and a page for each."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.commands.process import FORWARD, ProcessStatus
from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import status_of
from mainstay.operations.console.diagram import diagram
from mainstay.operations.console.pages.frame import ask, go_to, page, render, said_in
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import processes as questions

_FIELDS: Final = ("domain", "process_type", "status", "batch_id", "after")


async def _processes(request: Request) -> Response:
    """Processes by any mix of conditions, newest first."""
    try:
        return page(request, "processes.html", problem=None, **await _listed(request))
    except InvalidInputError as error:
        given = {"fields": said_in(request, _FIELDS), "found": None, "process_statuses": ProcessStatus}
        return page(request, "processes.html", 400, problem=str(error), **given)


async def _listed(request: Request) -> dict[str, Any]:
    fields = said_in(request, _FIELDS)
    found = await ask(request, questions.list_processes, fields)
    return {"fields": fields, "found": found, "process_statuses": ProcessStatus}


async def _list(request: Request) -> str:
    return render(request, "_processes.html", **await _listed(request))


async def _one(request: Request) -> Response:
    """Everything about one process."""
    said = None
    if request.query_params.get("said") == "cancel":
        said = "It is asked to undo what it has done; its worker does it."
    return await _process(request, said=said)


async def _process(request: Request, status: int = 200, **values: Any) -> Response:
    known = await _known(request, request.path_params["process_id"])
    given: dict[str, Any] = {"said": None, "problem": None, "reason": ""} | values
    return page(request, "process.html", status, **known, **given)


async def _known(request: Request, process_id: Any) -> dict[str, Any]:
    facts = await ask(request, questions.show_process, {"process_id": process_id})
    return {
        "facts": facts,
        "drawing": diagram(facts.process, facts.waiting_for),
        "goes_forward": facts.process.status in FORWARD,
    }


async def _progress(request: Request) -> str:
    return render(request, "_process.html", **await _known(request, request.query_params.get("process_id", "")))


async def _cancel(request: Request) -> Response:
    """Ask a process to undo what it has done."""
    key, form = request.path_params["process_id"], await form_of(request)
    fields = {"process_id": key, "reason": form.get("reason", "")}
    try:
        await ask(request, questions.cancel_process, fields)
    except (InvalidInputError, InvalidOperationError) as error:
        return await _process(request, status_of(error), problem=str(error), reason=fields["reason"])
    return go_to(request, f"/processes/{key}", said="cancel")


ROUTES: Final = (
    Route("/processes", _processes),
    Route("/processes/{process_id:uuid}", _one),
    Route("/processes/{process_id:uuid}/cancel", _cancel, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"processes": _list, "process": _progress}
