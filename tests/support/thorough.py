"""Parameters of tests that only the thorough tests have."""

from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """A set of values for `parametrize` that `make test` leaves out."""
    return pytest.param(*values, marks=pytest.mark.thorough)
