"""Shadow runs: deciding again on what was decided, with the same code and with other: a suite for every store."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    BusinessRuleException,
    Command,
    DeciderAggregate,
    DomainEvent,
    EventStore,
    HandlerContext,
    HandlerRegistry,
    InvalidInputError,
    Rehearsal,
    StreamId,
    StreamName,
    tenant_scope,
)
from mainstay.commands.shadow import ShadowVerdict
from tests.scenarios.aggregates import Account, Balance, Basket, Deposit, Deposited, Withdraw, Withdrawn
from tests.scenarios.world import DOMAIN, World, WorldSuite


class Strict(DeciderAggregate[Balance, Deposit | Withdraw]):
    """As `Account`, but of amounts above 50 it takes a fee, and it refuses with another code."""

    aggregate_type = "Account"

    @staticmethod
    def initial_state() -> Balance:
        return Balance()

    @staticmethod
    def decide(state: Balance, command: Deposit | Withdraw) -> Iterable[DomainEvent]:
        if isinstance(command, Withdraw) and command.amount > state.amount:
            raise BusinessRuleException("TOO_POOR", "no")
        if isinstance(command, Withdraw):
            return [Withdrawn(amount=command.amount)]
        if command.amount > 50:
            return [Deposited(amount=command.amount), Withdrawn(amount=1)]
        return [Deposited(amount=command.amount)]

    @staticmethod
    def evolve(state: Balance, event: DomainEvent) -> Balance:
        return Account.evolve(state, event)


class ShadowScenarios(WorldSuite):
    """A shadow run tells what other code would have decided otherwise."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def shadow(self, world: World, event_store: EventStore) -> Any:
        """Runs a shadow of a registry, of this world's unless given."""

        async def run(registry: HandlerRegistry | None = None, **options: Any) -> Any:
            rehearsal = Rehearsal(world.store, registry or world.registry, event_store=event_store)
            return await rehearsal.shadow(**options)

        return run

    async def handled(self, world: World, event_store: EventStore, *commands: Any) -> list[UUID]:
        """Handle commands one after another."""
        ids = []
        async with world.working(event_store=event_store):
            for each in commands:
                ids.append((await world.bus.send(each)).command_id)
                await world.settled(ids[-1])
        return ids

    @pytest.fixture
    async def history(self, world: World, event_store: EventStore) -> list[UUID]:
        """Of one account: deposits of 10 and 60, one that was refused, a withdrawal; of another: a deposit."""
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        one, other = UUID(int=1), UUID(int=2)
        return await self.handled(
            world,
            event_store,
            Deposit(account_id=one, amount=10),
            Deposit(account_id=one, amount=60),
            Withdraw(account_id=one, amount=71),
            Withdraw(account_id=one, amount=5),
            Deposit(account_id=other, amount=1),
        )

    def strict(self) -> HandlerRegistry:
        registry = HandlerRegistry()
        registry.register_decider(domain=DOMAIN, decider=Strict)
        return registry

    async def test_the_same_code_decides_the_same(self, world, shadow, history):
        report = await shadow()

        assert (report.checked, report.equal, report.different, report.agrees) == (5, 5, 0, True)
        assert report.last == (await world.bus.list_decisions())[-1].number
        assert len(await world.bus.list_decisions()) == 5

    async def test_what_other_code_decides_otherwise_is_told(self, shadow, history):
        report = await shadow(self.strict())
        fee, refusal = report.differences

        assert (report.equal, report.different, report.agrees) == (3, 2, False)
        assert [each.decision.command_id for each in report.differences] == history[1:3]
        assert [each.what for each in fee.differences] == ["events", "reply"]
        assert [each["payload"] for each in fee.differences[0].before] == [{"amount": 60}]
        assert [each["payload"] for each in fee.differences[0].after] == [{"amount": 60}, {"amount": 1}]
        assert (fee.differences[1].before, fee.differences[1].after) == ({"version": 2}, {"version": 3})
        assert [each.what for each in refusal.differences] == ["outcome"]
        assert refusal.differences[0].before == {"outcome": "FAIL", "error_code": "NOT_ENOUGH"}
        assert refusal.differences[0].after["error_code"] == "TOO_POOR"

    async def test_differences_are_counted_and_the_first_are_kept(self, shadow, history):
        seen = []
        report = await shadow(self.strict(), keep=1, on_each=lambda found: seen.append(found.verdict))

        assert (report.different, len(report.differences)) == (2, 1)
        assert seen.count(ShadowVerdict.DIFFERENT) == 2

    async def test_a_run_goes_on_where_another_ended(self, world, shadow, history, monkeypatch):
        monkeypatch.setattr("mainstay.commands.shadow.PAGE", 2)
        first = await shadow(limit=3)
        rest = await shadow(after=first.last)

        assert (first.checked, rest.checked, (await shadow()).checked) == (3, 2, 5)
        assert first.last == (await world.bus.list_decisions())[2].number

    async def test_a_run_is_of_what_is_asked_for(self, world, shadow, history):
        await world.bus.send("elsewhere", "Do", uuid4(), {})
        decided_at = [each.decided_at for each in await world.bus.list_decisions()]

        assert (await shadow(command_type="Withdraw")).checked == 2
        assert (await shadow(domain="elsewhere")).checked == 0
        assert (await shadow(stream=StreamName("Account", str(UUID(int=2))))).checked == 1
        assert (await shadow(since=decided_at[3])).checked == 2
        assert (await shadow(until=decided_at[3])).checked == 3
        assert (await shadow(until=datetime.now(UTC) - timedelta(days=1))).checked == 0

    async def test_a_handler_is_compared_with_what_it_sends_and_replies(self, world, event_store, shadow):
        def registry_of(note: str, *, reply: dict[str, Any], sends: int) -> HandlerRegistry:
            registry = HandlerRegistry()

            @registry.handler(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
            async def fill(basket: Basket, command: Command, context: HandlerContext) -> dict[str, Any]:
                basket.fill(f"item {basket.version}")
                for number in range(sends):
                    await context.send(DOMAIN, "Next", {"n": number, "note": note})
                return reply

            registry.register(DOMAIN, "Next", lambda command, context: None)
            return registry

        same = {"note": "a", "reply": {"done": True, "at": 1}, "sends": 2}
        world.registry = registry_of(**same)
        for _ in range(3):
            command_id = await world.send("Fill", {"basket_id": "b"})
            async with world.working(event_store=event_store):
                await world.settled(command_id)

        async def differing(**changes: Any) -> list[str]:
            ignore = changes.pop("ignore", ())
            report = await shadow(registry_of(**same | changes), ignore=ignore)
            return [each.what for found in report.differences for each in found.differences]

        assert await differing() == []
        assert await differing(note="b") == ["sends"] * 3
        assert await differing(note="b", ignore=["note"]) == []
        assert await differing(sends=1) == ["sends"] * 3
        assert await differing(sends=3) == ["sends"] * 3
        assert await differing(reply={"done": True, "at": 2}) == ["reply"] * 3
        assert await differing(reply={"done": True, "at": 2}, ignore=["at"]) == []
        assert len(await world.bus.query_commands(command_type="Next")) == 6

    async def test_a_handler_that_fails_or_finds_another_stream_is_a_difference(self, world, shadow, history):
        broken, moved = HandlerRegistry(), HandlerRegistry()

        @broken.handler(Deposit, aggregate=Account)
        async def deposit(account: Account, command: Command, context: HandlerContext) -> None:
            raise KeyError("oh")

        moved.register_decider(domain=DOMAIN, decider=Account, stream=lambda command: UUID(int=1))
        failing = await shadow(broken, command_type="Deposit")
        other = await shadow(moved, stream=StreamName("Account", str(UUID(int=2))))

        assert failing.different == 3
        assert failing.differences[0].differences[0].after == {
            "outcome": "RETRY", "error_code": "KeyError", "error_message": "'oh'"
        }  # fmt: skip
        assert [each.what for each in other.differences[0].differences] == ["stream"]

    async def test_what_cannot_be_compared_is_counted_by_its_reason(self, world, event_store, shadow, history):
        plain = HandlerRegistry()
        plain.register(DOMAIN, "Deposit", lambda command, context: None)
        before = await shadow(plain)
        await event_store.tombstone(StreamId("Account", UUID(int=1)), reason="asked to", actor="ada")
        after = await shadow()

        assert before.not_comparable == {"its handler is not on an aggregate": 3, "it has no handler any more": 2}
        assert (before.checked, before.agrees) == (5, True)
        assert (after.equal, after.not_comparable) == (1, {"its stream is tombstoned": 4})

    async def test_a_tenants_command_is_decided_again_on_its_stream(self, world, event_store, shadow):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        with tenant_scope("blue"):
            await self.handled(
                world,
                event_store,
                Deposit(account_id=UUID(int=1), amount=1),
                Withdraw(account_id=UUID(int=1), amount=2),
            )

        assert ((await shadow()).equal, (await shadow(self.strict())).different) == (2, 1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"limit": 0},
            {"keep": -1},
            {"after": -1},
            {"ignore": "at"},
            {"ignore": 5},
            {"since": "yesterday"},
            {"stream": "Account/17"},
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, world, event_store, shadow, wrong):
        (name,) = wrong
        with pytest.raises(InvalidInputError, match=name):
            await shadow(self.strict(), **wrong)
