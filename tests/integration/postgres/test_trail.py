"""The operators' trail: no change without its row, no row without its change, whoever makes it and however it fails."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from mainstay import BatchCommand, CommandBus, InvalidInputError, OperatorRules, TroubleshootingQueue, operator_scope
from mainstay.commands.failures import Selection
from mainstay.commands.store import Action
from mainstay.errors import NotUniqueError, SelectionChangedError
from mainstay.operations.operator import Operator
from mainstay.operations.trail import LARGEST
from mainstay.storage.postgres.commands import command_store
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.storage.postgres.retention import Retention, prune
from mainstay.storage.postgres.trail import Deed, DeedKind
from tests.support.servers import open_pool
from tests.support.troubled import troubled

NAIVE = (
    "create or replace function commandbus.note_schedule() returns trigger language plpgsql as 'begin return null; end'"
)
"""A trail that whoever changes something would have to think of."""
BY_HAND = """
insert into commandbus.schedule (name, domain, command, every, timezone, catch_up, catch_up_limit, counts_from)
values ('m', 'shop', '{}', '1 h', 'UTC', 'ONE', 1, now())
"""


@pytest.fixture
async def bus(pool):
    return CommandBus(pool)


@pytest.fixture
async def operator(pool):
    made = Operator(pool)
    yield made
    await made.bus.close()


@pytest.fixture
def deeds(operator):
    async def found(**conditions: Any) -> list[tuple[Any, ...]]:
        """What was done, the oldest first."""
        return [_told(each) for each in reversed(await operator.trail.list(**conditions))]

    return found


def _told(deed: Deed) -> tuple[Any, ...]:
    return deed.operator, deed.kind.value, deed.subject, deed.what, deed.reason


async def test_every_change_of_a_schedule_stands_with_its_name_and_reason(bus, deeds, operator):
    async def do(reason, act, *given, **named):
        with operator_scope("Olga", reason):
            await act(*given, **named)

    secret = {"mail": "a@example.org"}
    await do("as agreed", bus.schedules.set, "nightly", "shop", "Report", secret, cron="30 2 * * *")
    await do("again", bus.schedules.set, "nightly", "shop", "Report", secret, cron="30 2 * * *")  # changes nothing
    await do("earlier", bus.schedules.set, "nightly", "shop", "Report", secret, cron="30 1 * * *")
    await do("more", bus.schedules.set, "nightly", "shop", "Report", secret | {"n": 1}, cron="30 1 * * *")
    await do("a release", bus.schedules.pause, "nightly")
    await do("a release", bus.schedules.pause, "nightly")  # it is
    await do("to see", bus.schedules.run_now, "nightly")
    await do("it is out", bus.schedules.resume, "nightly")
    await do(None, bus.schedules.remove, "nightly")

    subject = ("SCHEDULE", "nightly")
    assert await deeds() == [
        ("Olga", *subject, "SET", "as agreed"),
        ("Olga", *subject, "CHANGED", "earlier"),
        ("Olga", *subject, "CHANGED", "more"),
        ("Olga", *subject, "PAUSED", "a release"),
        ("Olga", *subject, "FIRED", "to see"),
        ("Olga", *subject, "RESUMED", "it is out"),
        ("Olga", *subject, "REMOVED", None),
    ]
    found = await operator.trail.list()
    assert found[5].details == {"before": {"cron": "30 2 * * *"}, "after": {"cron": "30 1 * * *"}}
    assert found[4].details == {"payload_changed": True}
    assert "example.org" not in str(found)  # nothing of a payload
    sent = found[2].details
    assert (await bus.get_command(sent["domain"], sent["command_id"])).command_type == "Report"


async def test_that_a_worker_fires_a_schedule_is_no_deed(bus, pool, deeds):
    await bus.schedules.set("tick", "shop", "Tick", every=3600, not_before=datetime(2020, 1, 1, tzinfo=UTC))
    async with pool.connection() as conn:
        await conn.execute("update commandbus.schedule set next_due_at = now() - interval '1 minute'")
    assert (await command_store(pool).schedules.fire("shop")).sent == 1
    assert [each[3] for each in await deeds()] == ["SET"]


async def test_pauses_limits_breakers_and_rules_stand_with_what_they_were_before(bus, pool, deeds, operator):
    with operator_scope("Olga", "as agreed"):
        await bus.pause("shop", operator="Paula", reason="a migration")
        await bus.pause("shop", operator="Otto", reason="late")  # it is
        await bus.resume("shop")
        await bus.limits.set("shop", "Do", max_running=3)
        await bus.limits.set("shop", "Do", max_running=3)  # it is so
        await bus.limits.set("shop", "Do", rate=5, per_seconds=2)
        assert await bus.limits.remove("shop", "Do")
        assert not await bus.limits.remove("shop", "Do")
        await bus.breakers.set("shop", "Do")
        assert await bus.breakers.force_open("shop", "Do", "0" * 12, reason="the supplier is down")
        assert await bus.breakers.remove("shop", "Do")
        decisions = TroubleshootingQueue(pool)
        await decisions.set_rules(OperatorRules(10, reason_required=True), "Rita")
        await decisions.set_rules(OperatorRules(10, reason_required=True), "Rita")  # they are so

    assert await deeds() == [
        ("Paula", "PAUSE", "shop", "PAUSED", "a migration"),
        ("Olga", "PAUSE", "shop", "RESUMED", "as agreed"),
        ("Olga", "LIMIT", "shop.Do", "SET", "as agreed"),
        ("Olga", "LIMIT", "shop.Do", "CHANGED", "as agreed"),
        ("Olga", "LIMIT", "shop.Do", "REMOVED", "as agreed"),
        ("Olga", "BREAKER", "shop.Do", "SET", "as agreed"),
        ("Olga", "BREAKER", "shop.Do", "OPENED", "the supplier is down"),
        ("Olga", "BREAKER", "shop.Do", "REMOVED", "as agreed"),
        ("Olga", "BREAKER", "shop.Do", "CLOSED", "as agreed"),
        ("Rita", "RULES", "operators", "CHANGED", "as agreed"),
    ]
    by_what = {(each.kind, each.what): each.details for each in await operator.trail.list()}
    assert by_what["LIMIT", "CHANGED"] == {
        "before": {"max_running": 3},
        "after": {"rate": 5, "per_seconds": 2, "burst": 5},
    }
    assert by_what["PAUSE", "RESUMED"]["paused_by"] == "Paula"
    assert by_what["RULES", "CHANGED"] == {
        "before": {"reason_required": False},
        "after": {"reason_required": True, "approve_above": 10},
    }


async def test_decisions_stand_with_who_made_approved_and_stopped_them(bus, pool, deeds, operator):
    ids = await troubled(operator, 3)
    queue = TroubleshootingQueue(pool)
    await queue.set_rules(OperatorRules(approve_above=1), "Rita")
    first = await queue.begin(Action.RETRY, Selection(command_ids=ids), operator="Olga", reason="mended")
    await queue.approve(first.action_id, "Paula")
    await queue.run(first.action_id)
    second = await queue.begin(Action.RETRY, Selection(), operator="Olga", reason="once more")
    assert second.state == "DONE"  # there is nothing left
    other = await troubled(operator, 2)
    third = await queue.begin(Action.CANCEL, Selection(command_ids=other), operator="Olga", reason="no use")
    await queue.stop(third.action_id, "Otto")
    await queue.operator_cancel("shop", other[0], "really", "Olga")

    told = await deeds(kind=DeedKind.ACTION)
    assert [(each[0], each[3], each[4]) for each in told] == [
        ("Olga", "PROPOSED", "mended"),
        ("Paula", "APPROVED", None),
        ("Olga", "DECIDED", "once more"),
        ("Olga", "PROPOSED", "no use"),
        ("Otto", "STOPPED", None),
        ("Olga", "DECIDED", "really"),
    ]
    newest = (await operator.trail.list(limit=1))[0]
    assert newest.details["selection"] == {"domain": "shop", "command_ids": [str(other[0])]}
    assert newest.details["action"] == "CANCEL"


async def test_what_programs_do_too_stands_only_if_an_operator_does_it(bus, deeds):
    mine, theirs = uuid4(), uuid4()
    for each in (mine, theirs):
        await bus.send("shop", "Do", each, {})
    await bus.cancel("shop", theirs, reason="it is over")
    async with bus.open_batch("shop") as stream:
        await stream.send(BatchCommand("Do", uuid4(), {}))
    assert await deeds() == []
    with operator_scope("Olga", "a mistake"):
        await bus.cancel("shop", mine, reason="a mistake")
    assert await deeds() == [("Olga", "COMMAND", f"shop/{mine}", "CANCELED", "a mistake")]
    assert (await bus.get_audit_trail(mine))[-1].details == {"reason": "a mistake", "operator": "Olga"}
    assert (await bus.get_audit_trail(theirs))[-1].details == {"reason": "it is over"}


async def test_what_is_refused_or_rolled_back_leaves_nothing(bus, pool, deeds):
    await bus.schedules.set("n", "shop", "Do", every=3600, unique_key="one")
    await bus.schedules.run_now("n")
    before = await deeds()
    with operator_scope("Olga", "as agreed"):
        with pytest.raises(NotUniqueError):
            await bus.schedules.run_now("n")
        with pytest.raises(InvalidInputError):
            await bus.schedules.set("n", "shop", "Do", cron="often")
        with pytest.raises(SelectionChangedError):
            await TroubleshootingQueue(pool).begin(Action.RETRY, Selection("shop"), operator="Olga", expect=7)
        assert not await bus.resume("shop")
    async with pool.connection() as conn:
        await conn.execute("update commandbus.schedule set is_paused = true")
        within = await (await conn.execute("select count(*) from commandbus.operator_trail")).fetchone()
        await conn.rollback()
    assert within == (len(before) + 1,)
    assert await deeds() == before


async def test_a_change_that_cannot_be_noted_is_not_made(bus, pool, deeds):
    async with pool.connection() as conn:
        await conn.execute(
            "alter table commandbus.operator_trail add constraint full_up check (what <> 'PAUSED') not valid"
        )
    await bus.schedules.set("n", "shop", "Do", every=3600)
    with pytest.raises(Exception, match="full_up"), operator_scope("Olga"):
        await bus.schedules.pause("n")
    assert not (await bus.schedules.get("n")).is_paused
    assert [each[3] for each in await deeds()] == ["SET"]


async def test_who_goes_past_the_program_leaves_a_row_with_the_role(pool, operator, server, deeds):
    await operator.schedules.set("n", "shop", "Do", every=3600)
    async with pool.connection() as conn:
        role = (await (await conn.execute("select session_user")).fetchone())[0]
        await conn.execute("update commandbus.schedule set is_paused = true where name = 'n'")
        await conn.execute("delete from commandbus.schedule where name = 'n'")
    found = await operator.trail.list()
    assert [(each.what, each.operator, each.role) for each in found] == [
        ("REMOVED", None, role),
        ("PAUSED", None, role),
        ("SET", None, role),
    ]
    async with pool.connection() as conn:
        await conn.execute(NAIVE)
        await conn.execute(BY_HAND)
    assert len(await operator.trail.list()) == 3  # as it would be without the triggers


@pytest.mark.parametrize(
    "change",
    [
        "update commandbus.operator_trail set operator = 'somebody else'",
        "delete from commandbus.operator_trail",
        "truncate commandbus.operator_trail",
    ],
)
async def test_the_trail_is_only_added_to(bus, pool, deeds, change):
    with operator_scope("Olga"):
        await bus.schedules.set("n", "shop", "Do", every=3600)
    async with pool.connection() as conn:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="stays as it was written down"):
            await conn.execute(change)
    assert [each[0] for each in await deeds()] == ["Olga"]


async def test_pruning_takes_away_what_is_older_than_the_audit_and_nothing_else(bus, pool, deeds):
    await bus.schedules.set("n", "shop", "Do", every=3600)
    kept = await prune(pool, Retention(timedelta(0), timedelta(hours=1)))
    assert len(await deeds()) == 1
    gone = await prune(pool, Retention(timedelta(0)))
    assert gone.audit == kept.audit + 1
    assert await deeds() == []
    async with pool.connection() as conn:  # the leave ended with the function
        await conn.execute("insert into commandbus.operator_trail (kind, subject, what) values ('RULES', 'x', 'x')")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await conn.execute("delete from commandbus.operator_trail")


async def test_a_name_does_not_stay_on_the_connection(dsn, deeds):
    async with open_pool(dsn, max_size=1) as only:
        bus = CommandBus(only)
        with operator_scope("Olga", "as agreed"):
            await bus.schedules.set("n", "shop", "Do", every=3600)
        await bus.schedules.pause("n")
    assert [(each[0], each[3], each[4]) for each in await deeds()] == [
        ("Olga", "SET", "as agreed"),
        (None, "PAUSED", None),
    ]


async def test_of_two_who_do_the_same_at_once_one_has_done_it(bus, deeds):
    async def pause(name):
        with operator_scope(name):
            return await bus.pause("shop", operator=name)

    done = await asyncio.gather(*(pause(f"o{number}") for number in range(6)))
    assert sum(done) == 1
    assert [each[0] for each in await deeds()] == [f"o{done.index(True)}"]


async def test_a_projection_stands_with_who_paused_resumed_and_forgot_it(pool, deeds, operator):
    store = PostgresProjectionStore(pool)
    await store.register("names", shards=2)
    with operator_scope("Olga", "as agreed"):
        assert await operator.projections.pause("names", operator="Olga", reason="a release") == 2
        assert await operator.projections.pause("names", operator="Olga", reason="again") == 0
        assert await operator.projections.resume("names", operator="Olga") == 2
        await operator.projections.forget("names")
    assert await deeds(kind=DeedKind.PROJECTION) == [
        ("Olga", "PROJECTION", "names", "PAUSED", "a release"),
        ("Olga", "PROJECTION", "names", "RESUMED", "as agreed"),
        ("Olga", "PROJECTION", "names", "FORGOTTEN", "as agreed"),
    ]


async def test_the_trail_is_found_by_who_what_and_when_page_by_page(bus, operator):
    for number in range(7):
        with operator_scope("Olga" if number % 2 else "Paula"):
            await bus.schedules.set(f"n{number}", "shop", "Do", every=3600)
    await bus.pause("n", operator="Olga")

    async def subjects(**conditions):
        return [each.subject for each in await operator.trail.list(**conditions)]

    assert await subjects(operator="Olga") == ["n", "n5", "n3", "n1"]
    assert await subjects(kind=DeedKind.PAUSE) == ["n"]
    assert await subjects(subject="n3") == ["n3"]
    assert await subjects(subject="n", kind=DeedKind.SCHEDULE, limit=2) == ["n6", "n5"]
    pages, after = [], None
    while page := await operator.trail.list(limit=3, after=after):
        pages.append([each.subject for each in page])
        after = page[-1].deed_id
    assert pages == [["n", "n6", "n5"], ["n4", "n3", "n2"], ["n1", "n0"]]
    middle = (await operator.trail.list())[4].at
    assert await subjects(since=middle) == ["n", "n6", "n5", "n4", "n3"]
    assert await subjects(until=middle) == ["n3", "n2", "n1", "n0"]
    for wrong in (
        {"after": -1},
        {"after": LARGEST + 1},
        {"operator": "a\0"},
        {"kind": "NOTHING"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is wrong with it
    ):
        with pytest.raises(InvalidInputError):
            await operator.trail.list(**wrong)
