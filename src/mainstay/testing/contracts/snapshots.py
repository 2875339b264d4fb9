"""What a store of snapshots must do, on whatever it stands.

Subclass it in a test module and give it a fixture named ``snapshots``::

    class TestMySnapshots(SnapshotStoreContract):
        @pytest.fixture
        async def snapshots(self): ...

Where snapshots join the transactions of their events, subclass `TransactionalSnapshotContract`, which has more, and
give it one named ``log``, too: the log in the same database. It needs pytest-asyncio in auto mode.
"""

# ruff: noqa: S101 - asserts are what a contract is made of

import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from mainstay.events.log import EventLog
from mainstay.events.snapshot import Snapshot, SnapshotStore
from mainstay.events.stream import StreamId


def taken(stream: StreamId, version: int = 1, **changes: Any) -> Snapshot:
    """A snapshot. ``state`` may be a value."""
    fields: dict[str, Any] = {"event_id": uuid4(), "schema": "1-a", "state": {"total": version}} | changes
    if not isinstance(fields["state"], bytes):
        fields["state"] = json.dumps(fields["state"]).encode()
    return Snapshot(stream, version, **fields)


def plain(snapshot: Snapshot | None) -> Any:
    """A snapshot in a form in which two are equal if they say the same, however their states are written."""
    if snapshot is None:
        return None
    state = json.loads(snapshot.state)
    return snapshot.stream, snapshot.version, snapshot.event_id, snapshot.schema, state


class OnPurposeError(Exception):
    """Ends a transaction."""


class SnapshotStoreContract:
    """What every store must do."""

    @pytest.fixture
    async def snapshots(self) -> SnapshotStore:
        """The store under test, with nothing in it."""
        raise NotImplementedError

    @pytest.fixture
    def stream(self) -> StreamId:
        """A stream without a snapshot."""
        return StreamId("Order", uuid4())

    async def test_there_is_none_until_one_is_kept(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """Asking for what is not there is no error."""
        assert await snapshots.load(stream) is None

    @pytest.mark.parametrize("state", [{}, [], 7, "text", None, {"name": "Zoë \U0001f600", "deep": [{"a": [1.5]}]}])
    async def test_what_is_kept_is_given_back(self, snapshots: SnapshotStore, stream: StreamId, state: Any) -> None:
        """Whatever JSON the state is."""
        kept = taken(stream, 3, state=state)

        await snapshots.save(kept)

        assert plain(await snapshots.load(stream)) == plain(kept)

    async def test_a_newer_one_takes_its_place(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """There is one for each stream."""
        newer = taken(stream, 4)
        await snapshots.save(taken(stream, 3))

        await snapshots.save(newer)

        assert plain(await snapshots.load(stream)) == plain(newer)

    async def test_an_older_one_does_not(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """Two who save one after another may keep their snapshots in the other order."""
        newer = taken(stream, 4)
        await snapshots.save(newer)

        await snapshots.save(taken(stream, 3))

        assert plain(await snapshots.load(stream)) == plain(newer)

    async def test_one_of_the_same_version_does(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """The one that is there may be of events that are not there any more."""
        second = taken(stream, 3)
        await snapshots.save(taken(stream, 3))

        await snapshots.save(second)

        assert plain(await snapshots.load(stream)) == plain(second)

    async def test_one_of_another_schema_does_even_if_it_is_older(
        self, snapshots: SnapshotStore, stream: StreamId
    ) -> None:
        """One that this code cannot read is of no use to it."""
        readable = taken(stream, 3, schema="2-b")
        await snapshots.save(taken(stream, 4, schema="1-a"))

        await snapshots.save(readable)

        assert plain(await snapshots.load(stream)) == plain(readable)

    async def test_each_stream_has_its_own(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """The same id under another category or tenant is another stream."""
        others = [StreamId("Offer", stream.id), StreamId("Order", stream.id, "acme"), StreamId("Order", "by name")]
        kept = [taken(each, version) for version, each in enumerate([stream, *others], 1)]

        for each in kept:
            await snapshots.save(each)

        assert [plain(await snapshots.load(each.stream)) for each in kept] == [plain(each) for each in kept]

    async def test_what_is_deleted_is_gone_and_nothing_else(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """Deleting what is not there does nothing."""
        other = taken(StreamId("Order", stream.id, "acme"))
        await snapshots.save(taken(stream))
        await snapshots.save(other)

        await snapshots.delete(stream)
        await snapshots.delete(stream)

        assert await snapshots.load(stream) is None
        assert plain(await snapshots.load(other.stream)) == plain(other)

    async def test_after_a_deletion_any_version_is_kept(self, snapshots: SnapshotStore, stream: StreamId) -> None:
        """Nothing remembers the one that was there."""
        await snapshots.save(taken(stream, 9))
        await snapshots.delete(stream)

        await snapshots.save(taken(stream, 1))

        assert (await snapshots.load(stream) or taken(stream, 0)).version == 1


class TransactionalSnapshotContract(SnapshotStoreContract):
    """What a store must do beside that takes notice of transactions."""

    @pytest.fixture
    async def log(self) -> EventLog:
        """The log in the same database."""
        raise NotImplementedError

    async def test_a_transaction_that_is_rolled_back_keeps_and_deletes_nothing(
        self, snapshots: SnapshotStore, log: EventLog, stream: StreamId
    ) -> None:
        """A snapshot may be of what is not committed yet."""
        there = taken(StreamId("Order", "there"))
        await snapshots.save(there)
        with suppress(OnPurposeError):
            async with log.transaction() as tx:
                await snapshots.save(taken(stream), conn=tx)
                await snapshots.delete(there.stream, conn=tx)
                assert await snapshots.load(stream, conn=tx) is not None
                assert await snapshots.load(there.stream, conn=tx) is None
                raise OnPurposeError

        assert await snapshots.load(stream) is None
        assert plain(await snapshots.load(there.stream)) == plain(there)
