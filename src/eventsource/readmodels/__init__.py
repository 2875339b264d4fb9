"""Tables that are made of events, to be asked."""

from mainstay import (
    AnyOf,
    Filter,
    MemoryReadModelStore,
    ReadModel,
    ReadModelConflictError,
    ReadModelPage,
    ReadModelProjection,
    ReadModelRepository,
    ReadModels,
    ReadModelTableNotFoundError,
)
from mainstay import ReadModelQuery as Query

__all__ = [
    "AnyOf",
    "Filter",
    "MemoryReadModelStore",
    "Query",
    "ReadModel",
    "ReadModelConflictError",
    "ReadModelPage",
    "ReadModelProjection",
    "ReadModelRepository",
    "ReadModelTableNotFoundError",
    "ReadModels",
]
