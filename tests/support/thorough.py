"""Parameters of tests that only the thorough tests have."""

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """A set of values for `parametrize` that `make test` leaves out."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def every(nth: int, values: Iterable[Any]) -> list[Any]:
    """Each so many-th of values that all go the same way; the others are for the thorough tests."""
    return [each if number % nth == 0 else thorough(each) for number, each in enumerate(values)]
