"""Setting schedules by the bus: what is refused, what is told; the service that fires them."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mainstay import (
    CatchUp,
    CommandBus,
    CommandModel,
    DuplicateCommandError,
    InvalidInputError,
    MemoryCommandStore,
    QueueNotFoundError,
    ScheduleNotFoundError,
)
from mainstay.clock import FrozenClock
from mainstay.commands import schedules as schedules_module
from mainstay.commands.schedule import Fired
from mainstay.commands.schedules import Scheduler
from tests.support.waiting import eventually


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def bus(clock):
    return CommandBus(MemoryCommandStore(clock), default_max_attempts=7)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cron": None}, "cron or every"),
        ({"every": 60}, "cron or every"),
        ({"cron": "often"}, "cron"),
        ({"cron": None, "every": 0}, "every"),
        ({"timezone": "Berlin"}, "time zone"),
        ({"not_before": datetime(2026, 1, 1)}, "not_before"),  # noqa: DTZ001 - that is what is wrong with it
        ({"catch_up": "some"}, "catch_up"),
        ({"catch_up": None}, "catch_up"),
        ({"catch_up_limit": 0}, "catch_up_limit"),
        ({"catch_up_limit": 1001}, "catch_up_limit"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"domain": "No Domain"}, "domain"),
        ({"command_type": ""}, "command_type"),
        ({"data": [1]}, "JSON object"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"reply_to": "No Queue"}, "queue"),
        ({"headers": "x"}, "headers"),
        ({"priority": 99}, "priority"),
        ({"key": ""}, "key"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_what_cannot_be_a_schedule_is_refused_and_nothing_is_kept(bus, change, told):
    given = {"name": "n", "domain": "orders", "command_type": "Do", "cron": "* * * * *"} | change

    with pytest.raises(InvalidInputError, match=told):
        await bus.schedules.set(**given)
    assert await bus.schedules.list() == []
    with pytest.raises(InvalidInputError, match=told):
        await bus.schedules.preview(**given)


async def test_a_schedule_has_the_buss_defaults(bus):
    made = await bus.schedules.set("n", "orders", "Do", every=timedelta(minutes=5), catch_up="all")

    assert (made.max_attempts, made.data, made.catch_up, made.every) == (7, {}, CatchUp.ALL, timedelta(minutes=5))
    assert made.next_due_at == datetime(2026, 1, 1, 0, 5, tzinfo=UTC)


async def test_a_preview_says_when_it_would_be_due_and_stores_nothing(bus):
    due = await bus.schedules.preview(
        "n",
        "orders",
        "Do",
        cron="30 2 * * MON-FRI",
        timezone="Europe/Berlin",
        not_before=datetime(2099, 1, 1, tzinfo=UTC),
    )

    assert [f"{each:%a %d %H:%M %Z}" for each in due] == [
        "Thu 01 02:30 CET", "Fri 02 02:30 CET", "Mon 05 02:30 CET", "Tue 06 02:30 CET", "Wed 07 02:30 CET",
    ]  # fmt: skip
    assert await bus.schedules.list() == []


async def test_a_preview_of_a_schedule_that_keeps_its_rule_says_the_times_that_it_has(bus):
    made = await bus.schedules.set("n", "orders", "Do", every=3600)

    assert await bus.schedules.preview("n", "orders", "Another", every=3600, count=2) == [
        made.next_due_at,
        made.next_due_at + timedelta(hours=1),
    ]
    changed = await bus.schedules.preview("n", "orders", "Do", every=60, count=1)
    assert timedelta(0) < changed[0] - datetime.now(UTC) <= timedelta(seconds=60)


async def test_a_preview_takes_what_set_takes_and_nothing_else(bus):
    with pytest.raises(TypeError, match="when"):
        await bus.schedules.preview("n", "orders", "Do", every=60, when="now")


async def test_a_typed_command_can_be_scheduled(bus):
    class MakeReport(CommandModel, domain="reports"):
        month: int

    made = await bus.schedules.set("monthly", MakeReport(month=5), cron="0 0 1 * *")

    assert (made.domain, made.command_type) == ("reports", "MakeReport")
    assert made.data["month"] == 5
    with pytest.raises(InvalidInputError, match="typed command"):
        await bus.schedules.set("monthly", MakeReport(month=5), data={}, cron="0 0 1 * *")


async def test_what_does_not_exist_is_told(bus):
    for call in (bus.schedules.remove, bus.schedules.pause, bus.schedules.resume, bus.schedules.run_now):
        with pytest.raises(ScheduleNotFoundError, match="'n'") as raised:
            await call("n")
        assert raised.value.name == "n"
    assert await bus.schedules.get("n") is None


async def test_running_now_tells_why_it_cannot(bus):
    key = uuid4()
    await bus.schedules.set("n", "orders", "Do", every=60)
    await bus.schedules.set("mute", "orders", "Do", every=60, reply_to="nowhere")

    assert (await bus.schedules.run_now("n", key)).command_id == key
    assert (await bus.schedules.run_now("n")).command_id != key
    with pytest.raises(DuplicateCommandError):
        await bus.schedules.run_now("n", key)
    with pytest.raises(QueueNotFoundError, match="nowhere"):
        await bus.schedules.run_now("mute")


async def test_a_look_that_fails_is_repeated(monkeypatch, caplog):
    monkeypatch.setattr(schedules_module, "FIRE_INTERVAL", 0.01)
    looks, woken = [], []

    async def fire(domain):
        looks.append(domain)
        if len(looks) == 1:
            raise OSError
        return Fired(2, None)

    async def wake(domains):
        woken.extend(domains)
        return 0

    async with Scheduler("orders", fire, wake):
        await eventually(lambda: len(woken) >= 4)

    assert set(looks) == set(woken) == {"orders"}
    assert "could not look at schedules" in caplog.text


async def test_it_sleeps_until_the_next_is_due_and_ends_at_once():
    looks = []

    async def fire(domain):
        looks.append(domain)
        return Fired(0, 0.01 if len(looks) < 3 else 1000.0)

    async def wake(domains):
        raise AssertionError

    scheduler = Scheduler("orders", fire, wake)
    async with asyncio.timeout(schedules_module.FIRE_INTERVAL):
        async with scheduler:
            await eventually(lambda: len(looks) == 3)
        await scheduler.stop()

    assert len(looks) == 3
