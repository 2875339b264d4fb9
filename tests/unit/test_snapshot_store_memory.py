"""Snapshots in memory: the contract, and that the contract would notice."""

import pytest

from mainstay.events.snapshot import MemorySnapshotStore
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.snapshots import SnapshotStoreContract


class TestMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    async def snapshots(self):
        return MemorySnapshotStore()


class Credulous(MemorySnapshotStore):
    """Keeps whatever came last."""

    async def save(self, snapshot, *, conn=None):
        self._snapshots[snapshot.stream] = snapshot


class Strict(MemorySnapshotStore):
    """Never lets an older one in."""

    async def save(self, snapshot, *, conn=None):
        there = self._snapshots.get(snapshot.stream)
        if there is None or there.version < snapshot.version:
            self._snapshots[snapshot.stream] = snapshot


class Blind(MemorySnapshotStore):
    """Does not see tenants."""

    async def load(self, stream, *, conn=None):
        return await super().load(StreamId(stream.category, stream.id))

    async def save(self, snapshot, *, conn=None):
        self._snapshots[StreamId(snapshot.stream.category, snapshot.stream.id)] = snapshot


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Credulous, "test_an_older_one_does_not"),
        (Strict, "test_one_of_the_same_version_does"),
        (Strict, "test_one_of_another_schema_does_even_if_it_is_older"),
        (Blind, "test_each_stream_has_its_own"),
        (Blind, "test_what_is_deleted_is_gone_and_nothing_else"),
    ],
)
async def test_a_store_that_is_wrong_fails_the_contract(kind, promise):
    with pytest.raises(AssertionError):
        await getattr(SnapshotStoreContract(), promise)(kind(), StreamId("Order", "a"))
