"""As many tests as there is time for: what is not begun in MAINSTAY_TEST_SECONDS is skipped, and is said to be.

With MAINSTAY_TEST_ORDER, any text, the modules come in an order that the text draws, so that over many runs each has
its turn. Within a module the order stays, and with it what its tests share.
"""

import hashlib
import os
import time

import pytest

BEGAN = time.monotonic()
SECONDS = float(os.environ.get("MAINSTAY_TEST_SECONDS", "inf"))
ORDER = os.environ.get("MAINSTAY_TEST_ORDER")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Draw the order of the modules."""
    if ORDER is not None:
        items.sort(key=lambda item: hashlib.sha256(f"{ORDER} {item.path.name}".encode()).digest())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin a test, if there is time."""
    if time.monotonic() - BEGAN > SECONDS:
        pytest.skip("its time is over (MAINSTAY_TEST_SECONDS): `make test-all` runs it")
