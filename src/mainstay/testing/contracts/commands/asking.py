"""Asking: lists, trails, numbers and the check of everything."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands.command import CommandMetadata, Place
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Backlog, CommandFilter, CommandStore, DomainStats, Verb
from mainstay.testing.contracts.commands.base import DOMAIN, LEASE, CommandStoreSuite, new, saying

_A, _S = AuditEventType, CommandStatus


class AskingContract(CommandStoreSuite):
    """Asking: lists, trails, numbers and the check of everything."""

    async def listed(self, store: CommandStore, limit: int = 100, offset: int = 0, **which: Any) -> list[UUID]:
        """Ids of the commands that pass a filter."""
        return [command.command_id for command in await store.query(CommandFilter(**which), limit=limit, offset=offset)]

    async def numbers(self, store: CommandStore, domain: str = DOMAIN) -> DomainStats:
        """The numbers of one domain."""
        (numbers,) = await store.stats(domain)

        assert numbers.domain == domain
        return numbers

    # -- commands -----------------------------------------------------------------------------------------------------
    async def test_an_unknown_command_is_none(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store)

        assert await store.get(DOMAIN, uuid4()) is None
        assert await store.get("nobody", command_id) is None

    async def test_commands_are_listed_newest_first_in_pages(self, store: CommandStore) -> None:
        ids = []
        for _ in range(5):
            ids += await self.sent(store)
            self.pass_time(store)

        assert await self.listed(store) == ids[::-1]
        assert (
            await self.listed(store, 2, 0) + await self.listed(store, 2, 2) + await self.listed(store, 2, 4)
            == ids[::-1]
        )
        assert await self.listed(store, 2, 6) == []

    async def test_pages_of_commands_sent_together_neither_repeat_nor_skip(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(9)))

        pages = [await self.listed(store, 4, offset) for offset in (0, 4, 8)]

        assert sorted(command_id for page in pages for command_id in page) == sorted(ids)

    async def test_pages_after_a_command_neither_repeat_nor_skip_though_more_is_sent(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        twin = uuid4()
        early = await self.sent(store, *(new() for _ in range(4)), new(command_id=twin))
        early += await self.sent(store, new(domain="billing", command_id=twin))
        self.pass_time(store)
        late = await self.sent(store, *(new() for _ in range(3)))
        found: list[CommandMetadata] = []
        while page := await store.query(CommandFilter(after=Place.of(found[-1]) if found else None), limit=2, offset=0):
            found += page
            self.pass_time(store)
            await self.sent(store)

        assert sorted(each.command_id for each in found) == sorted(early + late)
        assert {each.command_id for each in found[:3]} == set(late)

    async def test_commands_can_be_filtered_by_their_conversation(self, store: CommandStore) -> None:
        conversation = uuid4()
        mine = await self.sent(store, new(correlation_id=conversation), new(correlation_id=conversation))
        await self.sent(store, new(), new(correlation_id=uuid4()))

        assert set(await self.listed(store, correlation_id=conversation)) == set(mine)
        assert await self.listed(store, correlation_id=conversation, status=_S.FAILED) == []

    async def test_commands_can_be_filtered_by_any_mix(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        ship, create, late = await self.sent(store, new(command_type="ShipOrder"), new(), new(delay=60.0))
        (bill,) = await self.sent(store, new(domain="billing"))
        await self.received(store, limit=1)

        assert set(await self.listed(store)) == {ship, create, late, bill}
        assert set(await self.listed(store, domain=DOMAIN)) == {ship, create, late}
        assert set(await self.listed(store, status=_S.PENDING)) == {create, late, bill}
        assert set(await self.listed(store, domain=DOMAIN, status=_S.PENDING)) == {create, late}
        assert set(await self.listed(store, command_type="ShipOrder", status=_S.IN_PROGRESS)) == {ship}
        assert set(await self.listed(store, command_type="ShipOrder", status=_S.PENDING)) == set()
        assert set(await self.listed(store, domain="nobody")) == set()

    async def test_commands_can_be_filtered_by_the_time_they_were_sent(self, store: CommandStore) -> None:
        (early,) = await self.sent(store)
        self.pass_time(store)
        (late,) = await self.sent(store)
        times = [(await self.known(store, command_id)).created_at for command_id in (early, late)]
        between = times[0] + (times[1] - times[0]) / 2

        assert await self.listed(store, created_after=between) == [late]
        assert await self.listed(store, created_before=between) == [early]
        assert await self.listed(store, created_after=times[0], created_before=times[1]) == [late, early]
        assert await self.listed(store, created_after=times[1] + timedelta(seconds=1)) == []

    # -- audit --------------------------------------------------------------------------------------------------------
    async def test_an_audit_trail_tells_everything_in_order(self, store: CommandStore) -> None:
        first = await self.in_hand(store)
        command_id = first.command.command_id
        await self.say(store, first, Verb.RETRY)
        await self.make_due(store)
        (second,) = await self.received(store)
        await self.say(store, second, Verb.COMPLETE)

        trail = await store.audit_trail(command_id, None)
        times = [event.timestamp for event in trail]

        assert [event.event_type for event in trail] == [
            *(_A.SENT, _A.RECEIVED, _A.FAILED, _A.RETRY_SCHEDULED, _A.RECEIVED, _A.COMPLETED)
        ]
        assert {(event.domain, event.command_id) for event in trail} == {(DOMAIN, command_id)}
        assert times == sorted(times)
        assert all(time.tzinfo is not None for time in times)

    async def test_an_unknown_command_has_no_audit_trail(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store)

        assert await store.audit_trail(uuid4(), None) == []
        assert await store.audit_trail(command_id, "nobody") == []

    # -- numbers ------------------------------------------------------------------------------------------------------
    async def test_the_numbers_of_an_idle_domain_are_zero(self, store: CommandStore) -> None:
        numbers = await self.numbers(store)

        assert sum(numbers.by_status.values()) == 0
        assert (numbers.ready, numbers.in_flight, numbers.deferred) == (0, 0, 0)
        assert numbers.oldest_ready_seconds is None

    async def test_the_numbers_say_where_commands_stand(self, store: CommandStore) -> None:
        await self.sent(store, *(new() for _ in range(6)))
        taken = await self.received(store, limit=4)
        verbs = (Verb.COMPLETE, Verb.FAIL, Verb.TROUBLESHOOT)
        await store.complete(DOMAIN, [saying(each, verb) for each, verb in zip(taken, verbs, strict=False)])
        await self.sent(store, *(new(delay=60.0) for _ in range(3)))
        self.pass_time(store)

        numbers = await self.numbers(store)

        assert {status: count for status, count in numbers.by_status.items() if count} == {
            _S.COMPLETED: 1,
            _S.FAILED: 1,
            _S.IN_TROUBLESHOOTING_QUEUE: 1,
            _S.IN_PROGRESS: 1,
            _S.PENDING: 5,
        }
        assert (numbers.ready, numbers.in_flight, numbers.deferred) == (2, 1, 3)
        assert numbers.oldest_ready_seconds is not None
        assert 0 <= numbers.oldest_ready_seconds < 60

    async def test_what_waits_is_told_of_a_domain_without_counting_what_has_ended(self, store: CommandStore) -> None:
        assert await store.backlog(DOMAIN) == Backlog(0, 0, None, 0)
        await self.sent(store, *(new() for _ in range(6)), new(delay=60.0))
        taken = await self.received(store, limit=3)
        await store.complete(DOMAIN, [saying(taken[0], Verb.COMPLETE), saying(taken[1], Verb.TROUBLESHOOT)])

        found = await store.backlog(DOMAIN)

        assert (found.ready, found.in_flight, found.troubleshooting) == (3, 1, 1)
        assert found.oldest_ready_seconds is not None
        assert 0 <= found.oldest_ready_seconds < 60
        assert await store.backlog("nobody") == Backlog(0, 0, None, 0)

    async def test_numbers_tell_who_waits_for_the_turn_of_a_key(self, store: CommandStore) -> None:
        await self.sent(store, *(new(key="k") for _ in range(3)), new(key="other"), new())
        at_first = await self.numbers(store)
        received = await self.received(store)
        while_handled = await self.numbers(store)
        await store.complete(DOMAIN, [saying(each, Verb.COMPLETE) for each in received])

        assert (at_first.keyed, len(received), while_handled.keyed) == (4, 3, 2)
        await self.eventually(store, lambda: self.received(store))
        assert (await self.numbers(store)).keyed == 1

    async def test_numbers_come_for_one_domain_or_for_all(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        await self.sent(store, new(), new(domain="billing"), new(domain="billing"))

        every = {numbers.domain: numbers.ready for numbers in await store.stats(None)}

        assert every == {DOMAIN: 1, "billing": 2}
        assert (await self.numbers(store, "billing")).ready == 2
        assert await store.stats("nobody") == []

    # -- fsck ---------------------------------------------------------------------------------------------------------
    async def test_the_check_of_an_empty_store_finds_nothing(self, store: CommandStore) -> None:
        report = await store.fsck()

        assert (report.commands, report.findings, report.clean) == (0, (), True)
        assert report.checked

    async def test_the_check_counts_what_it_looked_at(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        await self.sent(store, new(), new(delay=60.0), new(domain="billing"))
        await store.receive("billing", limit=1, lease_seconds=LEASE, worker="w1")

        report = await store.fsck()

        assert (report.commands, report.clean) == (3, True)
