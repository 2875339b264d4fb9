"""Group commit on PostgreSQL: workers, and crashes at every statement."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import HandlerRegistry, PostgreSQLEventStore
from mainstay.testing.certifier import IdempotencyCertifier
from tests.scenarios.grouping import DeciderScenarios, GroupScenarios, S
from tests.scenarios.postgres import OnPostgres, run
from tests.scenarios.timeouts import TimeoutScenarios
from tests.scenarios.world import DOMAIN
from tests.support.purses import Purse, Sum, Take
from tests.support.waiting import eventually

PURSE = UUID("00000000-0000-4000-8000-000000000001")
OTHER = UUID("00000000-0000-4000-8000-000000000002")


class OnPostgresEvents(OnPostgres):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)


class TestDeciders(OnPostgresEvents, DeciderScenarios):
    pass


class TestTimeouts(OnPostgresEvents, TimeoutScenarios):
    async def test_it_limits_what_one_that_is_committed_alone_waits_for(self, world, purses, event_store):
        worker, commit = world.worker(event_store=event_store, group_commit=False), world.store.commit
        purse_id, free = uuid4(), asyncio.Event()

        async def stall(*args: Any) -> None:
            await free.wait()
            await commit(*args)

        world.store.commit = stall
        sent = await self.sent_in_time(world, purse_id)
        async with world.working(worker):
            await eventually(lambda: self.has_timed_out(world, sent))
            free.set()
            known = await world.settled(sent)

        assert (known.status, known.attempts > 1) == (S.COMPLETED, True)
        assert (await purses.load(purse_id)).state == Sum(1)


class TestGroups(OnPostgresEvents, GroupScenarios):
    @pytest.fixture
    async def refused(self, pool) -> AsyncIterator[int]:
        await run(
            pool,
            """
            create function public.refuse() returns trigger language plpgsql as $$
            begin
                if new.payload ->> 'amount' = '666' then
                    raise exception 'the number of the beast' using errcode = 'check_violation';
                end if;
                return new;
            end $$
            """,
        )
        await run(
            pool,
            "create trigger refuse before insert on eventsource.event for each row execute function public.refuse()",
        )
        yield 666
        await run(pool, "drop trigger refuse on eventsource.event; drop function public.refuse()")

    @pytest.mark.parametrize("is_hot", [True, False], ids=["of one stream", "of many streams"])
    async def test_one_that_the_database_refuses_is_found_and_its_neighbours_are_written(
        self, world, worker, purses, refused, is_hot
    ):
        hot, bad = uuid4(), refused
        commands = [Take(purse_id=hot if is_hot else uuid4(), amount=bad if n == 7 else 1) for n in range(16)]
        sent = await self.sent(world, *commands, max_attempts=2)
        known = await self.done(world, worker, *sent)
        culprit = known.pop(7)

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert (culprit.status, culprit.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 2)
        assert (culprit.last_error_code, "the number of the beast" in culprit.last_error_msg) == ("StorageError", True)
        if is_hot:
            assert (await purses.load(hot)).state == Sum(15)


# -- crashes ---------------------------------------------------------------------------------------------------------
def registry_of(pool: Any) -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.register_decider(domain=DOMAIN, decider=Purse, stream="purse_id")
    return registry


async def what_is_there(conn: Any) -> Any:
    events = await (await conn.execute("select version, payload from eventsource.event order by 1")).fetchall()
    sent = await (
        await conn.execute("select command_id, data from commandbus.command where command_type = 'Take'")
    ).fetchall()
    decided = await (await conn.execute("select version_read, events, sent_ids from commandbus.decision")).fetchall()
    return {"events": events, "sent": sent, "decided": decided}


async def test_a_crash_at_any_statement_of_a_group_leaves_all_of_it_or_nothing(dsn: str) -> None:
    certifier = IdempotencyCertifier(dsn, state=what_is_there)
    found = await certifier.certify(
        registry_of, DOMAIN, "Pay", {"purse_id": str(PURSE), "amount": 10, "to": str(OTHER)}
    )
    print(found)

    assert found.passed
    assert any("commit_group" in each for each in found.boundaries)
    assert (len(found.boundaries), found.runs) == (3, 12)  # the load, a queue for what is sent, and all the rest
