"""What the parts of the suite share: the models, and the words that the tests are written in."""

# ruff: noqa: S101 - asserts are what a contract is made of

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field, create_model

from mainstay.clock import FrozenClock
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_query import ReadModelQuery
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.read_model_store import ReadModelStore

M = TypeVar("M", bound=ReadModel)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


class Status(Enum):
    """Where an order is."""

    OPEN = "open"
    PAID = "paid"


class Rank(IntEnum):
    """How soon."""

    LOW = 1
    HIGH = 2


class Line(BaseModel):
    """A part of an order."""

    sku: str
    price: Decimal


class Order(ReadModel):
    """Has a field of every type."""

    __table_name__ = 'Orders "of" 100% tests; drop'
    __indexes__ = ("customer", ("status", "total"))

    customer: str = ""
    total: Decimal = Decimal(0)
    count: int = 0
    weight: float = 0.0
    is_gift: bool = False
    status: Status = Status.OPEN
    rank: Rank | None = None
    channel: Literal["web", "shop"] = "web"
    placed_at: datetime | None = None
    due: date | None = None
    invoice: UUID | None = None
    note: str | None = None
    lines: list[Line] = Field(default_factory=list)
    extra: dict[str, Any] | None = None


HOSTILE = (
    *("row", "now", "expected", "expected version", "versions", "ids", "limit", "offset", "c0", "p0", "b0", "given"),
    *("keys", "values", "items", "columns", "select", "order", "Table", "anon_1", "value", "excluded", "true"),
    *('a"b', "x y", "%s", "%", "é", ":p", "a.b", "'; drop table x; --", "{differs}", "?", "\\", "$1", "-"),
)
"""Names of fields that a statement might trip over."""

_FIELDS: dict[str, Any] = dict.fromkeys(HOSTILE, (int | None, None))
Hostile: Any = create_model("Hostile", __base__=ReadModel, **_FIELDS)


class Ticket(ReadModel):
    """Belongs to a tenant, and is known by a UUID."""

    id: UUID
    tenant_id: UUID | str | None = None
    select: str = ""


class ReadModelStoreSuite:
    """Words that the tests are written in."""

    async def orders(self, store: ReadModelStore, *, conn: Any = None) -> ReadModelRepository[Order]:
        """A repository whose table is there, and whose clock stands at noon."""
        await store.create(table_of(Order))
        return ReadModelRepository(table_of(Order), store, conn=conn, clock=FrozenClock(NOON))

    async def tickets(self, store: ReadModelStore, tenant_id: Any = None) -> ReadModelRepository[Ticket]:
        """The same of another model."""
        await store.create(table_of(Ticket))
        return ReadModelRepository(table_of(Ticket), store, tenant_id=tenant_id, clock=FrozenClock(NOON))

    async def ids(self, repo: ReadModelRepository[Any], *filters: Any, **options: Any) -> list[Any]:
        """Ids of what a query finds."""
        query = ReadModelQuery(filters=filters, **options)
        found = [model.id for model in await repo.find(query)]
        if "limit" not in options and "offset" not in options and "after" not in options:
            assert await repo.count(query) == len(found)
        return found

    async def pages(self, repo: ReadModelRepository[Any], **options: Any) -> list[list[Any]]:
        """Ids, page by page."""
        found: list[list[Any]] = []
        cursor: str | None = None
        while not found or cursor is not None:
            page = await repo.find_page(ReadModelQuery(after=cursor, **options))
            found.append([model.id for model in page.items])
            cursor = page.cursor
        return found


def orders(rows: Sequence[dict[str, Any]]) -> list[Order]:
    """Orders whose ids are 0, 1, 2 and so on."""
    return [Order(id=str(number), **row) for number, row in enumerate(rows)]
