"""The whole."""

from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Desk, Nothing, operation
from mainstay.operations.console.overview import Overview


@operation("GET", "/overview", Nothing, Overview)
async def overview(desk: Desk, _asked: Nothing, _user: User) -> Overview:
    """Numbers by domain, failure groups, projections and the doctor's findings, at most half a minute old."""
    return await desk.watch.overview()
