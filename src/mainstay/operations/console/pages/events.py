"""Events: the feed as it grows, and a page for each."""

from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.pages.frame import ask, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import events as questions
from mainstay.operations.console.questions import streams


async def _events(request: Request) -> Response:
    """The feed, the newest first; a position or an id that is asked for leads to its event."""
    if (goes_to := _goes_to(request)) is not None:
        return goes_to
    fields = dict(request.query_params)
    found, problem = None, None
    try:
        found = await ask(request, questions.list_events, fields)
    except InvalidInputError as error:
        problem = str(error)
    kinds = await ask(request, questions.list_event_types)
    status = 200 if problem is None else 400
    return page(request, "events.html", status, found=found, kinds=kinds, fields=fields, problem=problem)


def _goes_to(request: Request) -> Response | None:
    """The page of the event whose position or id was typed in."""
    wanted = request.query_params.get("find", "").strip().replace(",", "")
    if wanted.isdecimal() and wanted.isascii():
        return go_to(request, f"/events/{int(wanted)}")
    if wanted:
        try:
            return go_to(request, f"/events/id/{UUID(wanted)}")
        except ValueError as error:
            raise InvalidInputError(f"an event is found by its position or its id, not by {wanted!r:.80}") from error
    return None


async def _feed(request: Request) -> str:
    fields = dict(request.query_params)
    return render(request, "_events.html", found=await ask(request, questions.list_events, fields), fields=fields)


async def _at(request: Request) -> Response:
    """The event at a position."""
    return await _event(request, await ask(request, questions.show_event, request.path_params))


async def _known_as(request: Request) -> Response:
    """The event with an id."""
    return await _event(request, await ask(request, questions.show_event_by_id, request.path_params))


async def _event(request: Request, event: questions.EventShown) -> Response:
    stream = {"category": event.category, "stream_id": event.stream_id, "tenant_id": event.tenant_id or ""}
    around = await ask(request, streams.show_stream, stream | {"up_to": event.version, "limit": 1})
    return page(request, "event.html", event=event, facts=around)


ROUTES: Final = (
    Route("/events", _events),
    Route("/events/{position:int}", _at),
    Route("/events/id/{event_id:uuid}", _known_as),
)
LIVE: Final[dict[str, Part]] = {"events": _feed}
