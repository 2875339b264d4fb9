"""Schedules: the list, and a page for each."""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.commands.schedule import CatchUp
from mainstay.errors import InvalidInputError, InvalidOperationError, NotUniqueError, QueueNotFoundError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.asking import Operation, status_of
from mainstay.operations.console.pages.frame import ask, command_path, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import schedules as questions
from mainstay.operations.console.rendering import as_json, escaped, seen
from mainstay.operations.intake import exact_json
from mainstay.serialization import checked_object

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
    "set": "Set. A worker of its domain learns of it within five seconds.",
}
_RULE: Final = ("cron", "every", "timezone", "not_before")
"""What says when a schedule is due."""
_FIELDS: Final = (
    "name", "domain", "command_type", *_RULE, "catch_up", "catch_up_limit", "reply_to", "max_attempts", "key",
    "priority", "unique_key", "unique_for", "seen",
)  # fmt: skip
_OBJECTS: Final = ("data", "headers")
_NEW: Final = {"timezone": "UTC", "catch_up": CatchUp.ONE.value, "data": "{}"}


async def _schedules(request: Request) -> Response:
    """All schedules, by name."""
    said = _SAID.get(request.query_params.get("said", ""))
    return page(request, "schedules.html", said=said, **await _listed(request))


async def _listed(request: Request) -> dict[str, Any]:
    domain = request.query_params.get("domain", "")
    found = await ask(request, questions.list_schedules, {"domain": domain})
    return {"domain": domain, "found": found[:_MOST], "total": len(found)}


async def _list(request: Request) -> str:
    return render(request, "_schedules.html", **await _listed(request))


async def _one(request: Request) -> Response:
    """Everything about one schedule."""
    name = request.query_params.get("name", "")
    return await _schedule(request, name, said=_SAID.get(request.query_params.get("said", "")))


async def _schedule(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    facts = await ask(request, questions.show_schedule, {"name": name})
    given: dict[str, Any] = {"said": None, "problem": None, "reason": ""} | values
    return page(request, "schedule.html", status, facts=facts, **given)


async def _facts(request: Request) -> str:
    facts = await ask(request, questions.show_schedule, {"name": request.query_params.get("name", "")})
    return render(request, "_schedule.html", facts=facts)


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
        given = {"problem": str(error), "reason": fields["reason"]}
        return await _schedule(request, fields["name"], status_of(error), **given)
    if what == "run":
        return go_to(request, command_path(done.domain, done.command_id))
    if what == "remove":
        return go_to(request, "/schedules", said=what)
    return go_to(request, "/schedules/one", name=fields["name"], said=what)


async def _set(request: Request) -> Response:
    """A form for a schedule, new or as it is; it is set when its next times were looked at."""
    if request.method != "POST":
        name = request.query_params.get("name", "")
        return _form(request, _written(await ask(request, questions.show_setting, {"name": name})) if name else _NEW)
    form = await form_of(request)
    form |= {name: escaped(form[name]) for name in _OBJECTS if name in form}
    rule = repr([form.get(name, "") for name in _RULE])
    try:
        asked = {name: form.get(name, "") for name in _FIELDS} | {name: _object(form, name) for name in _OBJECTS}
        if form.get("do") == "set" and form.get("looked") == rule:
            done = await ask(request, questions.set_schedule, asked | {"reason": form.get("reason", "")})
            return go_to(request, "/schedules/one", name=done.name, said="set")
        preview = await ask(request, questions.preview_schedule, asked)
    except (InvalidInputError, InvalidOperationError) as error:
        return _form(request, form, status_of(error), problem=str(error))
    return _form(request, form, preview=preview, looked=rule, is_other=form.get("do") == "set")


def _form(request: Request, fields: dict[str, str], status: int = 200, **values: Any) -> Response:
    given: dict[str, Any] = {"problem": None, "preview": None, "looked": "", "is_other": False} | values
    return page(request, "schedule_set.html", status, fields=fields, catch_ups=CatchUp, **given)


def _written(setting: questions.Setting) -> dict[str, str]:
    """A schedule as a form has it."""
    known = {name: getattr(setting, name) for name in _FIELDS}
    for name in ("not_before", "seen"):
        known[name] = known[name] and known[name].isoformat()
    texts = {name: "" if value is None else str(value) for name, value in known.items()}
    if hidden := next((name for name, text in texts.items() if seen(text) != text), None):
        message = f"{hidden} has characters that no form can show: change it with mainstay schedules set"
        raise InvalidOperationError(message)
    return texts | {name: escaped(as_json(value)) for name in _OBJECTS if (value := getattr(setting, name)) is not None}


def _object(form: dict[str, str], name: str) -> dict[str, Any] | None:
    text = form.get(name, "").strip()
    return checked_object(exact_json(text.encode()), what=name) if text or name == "data" else None


ROUTES: Final = (
    Route("/schedules", _schedules),
    Route("/schedules/one", _one),
    Route("/schedules/set", _set, methods=["GET", "POST"]),
    Route("/schedules/{what}", _act, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"schedules": _list, "schedule": _facts}
