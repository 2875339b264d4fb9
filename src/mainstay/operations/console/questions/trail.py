"""The trail: who changed what, when and why."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, in_utc, operation
from mainstay.operations.console.questions.paging import cut
from mainstay.operations.trail import LARGEST
from mainstay.storage.postgres.trail import Deed, DeedKind


class TrailAsked(Asked):
    """Which deeds; all conditions must hold."""

    operator: str | None = Field(None, description="Who did it.")
    kind: DeedKind | None = None
    subject: str | None = Field(None, description="What has this name, or one that begins so.")
    since: datetime | None = Field(None, description="Done then or later; UTC where no zone is said.")
    until: datetime | None = Field(None, description="Done then or earlier; UTC where no zone is said.")
    after: int | None = Field(None, ge=0, le=LARGEST, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class TrailPage:
    """Deeds, newest first, and where the next page begins; None on the last."""

    deeds: list[Deed]
    next: int | None


@operation("GET", "/trail", TrailAsked, TrailPage)
async def list_trail(desk: Desk, asked: TrailAsked, _user: User) -> TrailPage:
    """What operators changed, newest first: who, what, when and why."""
    conditions = asked.model_dump(exclude={"limit"}) | {"since": in_utc(asked.since), "until": in_utc(asked.until)}
    found = await desk.operator.trail.list(**conditions, limit=asked.limit + 1)
    return TrailPage(*cut(found, asked.limit, lambda deed: deed.deed_id))
