"""The pages: each asks operations, and fills a template with what they answer.

To add one: a function that returns `page`, a template that extends ``base.html``, a line in `ROUTES`, and one in
`NAVIGATION`. A part of it that follows what happens is a template of its own, whose name begins with ``_``, and a line
in `LIVE`: the page includes it, and the stream sends it anew.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from mainstay.commands.lifecycle import TERMINAL
from mainstay.errors import InvalidInputError, MainstayError
from mainstay.operations.console import questions
from mainstay.operations.console.access import Access, form_of
from mainstay.operations.console.overview import FRESH
from mainstay.operations.console.questions import Desk, Operation
from mainstay.operations.console.rendering import asset_version, environment

NAVIGATION: Final = (("/", "Dashboard"), ("/commands", "Commands"), ("/troubleshooting", "Troubleshooting"))
STREAM_SECONDS: Final = 300.0
"""After so long a stream ends; the browser begins another, and is asked again who it is."""
_DECISIONS: Final[dict[str, Operation]] = {
    "retry": questions.retry_command,
    "complete": questions.complete_command,
    "cancel": questions.cancel_command,
}
_SAID: Final = {
    "retry": "Retried. It waits to be received.",
    "complete": "Completed.",
    "cancel": "Canceled.",
    "proposed": "Proposed. A second operator has to approve it.",
}


def render(request: Request, template: str, **values: Any) -> str:
    """A filled template."""
    access: Access = request.state.console_access
    user = getattr(request.state, "console_user", None)
    root = str(request.scope.get("root_path", ""))
    here = request.url.path.removeprefix(root) or "/"
    return (
        environment()
        .get_template(template)
        .render(
            root=root,
            here=here,
            user=user,
            can_log_out=access.has_sessions and user is not None,
            csrf=access.form_token(request, user),
            assets=f"{root}/static",
            asset_version=asset_version(),
            navigation=NAVIGATION,
            command_url=lambda domain, command_id: f"{root}/commands/{quote(domain, safe='')}/{command_id}",
            query=lambda **fields: urlencode({name: each for name, each in fields.items() if each is not None}),
            **values,
        )
    )


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A whole page."""
    return Response(render(request, template, **values), status, media_type="text/html")


async def ask(request: Request, operation: Operation, fields: dict[str, Any] | None = None) -> Any:
    """What an operation answers to whoever made this request."""
    asked = operation.asked({} if fields is None else fields)
    return await operation.run(request.state.console_desk, asked, request.state.console_user)


# -- what follows what happens -----------------------------------------------------------------------------------------


async def _dashboard_part(request: Request) -> str:
    desk: Desk = request.state.console_desk
    return render(request, "_dashboard.html", overview=await desk.watch.overview(patience=FRESH))


async def _troubleshooting_part(request: Request) -> str:
    return render(request, "_troubleshooting.html", **await _waiting(request))


LIVE: Final[dict[str, Callable[[Request], Awaitable[str]]]] = {
    "dashboard": _dashboard_part,
    "troubleshooting": _troubleshooting_part,
}


async def live(request: Request) -> Response:
    """The stream of a part of a page (server-sent events): its HTML, whenever it is not what it was."""
    part = LIVE.get(request.path_params["part"])
    if part is None:
        raise HTTPException(404, "there is no such stream")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(request, part), media_type="text/event-stream", headers=headers)


async def stream(
    request: Request,
    part: Callable[[Request], Awaitable[str]],
    *,
    seconds: float = STREAM_SECONDS,
    pause: float = FRESH,
) -> AsyncIterator[str]:
    """What a stream sends until its reader is gone or its time is over; a database that is gone is told of."""
    loop = asyncio.get_running_loop()
    ends, last = loop.time() + seconds, ""
    yield "retry: 2000\n\n"
    closing = request.state.console_desk.closing
    while loop.time() < ends and not closing.is_set() and not await request.is_disconnected():
        try:
            now = await part(request)
        except MainstayError as error:
            yield _event("trouble", str(error))
        else:
            yield _event("part", now) if now != last else ": nothing new\n\n"
            last = now
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await closing.wait()


def _event(kind: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {kind}\n{lines}\n"


# -- pages -------------------------------------------------------------------------------------------------------------


async def dashboard(request: Request) -> Response:
    """How it is with everything."""
    return page(request, "dashboard.html", overview=await ask(request, questions.overview))


async def commands(request: Request) -> Response:
    """Commands by any mix of conditions, newest first."""
    fields = dict(request.query_params)
    try:
        found = await ask(request, questions.list_commands, fields)
    except InvalidInputError as error:
        return page(request, "commands.html", 400, found=None, fields=fields, problem=str(error))
    return page(request, "commands.html", found=found, fields=fields, problem=None)


async def command(request: Request) -> Response:
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


async def decide(request: Request) -> Response:
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


async def troubleshooting(request: Request) -> Response:
    """What waits for an operator, by what went wrong."""
    return page(request, "troubleshooting.html", **await _waiting(request))


async def _waiting(request: Request) -> dict[str, Any]:
    fields = {name: request.query_params.get(name, "") for name in ("domain", "command_type")}
    return {
        "fields": fields,
        "groups": await ask(request, questions.list_failure_groups, fields),
        "waiting": await ask(request, questions.list_troubleshooting, fields),
    }


async def conversation(request: Request) -> Response:
    """What led to something, and what followed."""
    return page(request, "conversation.html", tree=await ask(request, questions.show_conversation, request.path_params))


# -- logging in --------------------------------------------------------------------------------------------------------


async def login(request: Request) -> Response:
    """The form, and what it sends."""
    access: Access = request.state.console_access
    if access.tokens is None:
        raise HTTPException(404, "there is nothing to log in to here")
    goes_to = _inside(request.query_params.get("next", "/"))
    if request.method != "POST":
        return page(request, "login.html", problem=None, goes_to=goes_to)
    token = (await form_of(request)).get("token", "").strip()
    if access.tokens.user_of(token) is None:
        return page(request, "login.html", 401, problem="Nobody has this token.", goes_to=goes_to)
    response = RedirectResponse(f"{request.scope.get('root_path', '')}{goes_to}", 303)
    access.log_in(response, request, token)
    return response


async def logout(request: Request) -> Response:
    """End the session of this browser."""
    access: Access = request.state.console_access
    response = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
    access.log_out(response, request)
    return response


def _inside(path: str) -> str:
    """A path of the console; its first page for anything that leads elsewhere."""
    leads_elsewhere = not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable()
    return "/" if leads_elsewhere else path


ROUTES: Final = (
    Route("/", dashboard),
    Route("/commands", commands),
    Route("/commands/{domain}/{command_id:uuid}", command),
    Route("/commands/{domain}/{command_id:uuid}/{decision}", decide, methods=["POST"]),
    Route("/troubleshooting", troubleshooting),
    Route("/conversations/{asked:uuid}", conversation),
    Route("/live/{part}", live),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
)
