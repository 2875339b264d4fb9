"""A transaction in memory: what several stores stage, applied by all of them or by none."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar


class Staged(Protocol):
    """What one store stages."""

    def check(self) -> None:
        """See that it can be applied.

        Raises:
            StorageUnavailableError: Somebody else was quicker.
        """
        ...

    def apply(self) -> None:
        """Apply it; cannot fail."""
        ...


S = TypeVar("S", bound=Staged)


class MemoryTransaction:
    """Changes of one batch, or of one block; what a database would call a connection."""

    def __init__(self) -> None:
        """Nothing is staged."""
        self._staged: dict[Hashable, Any] = {}

    def staged(self, owner: Hashable, make: Callable[[], S]) -> S:
        """What an owner has staged here.

        Args:
            owner: Whose it is.
            make: Makes it the first time.
        """
        if owner not in self._staged:
            self._staged[owner] = make()
        found: S = self._staged[owner]
        return found

    def commit(self) -> None:
        """Apply everything, at once.

        Raises:
            StorageUnavailableError: Somebody else was quicker; nothing was applied.
        """
        for each in self._staged.values():
            each.check()
        for each in self._staged.values():
            each.apply()
        self._staged.clear()
