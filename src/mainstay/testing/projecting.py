"""Given events, then what a projection makes of them.

::

    async def test_revenue_is_what_was_paid() -> None:
        done = await project(Revenue(), OrderPlaced(total=3), OrderPlaced(total=4))

        done.then(lambda revenue: revenue.total == 7).then_took(OrderPlaced, OrderPlaced)

The projection is given what a subscription would give it: it is asked what it wants, and each event comes with where it
stands. It is not tried again; the first error ends it, and undoes what was written to read models.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mainstay.events.event import DomainEvent
from mainstay.events.log import PAGE, FeedFilter, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.events.store import EventStore, InMemoryEventStore
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.read_model import ReadModel
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.projections.read_models import ReadModels
from mainstay.projections.subscriber import as_projection
from mainstay.testing.factories import store_history
from mainstay.testing.scenario import fit, listed

T = TypeVar("T")

_ASIDE = {"id", "created_at", "updated_at", "deleted_at", "version"}


class Call(NamedTuple):
    """A call that was made.

    Attributes:
        name: Of the method.
        args: By position.
        kwargs: By name.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Calls:
    """Stands for what a projection calls, such as a mailer: remembers what it was asked, and answers as it is told.

    ``await mailer.send("ann", subject="hello")`` is remembered as ``Call("send", ("ann",), {"subject": "hello"})``.

    Args:
        answers: By the name of the method; an exception is raised. None unless given.
        awaited: Whether its methods are coroutine functions.

    Attributes:
        made: The calls, in order.
    """

    def __init__(self, answers: dict[str, Any] | None = None, *, awaited: bool = True) -> None:
        self.made: list[Call] = []
        self._answers = answers or {}
        self._awaited = awaited

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append(Call(name, args, kwargs))
            answer = self._answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def call_awaited(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs)

        return call_awaited if self._awaited else call


class Projected(Generic[T]):
    """What came of events; each ``then`` may be followed by another.

    Attributes:
        projection: As it is now.
        events: That it took.
        error: That ended it.
        rows: Of the read model that it keeps, if it is a `ReadModelProjection`; without those that were laid aside.
    """

    def __init__(
        self,
        projection: T,
        events: list[DomainEvent],
        error: Exception | None = None,
        rows: Sequence[ReadModel] = (),
    ) -> None:
        self.projection = projection
        self.events = events
        self.error = error
        self.rows = list(rows)

    def then(self, check: Callable[[T], Any]) -> "Projected[T]":
        """Something is true of the projection.

        Args:
            check: A function of it.

        Raises:
            AssertionError: It is not, or an event could not be handled.
        """
        self._not_failed()
        if not check(self.projection):
            name = getattr(check, "__name__", repr(check))
            raise AssertionError(f"{name} does not hold of {self.projection!r}, which took\n{listed(self.events)}")
        return self

    def then_took(self, *expected: DomainEvent | type[DomainEvent]) -> "Projected[T]":
        """It wanted exactly these events, in this order; a class stands for any event of it.

        Raises:
            AssertionError: It wanted others, or one could not be handled.
        """
        self._not_failed()
        if not fit(self.events, expected):
            raise AssertionError(f"expected\n{listed(expected)}\nbut it took\n{listed(self.events)}")
        return self

    def then_rows(self, *expected: ReadModel) -> "Projected[T]":
        """The read model has exactly these rows, in any order; when they were saved, and how often, is not looked at.

        Raises:
            AssertionError: It has others, or an event could not be handled.
        """
        self._not_failed()
        found, wanted = _by_id(self.rows), _by_id(expected)
        if found != wanted:
            raise AssertionError(f"expected the rows\n{_lines(wanted)}\nbut there are\n{_lines(found)}")
        return self

    def then_called(self, calls: Calls, *expected: Call | str) -> "Projected[T]":
        """Exactly these calls were made, in this order; a text stands for any call of the method of this name.

        Raises:
            AssertionError: Others were made, or an event could not be handled.
        """
        self._not_failed()
        made: Sequence[Call] = calls.made
        fits = len(made) == len(expected) and all(
            one.name == other if isinstance(other, str) else one == other
            for one, other in zip(made, expected, strict=True)
        )
        if not fits:
            raise AssertionError(f"expected the calls {list(expected)}, but these were made: {list(made)}")
        return self

    def then_failed(self, error: type[Exception], match: str = "") -> "Projected[T]":
        """An event could not be handled.

        Args:
            error: With an error of this class.
            match: Whose text holds this regular expression.

        Raises:
            AssertionError: All could, or one failed otherwise.
        """
        if self.error is None:
            raise AssertionError(f"expected {error.__name__}, but all of these were handled:\n{listed(self.events)}")
        if not isinstance(self.error, error) or not re.search(match, str(self.error)):
            raise AssertionError(f"expected {error.__name__} {match!r}, but got {self.error!r}") from self.error
        return self

    def _not_failed(self) -> None:
        if self.error is not None:
            last = listed(self.events[-1:])
            raise AssertionError(f"this event could not be handled: {self.error!r}\n{last}") from self.error


async def project(
    projection: T, *events: DomainEvent, store: EventStore | None = None, conn: Any = None
) -> Projected[T]:
    """Let these things have happened, and give them to a projection, or to anything that can be subscribed.

    Args:
        projection: Who wants events.
        events: In order; they need no envelope. See `mainstay.testing.factories.store_history`.
        store: Where they are appended, and read with what is there already; in memory, unless given.
        conn: What methods get as their transaction; a `DatabaseProjection` needs one.

    Raises:
        ConfigurationError: It wants nothing that there is.
        EventError: As `EventStore.append`.
    """
    source = InMemoryEventStore() if store is None else store
    await store_history(source, events)
    taking = as_projection(projection)
    kept = MemoryProjectionStore()
    await taking.prepare(kept)
    recorded = await _read(source, taking.wanted(source))
    taken: list[DomainEvent] = []
    try:
        async with (
            kept.read_models.transaction() as mine,
            taking.batch(mine if conn is None else conn, recorded) as within,
        ):
            for envelope in (envelope for each in recorded for envelope in source.enveloped(each)):
                taken.append(envelope.event)
                await taking.handle(envelope, within)
    except Exception as error:  # noqa: BLE001 - a projection may raise anything; `Projected` tells what
        return Projected(projection, taken, error)
    rows: list[Any] = []
    if isinstance(taking, ReadModelProjection):
        rows = await ReadModels(kept.read_models).of(taking.model).find()
    return Projected(projection, taken, None, rows)


def _by_id(rows: Iterable[ReadModel]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {str(row.id): (type(row).__name__, row.model_dump(exclude=_ASIDE)) for row in rows}


def _lines(rows: dict[str, tuple[str, dict[str, Any]]]) -> str:
    return "\n".join(f"  {name} {key}: {row}" for key, (name, row) in sorted(rows.items())) or "  none"


async def _read(source: EventReader, wanted: FeedFilter) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    after = 0
    while True:
        page = await source.log.read_feed(after=after, limit=PAGE, wanted=wanted)
        found += page.events
        if page.position >= page.horizon:
            return found
        after = page.position
