"""Read models for code that blocks: pages of Django and Flask, scripts."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar
from uuid import UUID

from mainstay.app import ReadModels
from mainstay.errors import ConfigurationError, shown
from mainstay.projections.read_model import Model
from mainstay.projections.read_model_query import ReadModelPage, ReadModelQuery
from mainstay.projections.read_model_repository import Id, ReadModelRepository
from mainstay.sync.bridge import Opened, blocking
from mainstay.sync.events import BlockingEvents, SyncEventStoreAdapter

T = TypeVar("T")


class SyncReadModels(BlockingEvents[ReadModels]):
    """`ReadModels` for code that blocks.

    ::

        totals = SyncReadModels(store).of(OrderTotal)
        page = totals.find_page(ReadModelQuery(order_by="-total", limit=50))

    Args:
        store: Of the events, in whose database the read models are; not one in memory.

    Raises:
        ConfigurationError: Not an adapter.
    """

    def __init__(self, store: SyncEventStoreAdapter) -> None:
        if not isinstance(store, SyncEventStoreAdapter):
            raise ConfigurationError(f"expected a SyncEventStoreAdapter, not {shown(store)}")
        self._store = store
        super().__init__(store._home, lambda room: room, store._timeout, is_owner=False)  # noqa: SLF001 - of one family

    def _room(self, opened: Opened) -> ReadModels:
        return opened.room(self, lambda _: ReadModels(self._store._room(opened)))  # noqa: SLF001 - of one family

    def of(self, model: type[Model], *, tenant_id: UUID | str | None = None) -> "SyncReadModelRepository[Model]":
        """The rows of a model; see `ReadModels.of`."""
        return SyncReadModelRepository(self, model, tenant_id)

    create_table = blocking(ReadModels.create_table)


class SyncReadModelRepository(Generic[Model]):
    """`ReadModelRepository` for code that blocks: the same calls, arguments, results and errors.

    Args:
        read_models: Where the rows are.
        model: The class.
        tenant_id: The only tenant whose rows are seen; None for all.
    """

    def __init__(self, read_models: SyncReadModels, model: type[Model], tenant_id: Id | None) -> None:
        self._read_models = read_models
        self._model = model
        self._tenant_id = tenant_id

    def _call(self, function: Callable[[ReadModelRepository[Model]], Coroutine[Any, Any, T]]) -> T:
        async def asked(read_models: ReadModels) -> T:
            return await function(read_models.of(self._model, tenant_id=self._tenant_id))

        return self._read_models._call(asked)  # noqa: SLF001 - of one family

    def get(self, id: Id) -> Model | None:  # noqa: A002 - what it is
        """As `ReadModelRepository.get`."""
        return self._call(lambda repo: repo.get(id))

    def get_many(self, ids: Iterable[Id]) -> list[Model]:
        """As `ReadModelRepository.get_many`."""
        return self._call(lambda repo: repo.get_many(ids))

    def get_deleted(self, id: Id) -> Model | None:  # noqa: A002 - what it is
        """As `ReadModelRepository.get_deleted`."""
        return self._call(lambda repo: repo.get_deleted(id))

    def exists(self, id: Id) -> bool:  # noqa: A002 - what it is
        """As `ReadModelRepository.exists`."""
        return self._call(lambda repo: repo.exists(id))

    def find(self, query: ReadModelQuery | None = None) -> list[Model]:
        """As `ReadModelRepository.find`."""
        return self._call(lambda repo: repo.find(query))

    def find_page(self, query: ReadModelQuery) -> ReadModelPage[Model]:
        """As `ReadModelRepository.find_page`."""
        return self._call(lambda repo: repo.find_page(query))

    def find_deleted(self, query: ReadModelQuery | None = None) -> list[Model]:
        """As `ReadModelRepository.find_deleted`."""
        return self._call(lambda repo: repo.find_deleted(query))

    def count(self, query: ReadModelQuery | None = None) -> int:
        """As `ReadModelRepository.count`."""
        return self._call(lambda repo: repo.count(query))

    def save(self, model: Model) -> Model:
        """As `ReadModelRepository.save`."""
        return self._call(lambda repo: repo.save(model))

    def save_many(self, models: Iterable[Model]) -> None:
        """As `ReadModelRepository.save_many`."""
        self._call(lambda repo: repo.save_many(models))

    def save_with_version_check(self, model: Model) -> Model:
        """As `ReadModelRepository.save_with_version_check`."""
        return self._call(lambda repo: repo.save_with_version_check(model))

    def delete(self, id: Id) -> bool:  # noqa: A002 - what it is
        """As `ReadModelRepository.delete`."""
        return self._call(lambda repo: repo.delete(id))

    def soft_delete(self, id: Id) -> bool:  # noqa: A002 - what it is
        """As `ReadModelRepository.soft_delete`."""
        return self._call(lambda repo: repo.soft_delete(id))

    def restore(self, id: Id) -> bool:  # noqa: A002 - what it is
        """As `ReadModelRepository.restore`."""
        return self._call(lambda repo: repo.restore(id))

    def truncate(self) -> int:
        """As `ReadModelRepository.truncate`."""
        return self._call(lambda repo: repo.truncate())
