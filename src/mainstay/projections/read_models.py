"""Read models outside of projections: for the pages and interfaces that show them."""

from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from mainstay.projections.read_model import Model, table_of
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.read_model_store import ReadModelStore, TableChange


class ReadModels:
    """Gives repositories for models.

    ::

        totals = read_models.of(OrderTotal)
        page = await totals.find_page(ReadModelQuery(order_by="-total", limit=50))

    Args:
        store: Where the tables are.
    """

    def __init__(self, store: ReadModelStore) -> None:
        self.store = store

    def of(
        self, model: type[Model], *, tenant_id: UUID | str | None = None, conn: Any = None
    ) -> ReadModelRepository[Model]:
        """The rows of a model.

        Args:
            model: The class.
            tenant_id: The only tenant whose rows are seen; None for all.
            conn: A transaction, of `transaction` or of the database's own; every call is one of its own if None.

        Raises:
            ConfigurationError: The class is no read model.
            InvalidInputError: The model has no tenants.
        """
        return ReadModelRepository(table_of(model), self.store, conn=conn, tenant_id=tenant_id)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction, to be passed as ``conn``; committed at the end of the block, rolled back if it raises."""
        return self.store.transaction()

    async def create_table(self, model: type[Model], *, conn: Any = None) -> TableChange:
        """Make a model's table if it is missing, and add the columns and indexes that it lacks.

        Raises:
            SchemaOutdatedError: Columns cannot be added: rebuild the projection.
        """
        return await self.store.create(table_of(model), conn=conn)

    async def prepare(self, projection: ReadModelProjection[Any]) -> None:
        """Make the table of a projection that is inline; one that is subscribed needs no such call.

        Raises:
            SchemaOutdatedError: Columns cannot be added: rebuild the projection.
        """
        await projection.keep_in(self.store)

    def schema_sql(self, model: type[Model]) -> str:
        """The statements that make a model's table, for migrations of your own."""
        return self.store.schema_sql(table_of(model))
