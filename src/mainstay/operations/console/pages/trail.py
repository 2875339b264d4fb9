"""The trail: who changed what, when and why."""

from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.pages.frame import (
    ask,
    batch_path,
    command_path,
    key_path,
    page,
    render,
    root_of,
    said_in,
)
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import trail as questions
from mainstay.operations.wording import deed_in_words
from mainstay.storage.postgres.trail import Deed, DeedKind

_FIELDS: Final = ("operator", "kind", "subject", "since", "until", "after")


async def _trail(request: Request) -> Response:
    """What operators changed, by any mix of conditions, newest first."""
    try:
        return page(request, "trail.html", problem=None, **await _listed(request))
    except InvalidInputError as error:
        given = {"fields": said_in(request, _FIELDS), "found": None, "kinds": DeedKind}
        return page(request, "trail.html", 400, problem=str(error), **given)


async def _listed(request: Request) -> dict[str, Any]:
    fields = said_in(request, _FIELDS)
    found = await ask(request, questions.list_trail, fields)
    return {
        "fields": fields,
        "found": found,
        "kinds": DeedKind,
        "in_words": deed_in_words,
        "path_of": lambda deed: f"{root_of(request)}{_path_of(deed)}",
    }


def _path_of(deed: Deed) -> str:
    """Where what was changed is shown."""
    domain, _, rest = deed.subject.partition("/")
    match deed.kind:
        case DeedKind.SCHEDULE:
            return f"/schedules/one?{urlencode({'name': deed.subject})}"
        case DeedKind.COMMAND:
            return command_path(domain, rest)
        case DeedKind.BATCH:
            return batch_path(domain, rest)
        case DeedKind.ACTION:
            return f"/actions/{deed.subject}"
        case DeedKind.PROJECTION:
            return f"/projections/one?{urlencode({'subscription': deed.subject})}"
        case DeedKind.RULES:
            return "/actions"
        case DeedKind.KEY:
            return key_path(domain, rest)
        case DeedKind.PAUSE | DeedKind.LIMIT | DeedKind.BREAKER:
            return f"/limits?{urlencode({'domain': deed.subject.partition('.')[0]})}"


async def _list(request: Request) -> str:
    return render(request, "_trail.html", **await _listed(request))


ROUTES: Final = (Route("/trail", _trail),)
LIVE: Final[dict[str, Part]] = {"trail": _list}
