"""Anything by its id."""

from pydantic import Field

from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, operation
from mainstay.operations.finding import Hit


class SearchAsked(Asked):
    """What is looked for: an id, its beginning, a position, a key."""

    q: str = Field(max_length=500)


@operation("GET", "/search", SearchAsked, list[Hit])
async def list_hits(desk: Desk, asked: SearchAsked, _user: User) -> list[Hit]:
    """What has an id, or an id that begins so: commands, batches, processes, actions, events, streams, keys."""
    return await desk.operator.search.anything(asked.q)
