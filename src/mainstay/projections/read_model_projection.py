"""Projections that keep a read model: the methods get a repository in the transaction that the checkpoint moves in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, get_args, get_origin

from mainstay.errors import ConfigurationError, shown
from mainstay.events.event import EventEnvelope
from mainstay.events.handles import handler_for
from mainstay.events.log import RecordedEvent
from mainstay.projections.declarative import DeclarativeProjection, taking_first
from mainstay.projections.read_model import Model, ReadModel, ReadModelTable, table_of
from mainstay.projections.read_model_batch import BatchRows
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.read_model_store import ReadModelStore, TableChange
from mainstay.projections.store import ProjectionStore
from mainstay.projections.tables import BESIDE, TableComparison, Tables
from mainstay.telemetry import get_logger

log = get_logger(__name__)

_NOT_COMPARED = ("created_at", "updated_at", "version")


class ReadModelProjection(DeclarativeProjection, Generic[Model]):
    """A projection whose methods keep the rows of a model.

    ::

        class OrderTotals(ReadModelProjection[OrderTotal]):
            @handles(OrderPlaced)
            async def placed(self, event: OrderPlaced, repo: ReadModelRepository[OrderTotal]) -> None:
                await repo.save(OrderTotal(id=event.aggregate_id, total=event.total))

    A method may also take the repository first, under the name ``repo``.

    The table is made, or brought up to date, when the projection is subscribed. What the methods of a batch save is
    written together with the checkpoint: see `mainstay.projections.read_model_batch`. If the model has a field
    ``tenant_id``, ``repo`` sees the rows of the event's tenant.

    Args:
        generation: Of the table, while another one is in use; see `table_of`.

    Attributes:
        model: The class.

    Raises:
        ConfigurationError: No model is named in brackets. Raised when the class is defined.
    """

    __takes__: ClassVar[int] = 2
    __repo_first__: ClassVar[frozenset[str]] = frozenset()
    model: ClassVar[type[ReadModel]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the model."""
        super().__init_subclass__(**options)
        cls.__repo_first__ = taking_first(cls, cls.__handlers__, "repo")
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, ReadModelProjection):
                (model,) = get_args(base)
                if isinstance(model, type) and issubclass(model, ReadModel):
                    cls.model = model
        if cls.__handlers__ and not hasattr(cls, "model"):
            message = f"{cls.__name__} keeps no model: derive it from ReadModelProjection[SomeReadModel]"
            raise ConfigurationError(message)

    def __init__(self, *, generation: str = "") -> None:
        self.table: ReadModelTable = table_of(self.model, generation)
        self._store: ReadModelStore | None = None

    async def prepare(self, store: ProjectionStore) -> None:
        """Make the table, or bring it up to date.

        Raises:
            SchemaOutdatedError: It does not fit the model, and columns cannot be added: rebuild the projection.
        """
        change = await self.keep_in(store.read_models)
        seen = [state.checkpoint.position for state in await store.states(self.name)] if change.created else []
        if any(seen):
            message = (
                "the table %s of subscription %s was missing and was made without rows, but the subscription has come "
                "to position %d: rebuild it (`mainstay projections rebuild`)"
            )
            log.warning(message, self.table.name, self.name, max(seen))
        elif change.columns:
            message = "the table %s got %s, with the default in all rows; a rebuild fills them from events"
            log.info(message, self.table.name, ", ".join(change.columns))

    async def keep_in(self, store: ReadModelStore) -> TableChange:
        """The same, with the place of the rows; for a projection that is not subscribed but inline."""
        change = await store.create(self.table)
        self._store = store
        return change

    @asynccontextmanager
    async def batch(self, conn: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[BatchRows]:
        """Rows of one transaction, written at its end."""
        streams, ids = ([recorded.stream.id for recorded in events], [recorded.event.event_id for recorded in events])
        rows = BatchRows(self._read_models, conn, (streams, ids))
        yield rows
        await rows.flush()

    # -- what a rebuild asks; see `mainstay.projections.rebuild` -------------------------------------------------------

    @property
    def tables(self) -> Sequence[str]:
        """The table in use, as SQL names it."""
        return [_quoted(self.table)]

    def beside(self, store: ProjectionStore) -> Self:
        """A copy that keeps its model in a table of its own.

        Raises:
            ConfigurationError: This one does not use the model's own table.
        """
        if self.table.generation:
            message = (
                f"{type(self).__name__} uses {self.table.name}, which is beside {self.table.base}: rebuild that one"
            )
            raise ConfigurationError(message)
        made = copy(self)
        made.rebuilding = True
        made.table = table_of(self.model, BESIDE)
        made._store = store.read_models  # noqa: SLF001 - a copy of its own
        return made

    async def create_tables(self, tables: Tables) -> None:
        """Make the new table."""
        await self._read_models.create(self.table, conn=tables.conn)

    async def compare_tables(self, tables: Tables, sample: int) -> list[TableComparison]:
        """Compare both, in the columns that both have, but for when and how often rows were written."""
        serving = table_of(self.model)
        if not await self._read_models.exists(serving, conn=tables.conn):
            return []
        names = _quoted(serving), _quoted(self.table)
        found = await tables.compare(*names, sample=sample, left_out=_NOT_COMPARED)
        return [replace(found, table=serving.name)]

    async def swap_tables(self, tables: Tables, *, keep: bool) -> None:
        """Let the new table have the name of the old one, which is kept under another, or dropped."""
        serving, store = table_of(self.model), self._read_models
        if not await store.exists(serving, conn=tables.conn):
            await store.create(serving, conn=tables.conn)
        await tables.swap([(_quoted(serving), _quoted(self.table))], keep=keep)

    async def drop_tables(self, tables: Tables) -> None:
        """Drop the new table."""
        await self._read_models.drop(self.table, conn=tables.conn)

    @property
    def _read_models(self) -> ReadModelStore:
        if self._store is None:
            raise ConfigurationError(
                f"{type(self).__name__} has no table: subscribe it, or await ReadModels(pool).prepare(it)"
            )
        return self._store

    def _arguments(self, envelope: EventEnvelope, conn: Any) -> tuple[Any, ...]:
        if not isinstance(conn, BatchRows):
            raise ConfigurationError(f"{type(self).__name__} handles events in a batch(), not with {shown(conn)}")
        tenant = envelope.event.tenant_id if self.table.has_tenant else None
        event, repo = envelope.event, ReadModelRepository[Any](self.table, conn, tenant_id=tenant)
        return (repo, event) if handler_for(self.__handlers__, type(event)) in self.__repo_first__ else (event, repo)


def _quoted(table: ReadModelTable) -> str:
    name = table.name.replace('"', '""')
    return f'"{name}"'
