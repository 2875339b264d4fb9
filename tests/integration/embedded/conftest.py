"""Embedded servers to try things on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.support.servers import copy_data, reachable_directory


@pytest.fixture
def new_data_dir(server_directory: Path) -> Path:
    return server_directory / "data"


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(data_dir, durable=False) as running:
        yield running


@pytest.fixture
def disk_directory() -> Iterator[Path]:
    """A directory in which programs may be executable."""
    with reachable_directory(in_memory=False) as path:
        yield path


@pytest.fixture(scope="module")
def shared(blank_data: Path) -> Iterator[EmbeddedServer]:
    """A server for tests that leave it as it was."""
    with (
        reachable_directory() as path,
        EmbeddedServer(copy_data(blank_data, path / "data"), durable=False) as running,
    ):
        yield running
