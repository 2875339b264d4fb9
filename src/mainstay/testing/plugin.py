"""Pytest fixtures for programs that use mainstay: a real PostgreSQL, and a fresh database for every test.

Ask for them in your ``conftest.py``::

    pytest_plugins = ["mainstay.testing.plugin"]

and take ``mainstay_dsn`` as an argument of a test. The server is the embedded one: install ``mainstay[embedded]``. It
starts with the first test that needs it, and its data is removed with the session.

``mainstay_certify`` puts a handler to the test of `mainstay.testing.certifier`, on a fresh database.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import make_template
from mainstay.testing.certifier import Certificate, IdempotencyCertifier, Make


@pytest.fixture(scope="session")
def mainstay_server() -> Iterator[EmbeddedServer]:
    """A PostgreSQL server of this session, fast rather than durable, with a database to copy: ``mainstay_template``."""
    directory = Path(tempfile.mkdtemp(prefix="mainstay-test-"))
    directory.chmod(0o755)  # root's server runs as another account, which must get in
    try:
        with EmbeddedServer(directory / "data", durable=False) as server:
            make_template(server)
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def mainstay_dsn(mainstay_server: EmbeddedServer) -> Iterator[str]:
    """Connection URL of a fresh database with mainstay's schema; removed after the test."""
    name = f"test_{uuid4().hex}"
    mainstay_server.create_database(name, template="mainstay_template")
    yield mainstay_server.dsn(name)
    mainstay_server.drop_database(name)


@pytest.fixture
def mainstay_certify(mainstay_dsn: str) -> Callable[..., Certificate]:
    """A function that certifies a handler: ``mainstay_certify(make, domain, command_type, data, **options)``.

    ``make`` takes a pool and returns the registry; the options are those of `IdempotencyCertifier`. It blocks, also in
    an async test.
    """

    def certify(
        make: Make, domain: str, command_type: str, data: dict[str, Any] | None = None, **options: Any
    ) -> Certificate:
        certifier = IdempotencyCertifier(mainstay_dsn, **options)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, certifier.certify(make, domain, command_type, data)).result()

    return certify
