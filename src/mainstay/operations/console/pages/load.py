"""The load generator of the demo: a form, what must come of it, and what came."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import form_of
from mainstay.operations.console.pages.frame import ask, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import load as questions
from mainstay.operations.demo.handlers import DOMAIN

PRESETS: Final = (
    ("Nothing but throughput", {"fail_permanent_pct": 0, "fail_transient_pct": 0, "max_duration_ms": 0}),
    ("Everyday", {"fail_permanent_pct": 1, "fail_transient_pct": 5, "min_duration_ms": 100, "max_duration_ms": 500}),
    ("Many failures", {"fail_permanent_pct": 10, "fail_transient_pct": 20}),
    ("Many retries", {"fail_permanent_pct": 0, "fail_transient_pct": 50}),
)


async def _load(request: Request) -> Response:
    """The form, with what must come of the numbers in it, and the loads that were begun."""
    return await _form(request, dict(request.query_params))


async def _form(request: Request, fields: dict[str, Any]) -> Response:
    loads = await ask(request, questions.list_loads)
    known = {name: value for name, value in fields.items() if name in questions.LoadAsked.model_fields}
    values: dict[str, Any] = {"loads": loads, "presets": PRESETS, "domain": DOMAIN, "problem": None}
    try:
        asked = questions.show_expected.asked(known)
        expected = await ask(request, questions.show_expected, known)
    except InvalidInputError as error:
        asked = questions.show_expected.asked({})
        return page(request, "load.html", 400, **values | {"problem": str(error)}, asked=asked, expected=None)
    return page(request, "load.html", **values, asked=asked, expected=expected)


async def _expected(request: Request) -> Response:
    """What must come of the numbers in the form, for the script that asks while they change."""
    fields = {name: each for name, each in request.query_params.items() if name in questions.LoadAsked.model_fields}
    try:
        expected = await ask(request, questions.show_expected, fields)
    except InvalidInputError as error:
        return page(request, "_expected.html", expected=None, problem=str(error))
    asked = questions.show_expected.asked(fields)
    return page(request, "_expected.html", expected=expected, asked=asked, problem=None)


async def _begin(request: Request) -> Response:
    """Begin to send."""
    form = await form_of(request)
    fields = {name: each for name, each in form.items() if name in questions.LoadAsked.model_fields}
    try:
        await ask(request, questions.begin_load, fields)
    except InvalidInputError:
        return await _form(request, fields)
    return go_to(request, "/load")


async def _stop(request: Request) -> Response:
    """Send no more."""
    await ask(request, questions.stop_load)
    return go_to(request, "/load")


async def _loads(request: Request) -> str:
    return render(request, "_load.html", loads=await ask(request, questions.list_loads), domain=DOMAIN)


ROUTES: Final = (
    Route("/load", _load, methods=["GET"]),
    Route("/load", _begin, methods=["POST"]),
    Route("/load/expected", _expected),
    Route("/load/stop", _stop, methods=["POST"]),
)
LIVE: Final[dict[str, Part]] = {"load": _loads}
