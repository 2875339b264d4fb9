"""Clusters of each version, whose programs are there, for tests that stop, copy and promote them."""

from collections.abc import Iterator

import pytest

from tests.support.clusters import Clusters, clusters_of

VERSIONS = ["18", "15"]


@pytest.fixture(scope="session", params=VERSIONS)
def all_clusters(request: pytest.FixtureRequest) -> Iterator[Clusters]:
    """Makes clusters of a version."""
    with clusters_of(request.param) as made:
        yield made


@pytest.fixture
def clusters(all_clusters: Clusters) -> Iterator[Clusters]:
    """The same; what a test made is stopped when it ends."""
    yield all_clusters
    all_clusters.close()
