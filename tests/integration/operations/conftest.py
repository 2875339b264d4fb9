"""What the tests of operations stand on: an operator, and a console that it is asked through."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mainstay.operations.console import console
from mainstay.operations.console.application import Console
from mainstay.operations.operator import Operator
from tests.support.console import tokens


@pytest.fixture
async def operator(pool: Any) -> AsyncIterator[Operator]:
    """An operator of the test's database."""
    made = Operator(pool)
    yield made
    await made.bus.close()


@pytest.fixture
def app(operator: Operator) -> Console:
    """The console; fields called ``mail`` are personal."""
    return console(operator, auth=tokens(), personal=["mail"])
