"""Finding anything by its id: the page of the only hit, or a list of them."""

from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.console.pages.frame import ask, batch_path, command_path, go_to, key_path, page
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import search as questions
from mainstay.operations.finding import Hit, HitKind


async def _search(request: Request) -> Response:
    """What was found; a single hit leads to its page."""
    wanted = request.query_params.get("q", "").strip()
    if not wanted:
        return page(request, "search.html", wanted="", hits=[], problem=None)
    hits = await ask(request, questions.list_hits, {"q": wanted[:501]})
    if len(hits) == 1:
        return go_to(request, _path(hits[0]))
    return page(request, "search.html", wanted=wanted, hits=[(each, _path(each)) for each in hits], problem=None)


def _path(hit: Hit) -> str:
    """The page of a hit."""
    match hit.kind:
        case HitKind.COMMAND:
            return command_path(hit.place or "", hit.id)
        case HitKind.BATCH:
            return batch_path(hit.place or "", hit.id)
        case HitKind.PROCESS:
            return f"/processes/{hit.id}"
        case HitKind.ACTION:
            return f"/actions/{hit.id}"
        case HitKind.EVENT:
            return f"/events/{hit.id}"
        case HitKind.STREAM:
            fields = {"category": hit.place or "", "stream_id": hit.id} | (
                {"tenant_id": hit.tenant} if hit.tenant else {}
            )
            return f"/streams/one?{urlencode(fields)}"
        case HitKind.KEY:
            return key_path(hit.place or "", hit.id)
        case _:
            return f"/conversations/{hit.id}"


ROUTES: Final = (Route("/search", _search),)
LIVE: Final[dict[str, Part]] = {}
