"""Steps that are drawn at random, and taken on a store of read models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from mainstay import Filter, ReadModelQuery, ReadModelRepository
from mainstay.clock import FrozenClock
from mainstay.errors import MainstayError
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_batch import BatchRows
from mainstay.testing.contracts.read_models.base import NOON, Order, Rank, Status

TABLE = table_of(Order)

IDS = st.sampled_from(["a", "b", "c", "ä", UUID(int=1), str(UUID(int=2))])
TEXTS = st.sampled_from(["", "a", "A", "ab", "ä", "'", "🎉", "%s", "\uffff"]) | st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5
)
DECIMALS = st.sampled_from([Decimal(text) for text in ("0", "-0.0", "1", "1.0", "-1.5", "10", "9.99", "1E+20")]) | (
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-100, max_value=100)
)
MOMENTS = st.integers(-5, 5).map(lambda hours: NOON + timedelta(hours=hours, microseconds=hours))
VALUES: dict[str, Any] = {
    "customer": TEXTS,
    "total": DECIMALS,
    "count": st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "is_gift": st.booleans(),
    "status": st.sampled_from(Status),
    "rank": st.none() | st.sampled_from(Rank),
    "placed_at": st.none() | MOMENTS,
    "due": st.none() | st.dates(date(2026, 1, 1), date(2026, 1, 4)),
    "invoice": st.none() | st.integers(0, 3).map(lambda number: UUID(int=number)),
    "note": st.none() | TEXTS,
}
FIELDS = sorted(VALUES)
EXTRA = st.none() | st.dictionaries(TEXTS, st.none() | st.integers(-9, 9) | TEXTS, max_size=2)


@dataclass(frozen=True)
class Step:
    """A call of a repository."""

    method: str
    arguments: tuple[Any, ...]


@st.composite
def models(draw: Any) -> Order:
    chosen = draw(st.lists(st.sampled_from(FIELDS), max_size=5, unique=True))
    values = {name: draw(VALUES[name]) for name in chosen}
    deleted = draw(st.sampled_from([None, None, None, NOON]))
    moment = draw(MOMENTS)
    return Order(
        id=draw(IDS),
        version=draw(st.integers(0, 4)),
        created_at=moment,
        deleted_at=deleted,
        extra=draw(EXTRA),
        **values,
    )


@st.composite
def filters(draw: Any) -> Filter:
    field = draw(st.sampled_from(FIELDS))
    operator = draw(st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in"]))
    if operator in ("in", "not_in"):
        values = draw(st.lists(VALUES[field].filter(lambda value: value is not None), max_size=3))
        return Filter(field, operator, values)
    return Filter(field, operator, draw(VALUES[field]))


@st.composite
def queries(draw: Any) -> ReadModelQuery:
    wanted: list[Any] = draw(st.lists(filters(), max_size=2))
    if draw(st.booleans()):
        wanted.append(Filter.any_of(*draw(st.lists(filters(), min_size=1, max_size=3))))
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique=True))
    order = [draw(st.sampled_from(["", "-"])) + name for name in names]
    return ReadModelQuery(
        filters=wanted,
        order_by=order,
        limit=draw(st.none() | st.integers(1, 3)),
        offset=draw(st.sampled_from([0, 0, 1])),
        include_deleted=draw(st.booleans()),
    )


def steps() -> st.SearchStrategy[Step]:
    """One call."""

    def call(method: str, *arguments: Any) -> st.SearchStrategy[Step]:
        return st.tuples(*arguments).map(lambda given: Step(method, given))

    many = st.lists(models(), max_size=4, unique_by=lambda model: str(model.id))
    return st.one_of(
        call("save", models()),
        call("save", models()),
        call("save_many", many),
        call("save_with_version_check", models()),
        call("delete", IDS),
        call("soft_delete", IDS),
        call("restore", IDS),
        call("get", IDS),
        call("get_many", st.lists(IDS, max_size=4)),
        call("get_deleted", IDS),
        call("exists", IDS),
        call("find", queries()),
        call("find_deleted", queries()),
        call("count", queries()),
        call("pages", queries()),
        call("truncate"),
    )


async def take(repo: ReadModelRepository[Order], step: Step) -> Any:
    """What came of a step: what it gave and did to the models that it was given, or which error."""
    arguments = [_copied(each) for each in step.arguments]
    try:
        if step.method == "pages":
            return await _pages(repo, arguments[0])
        given = await getattr(repo, step.method)(*arguments)
    except MainstayError as error:
        return type(error), str(error)
    return given, arguments


async def _pages(repo: ReadModelRepository[Order], query: ReadModelQuery) -> list[list[Order]]:
    found, cursor = [], None
    while not found or cursor is not None:
        page = await repo.find_page(
            ReadModelQuery(query.filters, query.order_by, limit=2, after=cursor, include_deleted=query.include_deleted)
        )
        found.append(page.items)
        cursor = page.cursor
    return found


def _copied(value: Any) -> Any:
    if isinstance(value, ReadModel):
        return value.model_copy(deep=True)
    return [_copied(each) for each in value] if isinstance(value, list) else value


async def one_by_one(store: Any, groups: Sequence[Sequence[Step]]) -> list[Any]:
    """Take steps, each in a transaction of its own; then everything that is there."""
    repo = _repository(store)
    found = [await take(repo, step) for group in groups for step in group]
    return [*found, await repo.find(ReadModelQuery(include_deleted=True))]


async def in_batches(store: Any, groups: Sequence[Sequence[Step]]) -> list[Any]:
    """Take steps, each group in a transaction with a map of rows, as projections do."""
    found = []
    for group in groups:
        async with store.transaction() as conn:
            rows = BatchRows(store, conn, (["a", "b"],))
            found += [await take(_repository(rows, conn), step) for step in group]
            await rows.flush()
    return [*found, await _repository(store).find(ReadModelQuery(include_deleted=True))]


def _repository(rows: Any, conn: Any = None) -> ReadModelRepository[Order]:
    return ReadModelRepository(TABLE, rows, conn=conn, clock=FrozenClock(NOON))
