"""The ladder of fixtures: server -> database -> dsn -> pool. What needs a server asks for the rung it needs.

Tests in folders named contracts, postgres or schema, and tests that ask for `postgres_server`, run twice: on
PostgreSQL 18 and on PostgreSQL 15, with every rung above on that server. The second time is a thorough test. So are,
of many sets of parameters of one test on a server, two of three.
"""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from psycopg_pool import AsyncConnectionPool

from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import install_schema
from tests.support.backends import KeptConnection
from tests.support.servers import Server, Servers, copy_data, open_pool, reachable_directory
from tests.support.thorough import thorough

pytest.register_assert_rewrite("tests.scenarios")
pytest_plugins = ["tests.support.in_time", "tests.support.skipped"]

# How long an example takes says something about the machine only.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

VERSIONS = ["18", "15"]
ON_BOTH = {"contracts", "postgres", "schema"}
HERE = Path(__file__).parent
ON_SERVERS = HERE / "integration"
MANY = 5
"""Sets of parameters."""


def pytest_sessionstart() -> None:
    """Collecting makes millions of objects and drops few: looking for garbage meanwhile takes half of its time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What was collected stays until the end, and is not looked through for garbage again."""
    gc.freeze()
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = set(metafunc.fixturenames)
    folders = metafunc.definition.path.relative_to(HERE).parent.parts
    if "server" in asked and ("postgres_server" in asked or ON_BOTH.intersection(folders)):
        metafunc.parametrize("server", ["18", thorough("15")], indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    by_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.is_relative_to(ON_SERVERS) and item.get_closest_marker("thorough") is None:
            by_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for sets in by_test.values():
        if len(sets) >= MANY:
            for number, item in enumerate(sets):
                if number % 3:
                    item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers by version; for fixtures that choose one themselves."""
    found = Servers()
    yield found
    found.close()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """The server of this test."""
    return servers.get(getattr(request, "param", VERSIONS[0]))


@pytest.fixture(scope="session")
def postgres_server(server: Server) -> Server:
    """The server of this test; asking for it makes the test run on every version."""
    return server


@pytest.fixture
def template(server: Server) -> str:
    """Name of the database that databases with the schema are copied from."""
    return server.template()


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """Name of a fresh database with mainstay's schema."""
    with server.database() as name:
        yield name


@pytest.fixture
def dsn(server: Server, database: str) -> str:
    """How to connect to `database`."""
    return server.dsn(database)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """An open pool on `database`."""
    async with open_pool(dsn, connection_class=KeptConnection) as opened:
        yield opened


@pytest.fixture
def empty_database(server: Server) -> Iterator[str]:
    """Name of a fresh database with nothing in it."""
    with server.database(schema=False) as name:
        yield name


@pytest.fixture
def empty_dsn(server: Server, empty_database: str) -> str:
    """How to connect to `empty_database`."""
    return server.dsn(empty_database)


@pytest.fixture
async def empty_pool(empty_dsn: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """An open pool on `empty_database`."""
    async with open_pool(empty_dsn) as opened:
        yield opened


@pytest.fixture
def server_directory() -> Iterator[Path]:
    """A directory in which an embedded server can keep its data, also when root runs the tests."""
    with reachable_directory() as path:
        yield path


@pytest.fixture(scope="session")
def blank_data() -> Iterator[Path]:
    """The data directory of an embedded server that was stopped; copying it is quicker than making another."""
    with reachable_directory() as path:
        with EmbeddedServer(path / "data", durable=False):
            pass
        yield path / "data"


@pytest.fixture
def data_dir(server_directory: Path, blank_data: Path) -> Path:
    """A data directory of this test's own, with an empty cluster in it."""
    return copy_data(blank_data, server_directory / "data")


@pytest.fixture
def restartable_server(data_dir: Path) -> Iterator[EmbeddedServer]:
    """A durable server of this test's own, to stop, kill and restart; it keeps its addresses."""
    with EmbeddedServer(data_dir, port=0) as own:
        yield own


@pytest.fixture
def restartable_dsn(restartable_server: EmbeddedServer) -> str:
    """How to connect to a database with the schema on `restartable_server`."""
    found = restartable_server.dsn()
    install_schema(found)
    return found
