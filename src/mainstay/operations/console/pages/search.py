"""Finding anything by its id: the page of the only hit, or a list of them."""

from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mainstay.operations.console.pages.frame import ask, page
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
        return RedirectResponse(str(request.scope.get("root_path", "")) + _path(hits[0]), 303)
    return page(request, "search.html", wanted=wanted, hits=[(each, _path(each)) for each in hits], problem=None)


def _path(hit: Hit) -> str:
    """The page of a hit."""
    match hit.kind:
        case HitKind.COMMAND:
            return f"/commands/{quote(hit.place or '', safe='')}/{hit.id}"
        case HitKind.BATCH:
            return f"/batches/{quote(hit.place or '', safe='')}/{hit.id}"
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
            return f"/commands?{urlencode({'domain': hit.place or '', 'key': hit.id})}"
        case _:
            return f"/conversations/{hit.id}"


ROUTES: Final = (Route("/search", _search),)
LIVE: Final[dict[str, Part]] = {}
