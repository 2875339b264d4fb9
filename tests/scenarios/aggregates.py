"""Handlers on aggregates and deciders, from the command to the events: a suite for every store."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    AuditEventType,
    BusinessRuleException,
    Command,
    CommandModel,
    CommandStatus,
    DeciderAggregate,
    DeclarativeAggregate,
    DomainEvent,
    EventStore,
    Failure,
    HandlerContext,
    OptimisticLockError,
    PermanentCommandError,
    SnapshotPolicy,
    StreamId,
    TransientCommandError,
    Worker,
    handles,
)
from tests.scenarios.world import DOMAIN, PATIENCE, REPLIES, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus


class BasketFilled(DomainEvent, event_type="HandledBasketFilled"):
    item: str


class Basket(DeclarativeAggregate[list[str]]):
    aggregate_type = "HandledBasket"

    def fill(self, item: str) -> None:
        if item == "poison":
            raise BusinessRuleException("NOT_SOLD", "we do not sell this")
        self.raise_event(BasketFilled, item=item)

    @handles(BasketFilled)
    def _filled(self, event: BasketFilled) -> None:
        self._state = [*(self._state or []), event.item]


class Deposit(CommandModel, domain=DOMAIN):
    account_id: UUID
    amount: int


class Withdraw(CommandModel, domain=DOMAIN):
    account_id: UUID
    amount: int


class Deposited(DomainEvent, event_type="HandledDeposited"):
    amount: int


class Withdrawn(DomainEvent, event_type="HandledWithdrawn"):
    amount: int


@dataclass(frozen=True)
class Balance:
    amount: int = 0


class Account(DeciderAggregate[Balance, Deposit | Withdraw]):
    aggregate_type = "Account"

    @staticmethod
    def initial_state() -> Balance:
        return Balance()

    @staticmethod
    def decide(state: Balance, command: Deposit | Withdraw) -> Iterable[DomainEvent]:
        if isinstance(command, Deposit):
            return [Deposited(amount=command.amount)]
        if command.amount > state.amount:
            raise BusinessRuleException("NOT_ENOUGH", f"there are {state.amount} only")
        return [Withdrawn(amount=command.amount)]

    @staticmethod
    def evolve(state: Balance, event: DomainEvent) -> Balance:
        if isinstance(event, Deposited):
            return replace(state, amount=state.amount + event.amount)
        assert isinstance(event, Withdrawn)
        return replace(state, amount=state.amount - event.amount)


class AggregateScenarios(WorldSuite):
    """Load, decide, append, next commands, reply, audit and completion are one COMMIT."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def baskets(self, event_store: EventStore) -> AggregateRepository[Basket]:
        return AggregateRepository(event_store, Basket)

    def worker(self, world: World, event_store: EventStore, **options: Any) -> Worker:
        return world.worker(event_store=event_store, **options)

    async def done(self, world: World, event_store: EventStore, *commands: UUID, **options: Any) -> Any:
        async with world.working(self.worker(world, event_store, **options), concurrency=8):
            return await world.settled(*commands)

    # -- what is one COMMIT --------------------------------------------------------------------------------------------
    async def test_what_an_aggregate_raises_is_appended_with_the_completion(self, world, event_store, baskets):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> dict[str, Any]:
            basket.fill(command.data["item"])
            return {"items": basket.version}

        basket_id, correlation_id = uuid4(), uuid4()
        first = await world.send("Fill", {"basket_id": basket_id, "item": "tea"}, correlation_id=correlation_id)
        found = await self.done(world, event_store, first)
        second = await world.send("Fill", {"basket_id": basket_id, "item": "milk"})
        again = await self.done(world, event_store, second)

        assert (found.status, found.result, again.result) == (S.COMPLETED, {"items": 1}, {"items": 2})
        assert (await baskets.load(basket_id)).state == ["tea", "milk"]
        events = [each.event async for each in event_store.read_stream(StreamId("HandledBasket", basket_id))]
        assert [each.causation_id for each in events] == [first, second]
        assert events[0].correlation_id == correlation_id

    async def test_every_reply_to_a_command_that_appended_says_up_to_where(self, world, event_store, baskets):
        basket_id, other = uuid4(), uuid4()

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> str:
            basket.fill("tea")
            return "what a handler says is its own"

        @world.handles(DOMAIN, "FillAnother")
        async def fill_another(command: Command, context: HandlerContext) -> None:
            await baskets.execute(other, lambda basket: basket.fill("milk"))
            if command.data.get("fails"):
                raise BusinessRuleException("NO", "but it has appended")

        @world.handles(DOMAIN, "Look", transactional=True)
        async def look(command: Command, context: HandlerContext) -> int:
            return await baskets.get_version(other)

        @world.handles(DOMAIN, "Leave", aggregate=Basket, stream="basket_id")
        async def leave(basket: Basket, command: Command, context: HandlerContext) -> Failure:
            basket.fill("tea")
            return Failure("NO", "not today")

        data = {"basket_id": basket_id}
        async with world.working(self.worker(world, event_store)):
            replies = [
                await world.bus.request(DOMAIN, command_type, None, {**data, **more}, timeout=PATIENCE)
                for command_type, more in (
                    ("Fill", {}),
                    ("FillAnother", {}),
                    ("FillAnother", {"fails": True}),
                    ("Look", {}),
                    ("Leave", {}),
                )
            ]

        events = [each async for each in event_store.read_all()]
        assert replies[0].data == "what a handler says is its own"
        assert [each.position for each in replies] == [*(each.position for each in events), None, None]
        assert len(events) == 3
        assert [(await world.known(each.command_id)).position for each in replies] == [
            each.position for each in replies
        ]

    async def test_a_refusal_appends_nothing(self, world, event_store, baskets):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> Failure | None:
            basket.fill("tea")
            if command.data["how"] == "return":
                return Failure("NO", "not today")
            basket.fill("poison")
            return None

        basket_id = uuid4()
        sent = [
            await world.send("Fill", {"basket_id": basket_id, "how": how}, reply_to=REPLIES)
            for how in ("return", "raise")
        ]
        await self.done(world, event_store, *sent)

        assert [(await world.known(each)).status for each in sent] == [S.FAILED, S.FAILED]
        assert [(await world.known(each)).last_error_code for each in sent] == ["NO", "NOT_SOLD"]
        assert not await baskets.exists(basket_id)

    async def test_an_error_after_the_decision_appends_nothing_and_the_next_attempt_once(
        self, world, event_store, baskets
    ):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill(f"attempt {context.attempt}")
            await context.send(DOMAIN, "Next", {"attempt": context.attempt})
            if context.attempt == 1:
                raise TransientCommandError("BUSY", "try again")

        world.registry.register(DOMAIN, "Next", lambda command, context: command.data)
        basket_id = uuid4()
        found = await self.done(world, event_store, await world.send("Fill", {"basket_id": basket_id}))

        assert (found.status, found.attempts) == (S.COMPLETED, 2)
        assert (await baskets.load(basket_id)).state == ["attempt 2"]
        sent_on = await world.bus.query_commands(domain=DOMAIN)
        assert [each.data for each in sent_on if each.command_type == "Next"] == [{"attempt": 2}]

    # -- conflicts -----------------------------------------------------------------------------------------------------
    async def test_those_who_are_overtaken_decide_again_and_spend_no_attempt(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        sent = [await world.bus.send(Deposit(account_id=account_id, amount=n)) for n in range(1, 31)]
        await self.done(world, event_store, *(each.command_id for each in sent))
        known = [await world.known(each.command_id) for each in sent]

        assert {(each.status, each.attempts) for each in known} == {(S.COMPLETED, 1)}
        assert sorted(each.result["version"] for each in known) == list(range(1, 31))
        account = await AggregateRepository(event_store, Account).load(account_id)
        assert (account.version, account.state) == (30, Balance(sum(range(1, 31))))

    async def test_one_who_is_overtaken_each_time_is_given_back_and_spends_no_attempt(
        self, world, event_store, baskets, monkeypatch
    ):
        monkeypatch.setattr("mainstay.commands.execution.TRIES", 2)
        basket_id, tries = uuid4(), []

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            tries.append(basket.version)
            if len(tries) <= 3:
                await baskets.execute(basket_id, lambda other: other.fill("quicker"))
            basket.fill("tea")

        command_id = await world.send("Fill", {"basket_id": basket_id})
        found = await self.done(world, event_store, command_id)

        assert (found.status, found.attempts, tries) == (S.COMPLETED, 1, [0, 1, 2, 3])
        assert (await baskets.load(basket_id)).state == ["quicker"] * 3 + ["tea"]
        assert AuditEventType.COMPLETED in await world.events(command_id)

    async def test_a_conflict_that_the_handler_raises_itself_is_one_too(self, world, event_store, baskets):
        tries: list[int] = []

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            tries.append(context.attempt)
            basket.fill("tea")
            if len(tries) == 1:
                raise OptimisticLockError(basket.stream, 0, 1)

        basket_id = uuid4()
        await self.done(world, event_store, await world.send("Fill", {"basket_id": basket_id}))

        assert tries == [1, 1]
        assert (await baskets.load(basket_id)).version == 1

    # -- deciders ------------------------------------------------------------------------------------------------------
    async def test_a_decider_decides_and_the_reply_says_where_the_stream_is(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account, stream=lambda command: command.data.account_id)
        account_id = uuid4()
        deposit = await world.bus.send(Deposit(account_id=account_id, amount=10), reply_to=REPLIES)
        found = await self.done(world, event_store, deposit.command_id)
        withdraw = await world.bus.send(Withdraw(account_id=account_id, amount=11))
        refused = await self.done(world, event_store, withdraw.command_id)

        horizon = await event_store.horizon()
        assert found.result == {"version": 1, "position": horizon.position}
        assert (found.position, refused.position) == (horizon.position, None)
        assert (refused.status, refused.last_error_code) == (S.FAILED, "NOT_ENOUGH")

    async def test_a_plain_handler_gets_the_aggregate_in_its_thread(self, world, event_store, baskets):
        @world.handles(DOMAIN, "Fill", aggregate=Basket)
        def fill(basket: Basket, command: Command, context: Any) -> None:
            basket.fill(command.data["item"])
            context.send(DOMAIN, "Next", {})

        world.registry.register(DOMAIN, "Next", lambda command, context: None)
        basket_id = uuid4()
        command_id = await world.send("Fill", {"handled_basket_id": basket_id, "item": "tea"})
        found = await self.done(world, event_store, command_id)

        assert found.result["version"] == 1
        assert (await baskets.load(basket_id)).state == ["tea"]

    async def test_a_snapshot_is_left_after_the_commit_if_it_is_time(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        for amount in (1, 2, 3):
            sent = await world.bus.send(Deposit(account_id=account_id, amount=amount))
            await self.done(world, event_store, sent.command_id, snapshots=SnapshotPolicy.every(2))

        async def kept() -> bool:
            found = await event_store.snapshots.load(StreamId("Account", account_id))
            return found is not None and found.version == 2

        await eventually(kept)
        loaded = await AggregateRepository(event_store, Account, snapshots=SnapshotPolicy.every(2)).load(account_id)
        assert (loaded.version, loaded.state) == (3, Balance(6))

    # -- what is wrong -------------------------------------------------------------------------------------------------
    async def test_a_command_that_names_no_aggregate_goes_to_an_operator(self, world, event_store):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            raise AssertionError

        found = await self.done(world, event_store, await world.send("Fill", {"basket": str(uuid4())}))

        assert (found.status, found.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "NO_AGGREGATE_ID")
        assert "'basket_id' in its payload must say which Basket it is for" in str(found.last_error_msg)

    async def test_an_id_that_no_stream_can_have_goes_to_an_operator(self, world, event_store):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            raise AssertionError

        found = await self.done(world, event_store, await world.send("Fill", {"basket_id": " "}))

        assert (found.status, found.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 1)
        assert "a stream's id must be 1 to 200 printable characters" in str(found.last_error_msg)

    @pytest.mark.parametrize("group_commit", [True, False])
    async def test_what_is_no_id_at_all_of_a_deciders_stream_goes_to_an_operator(
        self, world, event_store, group_commit
    ):
        world.registry.register_decider(domain=DOMAIN, decider=Account, stream=lambda command: [1])
        sent = await world.bus.send(Deposit(account_id=uuid4(), amount=1))
        found = await self.done(world, event_store, sent.command_id, group_commit=group_commit)

        assert (found.status, found.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 1)
        assert "a stream's id must be" in str(found.last_error_msg)

    async def test_a_permanent_error_after_the_decision_appends_nothing(self, world, event_store, baskets):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            if command.data["fails"]:
                raise PermanentCommandError("BAD", "no")

        basket_id = uuid4()
        for fails in (True, False):
            await self.done(world, event_store, await world.send("Fill", {"basket_id": basket_id, "fails": fails}))

        assert (await baskets.load(basket_id)).version == 1

    async def test_commands_for_many_aggregates_at_once_are_decided_each_once(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        accounts = [uuid4() for _ in range(10)]
        sent = await asyncio.gather(
            *(world.bus.send(Deposit(account_id=each, amount=n)) for each in accounts for n in range(5))
        )
        await self.done(world, event_store, *(each.command_id for each in sent))

        repository = AggregateRepository(event_store, Account)
        assert {(await repository.load(each)).state for each in accounts} == {Balance(10)}
        assert {(await repository.get_version(each)) for each in accounts} == {5}
