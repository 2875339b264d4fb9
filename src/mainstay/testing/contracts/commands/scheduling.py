"""Schedules: each due time fired once, caught up as asked, and left alone while paused."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.command import OnConflict, SendResult
from mainstay.commands.schedule import CatchUp, NewSchedule, Schedule, due_id
from mainstay.commands.store import CommandStore, NotUnique, Refusal, Verb
from mainstay.errors import InvalidOperationError
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new

NAME = "nightly"
MINUTE = timedelta(minutes=1)
#: Longer than what any test lets pass: due once, and not again.
LONG = timedelta(days=1)
COMMAND_FIELDS = (
    *("domain", "command_type", "data", "reply_to", "max_attempts", "headers", "key", "priority"),
    *("unique_key", "unique_for", "on_conflict"),
)
UNIQUE = {"unique_key": "report", "on_conflict": OnConflict.SKIP}


class SchedulingContract(CommandStoreSuite):
    """Schedules: each due time fired once, caught up as asked, and left alone while paused."""

    async def let_time_pass(self, store: Any, passed: timedelta) -> None:
        """Let all schedules be so much older."""
        raise NotImplementedError

    async def scheduled(self, store: CommandStore, name: str = NAME, **changes: Any) -> Schedule:
        """Set a schedule; it is due every minute unless told otherwise."""
        command = new(**{key: changes.pop(key) for key in list(changes) if key in COMMAND_FIELDS})
        fields: dict[str, Any] = {
            "cron": None,
            "every": None if "cron" in changes else MINUTE,
            "timezone": "UTC",
            "not_before": None,
            "catch_up": CatchUp.ONE,
            "catch_up_limit": 100,
        }
        return await store.schedules.set(NewSchedule(name, command, **fields | changes))

    async def schedule(self, store: CommandStore, name: str = NAME) -> Schedule:
        """A schedule that must exist."""
        found = await store.schedules.get(name)

        assert found is not None
        return found

    async def fire(self, store: CommandStore) -> int:
        """Fire what is due; how many commands were sent."""
        return (await store.schedules.fire(DOMAIN)).sent

    # -- setting ------------------------------------------------------------------------------------------------------
    async def test_a_schedule_is_kept_as_it_was_set(self, store: CommandStore) -> None:
        made = await self.scheduled(
            store,
            cron="*/5 * * * *",
            timezone="Europe/Berlin",
            catch_up=CatchUp.ALL,
            catch_up_limit=7,
            data={"report": 1},
            reply_to=REPLIES,
            max_attempts=9,
            headers=b'{"by":"ops"}',
            priority=2,
        )

        assert made == await self.schedule(store)
        assert (made.name, made.domain, made.command_type, made.data) == (NAME, DOMAIN, "CreateOrder", {"report": 1})
        assert (made.cron, made.every, made.timezone) == ("*/5 * * * *", None, "Europe/Berlin")
        assert (made.catch_up, made.catch_up_limit, made.reply_to, made.max_attempts) == (CatchUp.ALL, 7, REPLIES, 9)
        assert (made.headers, made.key, made.priority, made.not_before) == ({"by": "ops"}, None, 2, None)
        assert (made.sent_count, made.last_due_at, made.last_command_id, made.last_error) == (0, None, None, None)
        assert not made.is_paused
        assert made.next_due_at is not None
        assert made.next_due_at.tzinfo is not None
        assert timedelta(0) < made.next_due_at - made.updated_at <= timedelta(minutes=5)

    async def test_schedules_are_listed_by_name_and_domain(self, store: CommandStore) -> None:
        for name, domain in (("b", DOMAIN), ("a", DOMAIN), ("c", "other")):
            await self.scheduled(store, name, domain=domain)

        assert [each.name for each in await store.schedules.find(DOMAIN)] == ["a", "b"]
        assert [each.name for each in await store.schedules.find(None)] == ["a", "b", "c"]
        assert await store.schedules.find("nobody") == []

    async def test_setting_what_is_set_changes_no_due_time(self, store: CommandStore) -> None:
        first = await self.scheduled(store)
        await self.let_time_pass(store, 3 * MINUTE / 2)
        before = await self.schedule(store)

        again = await self.scheduled(store, data={"n": 2})

        assert (again.next_due_at, again.counts_from) == (before.next_due_at, before.counts_from)
        assert (first.data, again.data, again.created_at) == ({"n": 1}, {"n": 2}, first.created_at)
        assert await self.fire(store) == 1

    async def test_a_change_of_what_was_seen_loses_nobody_elses(self, store: CommandStore) -> None:
        first = await self.scheduled(store)
        second = await self.scheduled(store, data={"n": 2}, seen=first.updated_at)

        with pytest.raises(InvalidOperationError, match="changed meanwhile"):
            await self.scheduled(store, data={"n": 3}, seen=first.updated_at)
        assert await self.schedule(store) == second
        await store.schedules.remove(NAME)
        with pytest.raises(InvalidOperationError, match="removed meanwhile"):
            await self.scheduled(store, seen=second.updated_at)
        assert await store.schedules.find(None) == []

    async def test_of_two_who_change_what_they_saw_at_the_same_time_one_does(self, store: CommandStore) -> None:
        seen = (await self.scheduled(store)).updated_at
        changes = [self.scheduled(store, data={"n": n}, seen=seen) for n in range(4)]

        done = await asyncio.gather(*changes, return_exceptions=True)

        made = [each for each in done if isinstance(each, Schedule)]
        assert [type(each) for each in done if not isinstance(each, Schedule)] == [InvalidOperationError] * 3
        assert made == [await self.schedule(store)]

    async def test_a_new_rule_counts_from_now(self, store: CommandStore) -> None:
        await self.scheduled(store)
        await self.let_time_pass(store, 10 * MINUTE)

        changed = await self.scheduled(store, every=2 * MINUTE)

        assert changed.next_due_at is not None
        assert MINUTE < changed.next_due_at - changed.updated_at <= 2 * MINUTE
        assert await self.fire(store) == 0

    async def test_a_schedule_may_begin_later(self, store: CommandStore) -> None:
        begin = (await self.scheduled(store)).created_at + LONG

        changed = await self.scheduled(store, not_before=begin)

        assert changed.next_due_at == changed.not_before == begin

    async def test_removed_is_gone(self, store: CommandStore) -> None:
        await self.scheduled(store)
        await self.let_time_pass(store, 2 * MINUTE)

        assert await store.schedules.remove(NAME)
        assert not await store.schedules.remove(NAME)
        assert await store.schedules.get(NAME) is None
        assert await self.fire(store) == 0

    async def test_of_what_does_not_exist_nothing_is_changed(self, store: CommandStore) -> None:
        assert await store.schedules.get("nobody") is None
        assert await store.schedules.pause("nobody") is None
        assert await store.schedules.resume("nobody") is None
        assert await store.schedules.run_now("nobody", uuid4()) is None

    # -- firing -------------------------------------------------------------------------------------------------------
    async def test_nothing_is_fired_before_it_is_due(self, store: CommandStore) -> None:
        nothing = await store.schedules.fire(DOMAIN)
        await self.scheduled(store)

        fired = await store.schedules.fire(DOMAIN)

        assert nothing == (0, None)
        assert fired.sent == 0
        assert fired.due_in is not None
        assert 0 < fired.due_in <= 60
        assert await self.received(store) == []

    async def test_a_due_time_is_fired_once(self, store: CommandStore) -> None:
        await self.scheduled(
            store, every=LONG, data={"report": 1}, headers=b'{"by":"ops"}', reply_to=REPLIES, max_attempts=9
        )
        await self.let_time_pass(store, LONG + MINUTE)
        due = (await self.schedule(store)).next_due_at

        assert [await self.fire(store) for _ in range(2)] == [1, 0]
        (received,) = await self.received(store)
        after = await self.schedule(store)

        assert due is not None
        assert received.command.command_id == received.command.correlation_id == due_id(NAME, due)
        assert (received.command.data, received.command.reply_to) == ({"report": 1}, REPLIES)
        assert received.max_attempts == 9
        assert received.command.headers["by"] == "ops"
        assert received.command.headers["schedule"] == NAME
        assert due.isoformat()[:10] in received.command.headers["due_at"]
        assert (after.sent_count, after.last_due_at, after.last_command_id) == (1, due, received.command.command_id)
        assert after.next_due_at == due + LONG

    async def test_who_fires_at_the_same_time_fires_once(self, store: CommandStore) -> None:
        for number in range(5):
            await self.scheduled(store, f"{NAME}-{number}", every=LONG)
        await self.let_time_pass(store, LONG + MINUTE)

        sent = await asyncio.gather(*(self.fire(store) for _ in range(6)))

        assert sum(sent) == 5
        assert len(await self.received(store)) == 5
        assert await self.fire(store) == 0

    async def test_a_due_time_that_was_fired_before_is_passed_by(self, store: CommandStore) -> None:
        await self.scheduled(store, every=LONG)
        await self.let_time_pass(store, LONG + MINUTE)
        due = (await self.schedule(store)).next_due_at
        assert due is not None
        await self.sent(store, new(command_id=due_id(NAME, due)))

        assert await self.fire(store) == 0
        assert (await self.schedule(store)).next_due_at == due + LONG
        assert len(await self.received(store)) == 1

    async def test_only_the_schedules_of_the_domain_are_fired(self, store: CommandStore) -> None:
        await store.ensure_queue("other")
        await self.scheduled(store, "elsewhere", domain="other", every=LONG)
        await self.let_time_pass(store, LONG + MINUTE)

        assert await self.fire(store) == 0
        assert (await store.schedules.fire("other")).sent == 1

    async def test_one_that_cannot_be_fired_stays_due_and_holds_up_no_other(self, store: CommandStore) -> None:
        await self.scheduled(store, "a", reply_to="nowhere", every=LONG)
        await self.scheduled(store, "b", every=LONG)
        await self.let_time_pass(store, LONG + MINUTE)
        due = (await self.schedule(store, "a")).next_due_at

        assert await self.fire(store) == 1
        stuck = await self.schedule(store, "a")
        await self.create_queue(store, "nowhere")
        mended = await self.fire(store)

        assert stuck.next_due_at == due
        assert stuck.last_error
        assert mended == 1
        assert (await self.schedule(store, "a")).last_error is None

    # -- catching up --------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        ("catch_up", "limit", "expected"),
        [(CatchUp.ONE, 100, [5]), (CatchUp.ALL, 100, [1, 2, 3, 4, 5]), (CatchUp.ALL, 2, [4, 5]), (CatchUp.SKIP, 1, [])],
        ids=["one", "all", "all within a limit", "skip"],
    )
    async def test_what_was_missed_is_caught_up_as_asked(
        self, store: CommandStore, catch_up: CatchUp, limit: int, expected: list[int]
    ) -> None:
        await self.scheduled(store, every=10 * MINUTE, catch_up=catch_up, catch_up_limit=limit)
        await self.let_time_pass(store, 55 * MINUTE)
        begin = (await self.schedule(store)).counts_from

        sent = await self.fire(store)
        received = [one.command.command_id for one in await self.received(store)]
        after = await self.schedule(store)

        assert sent == len(expected)
        assert received == [due_id(NAME, begin + number * 10 * MINUTE) for number in expected]
        assert after.next_due_at == begin + 60 * MINUTE
        assert after.sent_count == len(expected)

    async def test_one_that_skips_is_fired_when_it_is_only_a_little_late(self, store: CommandStore) -> None:
        await self.scheduled(store, every=10 * MINUTE, catch_up=CatchUp.SKIP)
        await self.let_time_pass(store, 20 * MINUTE + timedelta(seconds=5))

        assert await self.fire(store) == 1

    # -- pausing ------------------------------------------------------------------------------------------------------
    async def test_while_it_is_paused_nothing_is_fired_nor_caught_up(self, store: CommandStore) -> None:
        await self.scheduled(store, every=10 * MINUTE, catch_up=CatchUp.ALL)
        paused = await store.schedules.pause(NAME)
        await self.let_time_pass(store, 55 * MINUTE)

        while_paused = await store.schedules.fire(DOMAIN)
        set_anew = await self.scheduled(store, every=10 * MINUTE, catch_up=CatchUp.ALL)
        resumed = await store.schedules.resume(NAME)

        assert paused is not None
        assert paused.is_paused
        assert while_paused == (0, None)
        assert set_anew.is_paused
        assert resumed is not None
        assert not resumed.is_paused
        assert resumed.next_due_at == resumed.counts_from + 60 * MINUTE
        assert await self.fire(store) == 0

    async def test_resuming_what_is_not_paused_changes_nothing(self, store: CommandStore) -> None:
        await self.scheduled(store)
        await self.let_time_pass(store, 3 * MINUTE / 2)
        before = await self.schedule(store)

        assert await store.schedules.resume(NAME) == before
        assert await self.fire(store) == 1

    # -- running now --------------------------------------------------------------------------------------------------
    async def test_it_can_be_run_now_and_keeps_its_due_times(self, store: CommandStore) -> None:
        await self.scheduled(store, data={"report": 1}, headers=b'{"by":"ops"}')
        await store.schedules.pause(NAME)
        before = await self.schedule(store)
        key = uuid4()

        answer = await store.schedules.run_now(NAME, key)
        again = await store.schedules.run_now(NAME, key)
        (received,) = await self.received(store)

        assert isinstance(answer, SendResult)
        assert answer.command_id == received.command.command_id == key
        assert again is Refusal.DUPLICATE
        assert received.command.data == {"report": 1}
        assert received.command.headers["by"] == "ops"
        assert received.command.headers["schedule"] == NAME
        assert await self.schedule(store) == before

    async def test_what_cannot_be_sent_now_is_refused(self, store: CommandStore) -> None:
        await self.scheduled(store, reply_to="nowhere")

        assert await store.schedules.run_now(NAME, uuid4()) is Refusal.REPLY_QUEUE_NOT_FOUND

    async def test_ids_differ_by_schedule_and_by_due_time(self, store: CommandStore) -> None:
        due = (await self.scheduled(store)).counts_from
        ids: set[UUID] = {due_id(name, due + n * MINUTE) for name in ("a", "b") for n in range(3)}

        assert len(ids) == 6

    # -- unique keys --------------------------------------------------------------------------------------------------
    async def test_a_due_time_is_passed_by_while_the_command_before_is_live(self, store: CommandStore) -> None:
        set_as = await self.scheduled(store, **UNIQUE, unique_for=1e-6)
        await self.let_time_pass(store, 3 * MINUTE / 2)
        first = await self.fire(store)
        await self.let_time_pass(store, 3 * MINUTE / 2)
        second = await self.fire(store)
        found = await self.schedule(store)
        (received,) = await self.received(store)

        assert (set_as.unique_key, set_as.unique_for) == ("report", timedelta(microseconds=1))
        assert (first, second, found.sent_count, found.skipped_count, found.last_error) == (1, 0, 1, 1, None)
        assert found.last_command_id == received.command.command_id
        assert await store.schedules.run_now(NAME, uuid4()) == NotUnique(received.command.command_id)

        await self.say(store, received, Verb.COMPLETE)
        await self.let_time_pass(store, 5 * MINUTE / 3)  # no due time as before: its id would be known

        assert await self.fire(store) == 1

    async def test_of_due_times_that_are_caught_up_the_first_takes_the_key(self, store: CommandStore) -> None:
        await self.scheduled(store, **UNIQUE, catch_up=CatchUp.ALL)
        await self.let_time_pass(store, 3 * MINUTE)

        assert await self.fire(store) == 1
        assert (await self.schedule(store)).skipped_count > 1
