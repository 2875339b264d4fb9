"""eventsourcing: blocking, over psycopg, on its safe path: `POSTGRES_ENABLE_DB_FUNCTIONS` off, as by default.

Then a recorder locks its table (EXCLUSIVE) for the rest of each transaction that inserts, so that positions are
committed in their order. With the flag on it does not, and loses events to readers. Writers are threads.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from event_protocol import PAGE, SNAPSHOT_EVERY, UPSERT, EventPeer, item, main, plan
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg.conninfo import conninfo_to_dict

UPSERTING = UPSERT.format("%s", "%s")


class Cart(Aggregate):
    @event("Started")
    def __init__(self, sku: str, quantity: int, price: Decimal, note: str) -> None:
        self.items = quantity
        self.price = price

    @event("ItemAdded")
    def add(self, sku: str, quantity: int, price: Decimal, note: str) -> None:
        self.items += quantity
        self.price += price


class Working(PostgresApplicationRecorder):
    """With other work of the application's in the transaction, after the insert."""

    def _insert_stored_events(self, curs: Any, stored_events: Any, **kwargs: Any) -> None:
        super()._insert_stored_events(curs, stored_events, **kwargs)
        if work := kwargs.get("work"):
            curs.connection.execute("select pg_sleep(%s)", (work,))


class Carts(Application[UUID]):
    snapshotting_intervals = {Cart: SNAPSHOT_EVERY}  # noqa: RUF012 - as its documentation says


class Total(PostgresTrackingRecorder):
    def add(self, stream: UUID, quantity: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            curs.execute(UPSERTING, (stream, quantity), prepare=True)


class Totals(Projection[Total]):
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.add(domain_event.originator_id, domain_event.quantity, tracking)


class Eventsourcing(EventPeer):
    distributions = ("eventsourcing", "psycopg")

    async def install(self) -> str:
        await self.open(1)
        return (
            "Application with PostgresApplicationRecorder, POSTGRES_ENABLE_DB_FUNCTIONS off (its safe path: the table "
            "is locked until the COMMIT), JSONTranscoder, POSTGRES_POOL_SIZE of as many as writers, which are threads; "
            f"select_notifications in pages of {PAGE:,}; ProjectionRunner, one transaction for each event"
        )

    def _environment(self, connections: int) -> dict[str, str]:
        told = conninfo_to_dict(self.dsn)
        return {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(told["dbname"]),
            "POSTGRES_HOST": str(told["host"]),
            "POSTGRES_PORT": str(told.get("port") or 5432),
            "POSTGRES_USER": str(told["user"]),
            "POSTGRES_PASSWORD": str(told.get("password") or "none"),
            "POSTGRES_POOL_SIZE": str(connections),
        }

    async def open(self, connections: int) -> None:
        self._env = self._environment(connections)
        self._app = Carts(env={**self._env, "APPLICATION_RECORDER_TOPIC": get_topic(Working)})

    async def close(self) -> None:
        if hasattr(self, "_app"):
            self._app.close()

    async def append(self, stream: UUID, version: int, size: int, work: float) -> None:
        self._put(stream, version, size, work)

    def _put(self, stream: UUID, version: int, size: int, work: float) -> None:
        now = datetime.now(UTC)
        events: list[Any] = []
        for number in range(version + 1, version + size + 1):
            envelope: dict[str, Any] = {"originator_id": stream, "originator_version": number, "timestamp": now}
            if number == 1:
                events.append(Cart.Started(originator_topic=get_topic(Cart), **envelope, **item(0)))
            else:
                events.append(Cart.ItemAdded(**envelope, **item(number - 1)))
        self._app.events.put(events, **({"work": work} if work else {}))

    async def write(self, first: int, calls: int, size: int, writers: int, work: float) -> None:
        def writer(number: int) -> None:
            for stream, version in plan(first, number, calls, size):
                self._put(stream, version, size, work)

        def all_of_them() -> None:
            with ThreadPoolExecutor(writers) as threads:
                for done in [threads.submit(writer, number) for number in range(writers)]:
                    done.result()

        await asyncio.to_thread(all_of_them)

    async def read_stream(self, stream: UUID) -> int:
        return len(list(self._app.events.get(stream)))

    async def read_feed(self) -> int:
        count, last = 0, 0
        while True:
            found = self._app.recorder.select_notifications(last, PAGE, inclusive_of_start=False)
            count += len([self._app.mapper.to_domain_event(each) for each in found])
            if len(found) < PAGE:
                return count
            last = found[-1].id

    async def project(self, events: int) -> None:
        last = self._app.recorder.max_notification_id()
        with ProjectionRunner(
            application_class=Carts, projection_class=Totals, view_class=Total, env=self._env
        ) as runner:
            runner.wait(last, timeout=600)

    async def load(self, stream: UUID, *, snapshots: bool) -> int:
        repository = self._app.repository
        if snapshots:
            found: Cart = repository.get(stream)
        else:
            found = type(repository)(self._app.events).get(stream)
        return found.items

    async def take_snapshot(self, stream: UUID) -> None:
        self._app.take_snapshot(stream)


if __name__ == "__main__":
    main(Eventsourcing)
