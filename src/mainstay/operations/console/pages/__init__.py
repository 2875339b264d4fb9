"""The pages, by room.

To add a room: a module with its ``ROUTES`` and, for parts of pages that follow what happens, ``LIVE``; a line in
`_ROOMS`, and one in `frame.NAVIGATION`. A page is a function that returns `frame.page`, and a template that extends
``base.html``. A live part is a template of its own, whose name begins with ``_``: the page includes it, and the stream
sends it anew.
"""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mainstay.operations.console.pages import (
    actions,
    batches,
    commands,
    conversations,
    dashboard,
    deciding,
    editing,
    events,
    limits,
    load,
    processes,
    projections,
    schedules,
    search,
    session,
    streams,
    trail,
    troubleshooting,
)
from mainstay.operations.console.pages.streaming import Part, stream

_ROOMS: Final = (
    dashboard,
    editing,
    commands,
    troubleshooting,
    deciding,
    actions,
    trail,
    conversations,
    batches,
    processes,
    schedules,
    limits,
    load,
    events,
    streams,
    projections,
    search,
    session,
)
LIVE: Final[dict[str, Part]] = {name: part for room in _ROOMS for name, part in room.LIVE.items()}


async def _live(request: Request) -> Response:
    """The stream of a part of a page: its HTML, whenever it is not what it was."""
    part = LIVE.get(request.path_params["part"])
    if part is None:
        raise HTTPException(404, "there is no such stream")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(request, part), media_type="text/event-stream", headers=headers)


ROUTES: Final[tuple[BaseRoute, ...]] = (
    *(route for room in _ROOMS for route in room.ROUTES),
    Route("/live/{part}", _live),
)
