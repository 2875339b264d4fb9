"""The whole."""

from mainstay.commands.activity import LiveWorker
from mainstay.operations.activity import Span, Traffic
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Nothing, operation
from mainstay.operations.console.checking import Checked
from mainstay.operations.console.overview import Overview


@operation("GET", "/overview", Nothing, Overview)
async def overview(desk: Desk, _asked: Nothing, _user: User) -> Overview:
    """Numbers by domain, failure groups, workers, projections and the doctor's findings, at most half a minute old."""
    return await desk.watch.overview()


class TrafficAsked(Asked):
    """How far back."""

    span: Span = Span.QUARTER


@operation("GET", "/traffic", TrafficAsked, Traffic)
async def show_traffic(desk: Desk, asked: TrafficAsked, _user: User) -> Traffic:
    """Commands sent, completed and failed in each interval of the last 15 minutes, hour or day, and their times."""
    return await desk.watch.traffic(asked.span)


@operation("GET", "/workers", Nothing, list[LiveWorker])
async def list_workers(desk: Desk, _asked: Nothing, _user: User) -> list[LiveWorker]:
    """The workers that are alive, and what each handles."""
    return await desk.operator.activity.workers()


@operation("GET", "/fsck", Nothing, Checked | None)
async def show_fsck(desk: Desk, _asked: Nothing, _user: User) -> Checked | None:
    """The run of fsck that was begun last from here; null if none was."""
    return desk.watch.checkup.last


@operation("POST", "/fsck", Nothing, Checked)
async def begin_fsck(desk: Desk, _asked: Nothing, user: User) -> Checked:
    """Begin to look for what must never be, in the background; it reads everything."""
    return desk.watch.checkup.begin(user.name)
