"""Editing the payload of a command that waits: edit, check, compare, retry."""

from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import HandlerNotFoundError, InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import LARGEST_BODY, form_of
from mainstay.operations.console.asking import status_of
from mainstay.operations.console.editing import lines
from mainstay.operations.console.pages.frame import ask, command_path, go_to, page
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import editing as questions
from mainstay.operations.console.rendering import as_json, escaped
from mainstay.operations.intake import exact_json
from mainstay.serialization import checked_object


async def _edit(request: Request) -> Response:
    """The payload, to be edited."""
    return await _shown(request)


async def _check(request: Request) -> Response:
    """What an edit changes and what is wrong with it; the page asks whether to retry."""
    form = await form_of(request)
    if form.get("again"):
        return await _shown(request, form=form)
    try:
        data = checked_object(exact_json(form.get("data", "").encode()))
        edit = await ask(request, questions.preview_edit, _asked(request, form, data))
    except (InvalidInputError, InvalidOperationError, HandlerNotFoundError) as error:
        return await _refused(request, form, error)
    if edit.problems:
        told = lines(data, edit.problems)
        return await _shown(request, 400, form=form, problem="The handler would not take this payload.", lines=told)
    return await _shown(request, form=form, edit=edit)


async def _retry(request: Request) -> Response:
    """Retry the command with what was checked, and show it."""
    form = await form_of(request)
    try:
        data = checked_object(exact_json(form.get("data", "").encode()))
        asked = _asked(request, form, data) | {"reason": form.get("reason", "")}
        await ask(request, questions.retry_edited, asked)
    except (InvalidInputError, InvalidOperationError, HandlerNotFoundError) as error:
        return await _refused(request, form, error)
    return go_to(request, command_path(**request.path_params), said="retry")


def _asked(request: Request, form: dict[str, str], data: dict[str, Any]) -> dict[str, Any]:
    return {**request.path_params, "data": data, "seen": form.get("seen", "")}


async def _refused(request: Request, form: dict[str, str], error: Exception) -> Response:
    return await _shown(request, status_of(error), form=form, problem=str(error))


async def _shown(request: Request, status: int = 200, *, form: dict[str, str] | None = None, **values: Any) -> Response:
    """The page; what was sent is kept as it was."""
    found = await ask(request, questions.show_editable, request.path_params)
    sent = form or {}
    text = escaped(sent["data"]) if "data" in sent else escaped(as_json(found.payload))
    seen = sent.get("seen") or found.seen.isoformat()
    if len(quote(text)) > LARGEST_BODY * 0.9:
        raise InvalidOperationError("this payload is too large to be edited here: mainstay tsq retry --edit does it")
    given: dict[str, Any] = {"problem": None, "edit": None, "lines": [], "reason": sent.get("reason", "")}
    which = request.path_params
    return page(request, "edit.html", status, found=found, text=text, seen=seen, which=which, **given | values)


_HERE: Final = "/commands/{domain}/{command_id:uuid}/edit"
ROUTES: Final = (
    Route(_HERE, _edit, methods=["GET"]),
    Route(_HERE, _check, methods=["POST"]),
    Route(f"{_HERE}/retry", _retry, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {}
