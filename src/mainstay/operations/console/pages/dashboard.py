"""The first page: how it is with everything."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.activity import Span, Traffic
from mainstay.operations.console.asking import Desk
from mainstay.operations.console.charts import charts
from mainstay.operations.console.overview import FRESH, Overview
from mainstay.operations.console.pages.frame import ask, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import dashboard as questions

SPANS: Final = ((Span.QUARTER, "15 minutes"), (Span.HOUR, "Hour"), (Span.DAY, "Day"))


async def _dashboard(request: Request) -> Response:
    """How it is with everything."""
    span = _span(request)
    desk: Desk = request.state.console_desk
    traffic = desk.watch.traffic_known(span)
    return page(request, "dashboard.html", **_shown(desk, span, await desk.watch.overview_soon(), traffic))


async def _numbers(request: Request) -> str:
    """The same, as it is now; what happened lately as it was counted last, so that nothing waits for it."""
    span = _span(request)
    desk: Desk = request.state.console_desk
    desk.watch.traffic_known(span)
    overview = await desk.watch.overview(patience=FRESH)
    return render(request, "_dashboard.html", **_shown(desk, span, overview, desk.watch.traffic_known(span)))


def _shown(desk: Desk, span: Span, overview: Overview | None, traffic: Traffic | None) -> dict[str, Any]:
    return {
        "overview": overview,
        "span": span,
        "spans": SPANS,
        "traffic": traffic,
        "charts": charts(traffic) if traffic else [],
        "checked": desk.watch.checkup.last,
    }


def _span(request: Request) -> Span:
    asked: questions.TrafficAsked = questions.show_traffic.asked(dict(request.query_params))  # type: ignore[assignment]  # it is its model
    return asked.span


async def _fsck(request: Request) -> Response:
    """Begin fsck, and go back to where its answer will be."""
    await ask(request, questions.begin_fsck)
    return go_to(request, "/#fsck")


ROUTES: Final = (Route("/", _dashboard), Route("/fsck", _fsck, methods=["POST"]))
LIVE: Final[dict[str, Part]] = {"dashboard": _numbers}
