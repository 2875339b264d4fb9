"""Streams: the list, and a page for each."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.pages.frame import ask, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import events
from mainstay.operations.console.questions import streams as questions


async def _streams(request: Request) -> Response:
    """Streams by any mix of conditions, in the order of category, tenant and id."""
    fields = dict(request.query_params)
    kinds = await ask(request, events.list_event_types)
    given: dict[str, Any] = {"fields": fields, "categories": list(dict.fromkeys(each.category for each in kinds))}
    try:
        found = await ask(request, questions.list_streams, fields)
    except InvalidInputError as error:
        return page(request, "streams.html", 400, found=None, problem=str(error), **given)
    return page(request, "streams.html", found=found, problem=None, **given)


async def _stream(request: Request) -> Response:
    """One stream."""
    fields = dict(request.query_params)
    return page(request, "stream.html", facts=await ask(request, questions.show_stream, fields), fields=fields)


async def _events(request: Request) -> str:
    fields = dict(request.query_params)
    facts = await ask(request, questions.show_stream, fields)
    return render(request, "_stream.html", facts=facts, fields=fields)


ROUTES: Final = (Route("/streams", _streams), Route("/streams/one", _stream))
LIVE: Final[dict[str, Part]] = {"stream": _events}
