"""In whose name commands are handled, and what led to them: a suite for every store."""

import asyncio
from collections.abc import Iterable
from uuid import uuid4

import pytest

from mainstay import (
    BatchCommand,
    Command,
    CommandModel,
    CommandStatus,
    DeciderAggregate,
    DeclarativeAggregate,
    DomainEvent,
    EventStore,
    InvalidInputError,
    SendRequest,
    StreamId,
    TenantScopeError,
    TransientCommandError,
    actor_scope,
    all_tenants,
    current_actor,
    current_tenant,
    handles,
    tenant_scope,
)
from mainstay.commands.store import CommandFilter, NewCommand
from tests.scenarios.world import DOMAIN, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus
TENANT = uuid4()
NAMES = [(None, None), ("ann", "alice"), ("ben", "bob"), (TENANT, None), (None, "carol")]
BOTH = pytest.mark.parametrize("transactional", [False, True], ids=["plain", "transactional"])


class Stamped(DomainEvent, event_type="NamedStamped"):
    pass


class Card(DeclarativeAggregate[int]):
    aggregate_type = "NamedCard"

    def stamp(self) -> None:
        self.raise_event(Stamped)

    @handles(Stamped)
    def _stamped(self, event: Stamped) -> None:
        self._state = (self._state or 0) + 1


class Count(CommandModel, domain=DOMAIN):
    counter_id: str


class Counted(DomainEvent, event_type="NamedCounted"):
    pass


class Counter(DeciderAggregate[int, Count]):
    aggregate_type = "NamedCounter"

    @staticmethod
    def initial_state() -> int:
        return 0

    @staticmethod
    def decide(state: int, command: Count) -> Iterable[DomainEvent]:
        return [Counted()]

    @staticmethod
    def evolve(state: int, event: DomainEvent) -> int:
        return state + 1


def said(command):
    return command.tenant_id, command.actor_id


class NameScenarios(WorldSuite):
    """Tenant, actor and cause travel with commands."""

    @pytest.fixture
    def event_store(self, store) -> EventStore:
        raise NotImplementedError

    async def all(self, world: World, command_type: str):
        found = await world.store.query(CommandFilter(command_type=command_type), limit=1000, offset=0)
        return sorted(found, key=lambda each: str(each.data))

    # -- sending -------------------------------------------------------------------------------------------------------
    async def test_what_is_sent_in_a_scope_is_the_tenants_and_the_actors(self, world: World) -> None:
        with tenant_scope("ann"), actor_scope("alice"):
            inside = await world.known(await world.send())
            said_so = await world.known(await world.send(tenant_id="ann", actor_id="aunt", headers={"x": 1}))
            await world.bus.send_batch([SendRequest(DOMAIN, "Many", uuid4(), {"n": n}) for n in range(2)])
        outside = await world.known(await world.send())
        of_uuid = await world.known(await world.send(tenant_id=str(TENANT), causation_id=inside.command_id))

        assert (said(inside), inside.causation_id) == (("ann", "alice"), None)
        assert (said(said_so), said_so.headers["x"]) == (("ann", "aunt"), 1)
        assert [said(each) for each in await self.all(world, "Many")] == [("ann", "alice")] * 2
        assert (said(outside), outside.headers) == ((None, None), None)
        assert (of_uuid.tenant_id, of_uuid.causation_id) == (TENANT, inside.command_id)

    async def test_nobody_sends_for_another_tenant_from_a_scope(self, world: World) -> None:
        with tenant_scope("ann"):
            for other in ({"tenant_id": "ben"}, {"headers": {"tenant_id": "ben"}}):
                with pytest.raises(TenantScopeError, match="a command to be sent is of tenant 'ben'"):
                    await world.send(**other)
            with pytest.raises(TenantScopeError):
                await world.bus.create_batch(DOMAIN, [BatchCommand("Do", uuid4(), {}, tenant_id="ben")])
            with all_tenants():
                await world.send(tenant_id="ben")

        assert [each.tenant_id for each in await self.all(world, "Do")] == ["ben"]

    @pytest.mark.parametrize(
        "bad",
        [
            {"tenant_id": ""},
            {"tenant_id": 5},
            {"actor_id": " "},
            {"actor_id": "x" * 201},
            {"causation_id": "x"},
            {"headers": {"tenant_id": []}},
            {"headers": {"causation_id": "?"}},
        ],
    )
    async def test_what_is_no_name_is_refused(self, world: World, bad) -> None:
        with pytest.raises(InvalidInputError):
            await world.send(**bad)

    async def test_commands_are_found_by_their_tenant(self, world: World) -> None:
        ids = {tenant: await world.send(tenant_id=tenant) for tenant in ("ann", "ben", TENANT, None)}

        for tenant in ("ann", "ben", TENANT):
            found = await world.bus.query_commands(domain=DOMAIN, tenant_id=tenant)
            assert [each.command_id for each in found] == [ids[tenant]]
        assert len(await world.bus.query_commands(domain=DOMAIN)) == 4

    # -- handling ------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("how", ["plain", "transactional", "thread", "transactional thread"])
    async def test_a_handler_runs_in_the_name_of_its_command_and_of_no_other(self, world: World, how: str) -> None:
        seen: dict[int, list[tuple[object, object]]] = {}

        def look(command):
            seen.setdefault(command.data["n"], []).append((current_tenant(), current_actor()))

        async def do(command, ctx):
            look(command)
            look(command)
            await asyncio.to_thread(look, command)

        def do_plainly(command, ctx):
            look(command)

        world.handles(DOMAIN, "Do", transactional="transactional" in how)(do_plainly if "thread" in how else do)
        sent = []
        for n in range(15):
            tenant, actor = NAMES[n % len(NAMES)]
            sent.append(await world.send(data={"n": n}, tenant_id=tenant, actor_id=actor))
        with tenant_scope("of whoever started the worker"), actor_scope("somebody"):
            async with world.working():
                await world.settled(*sent)

        assert {n: set(names) for n, names in seen.items()} == {n: {NAMES[n % len(NAMES)]} for n in range(15)}
        assert current_tenant() is current_actor() is None

    @BOTH
    async def test_what_a_handler_sends_is_in_its_commands_name(self, world: World, transactional) -> None:
        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            await ctx.send(DOMAIN, "Next", {"way": "1 ctx"})
            await ctx.send(DOMAIN, "Next", {"way": "2 said"}, actor_id="deputy")
            await world.bus.send(DOMAIN, "Next", uuid4(), {"way": "3 bus"})
            with all_tenants():
                await world.bus.send(DOMAIN, "Next", uuid4(), {"way": "4 for all"})
            if ctx.attempt == 1:
                raise TransientCommandError("BUSY", "again")

        world.handles(DOMAIN, "Next")(lambda command, ctx: None)
        command_id = await world.send(tenant_id="ann", actor_id="alice")
        async with world.working():
            await world.settled(command_id)
        found = {each.data["way"]: each for each in await self.all(world, "Next")}

        assert {way: said(each) for way, each in found.items()} == {
            "1 ctx": ("ann", "alice"),
            "2 said": ("ann", "deputy"),
            "3 bus": ("ann", "alice"),
            "4 for all": (None, "alice"),
        }
        assert {each.causation_id for each in found.values()} == {command_id}

    async def test_an_aggregate_is_loaded_from_its_commands_tenant_and_appended_to_it(
        self, world: World, event_store: EventStore
    ) -> None:
        @world.handles(DOMAIN, "Stamp", aggregate=Card, stream="card")
        async def stamp(card: Card, command: Command, context) -> int:
            card.stamp()
            return card.version

        @world.handles(DOMAIN, "Other", transactional=True)
        async def other(command, ctx) -> None:
            await event_store.append(StreamId("NamedCard", "2"), [Stamped(actor_id="itself"), Stamped()], conn=ctx.conn)

        sent = [
            await world.send("Stamp", {"card": "1"}, tenant_id=tenant, actor_id=actor)
            for tenant, actor in (("ann", "alice"), ("ben", "bob"), ("ann", "alice"), (None, None))
        ]
        if self.joins:
            sent.append(await world.send("Other", tenant_id="ann", actor_id="alice"))
        async with world.working(world.worker(event_store=event_store)):
            await world.settled(*sent)

        async def events(name, tenant):
            found = event_store.read_stream(StreamId("NamedCard", name, tenant))
            return [(each.event.tenant_id, each.event.actor_id) async for each in found]

        assert await events("1", "ann") == [("ann", "alice")] * 2
        assert await events("1", "ben") == [("ben", "bob")]
        assert await events("1", None) == [(None, None)]
        if self.joins:
            assert await events("2", "ann") == [("ann", "itself"), ("ann", "alice")]
        assert {(await world.known(each)).status for each in sent} == {S.COMPLETED}

    async def test_deciders_of_many_tenants_are_decided_on_together_and_kept_apart(
        self, world: World, event_store: EventStore
    ) -> None:
        world.registry.register_decider(domain=DOMAIN, decider=Counter, stream="counter_id")
        tenants = ("ann", "ben", None)
        sent = [
            await world.bus.send(Count(counter_id="1"), tenant_id=tenant, actor_id=actor)
            for _ in range(6)
            for tenant, actor in zip(tenants, ("alice", "bob", None), strict=True)
        ]
        with tenant_scope("of whoever made and started the worker"), actor_scope("somebody"):
            async with world.working(world.worker(event_store=event_store), concurrency=16):
                await world.settled(*(each.command_id for each in sent))

        for tenant, actor in zip(tenants, ("alice", "bob", None), strict=True):
            found = event_store.read_stream(StreamId("NamedCounter", "1", tenant))
            assert [(each.event.tenant_id, each.event.actor_id) async for each in found] == [(tenant, actor)] * 6
        assert {(await world.known(each.command_id)).status for each in sent} == {S.COMPLETED}

    joins = True
    """Whether events can be appended on ``ctx.conn``."""

    async def test_headers_that_name_no_tenant_let_no_handler_run(self, world: World) -> None:
        ran = []
        world.handles(DOMAIN, "Do")(lambda command, ctx: ran.append(command))
        await world.store.ensure_queue(DOMAIN)
        ids = [uuid4(), uuid4()]
        await world.store.send(
            [
                NewCommand(DOMAIN, "Do", ids[0], b"{}", uuid4(), 3, headers=b'{"tenant_id": 5}'),
                NewCommand(DOMAIN, "Do", ids[1], b"{}", uuid4(), 3, headers=b'{"actor_id": "\\n"}'),
            ]
        )
        async with world.working():
            await world.settled(*ids)
        found = [await world.known(each) for each in ids]

        assert [(each.status, each.last_error_code) for each in found] == [
            (S.IN_TROUBLESHOOTING_QUEUE, "INVALID_HEADERS")
        ] * 2
        assert not ran

    # -- carried on ----------------------------------------------------------------------------------------------------
    async def test_a_batch_and_its_end_a_schedule_and_a_reply_are_in_the_senders_name(self, world: World) -> None:
        seen = {}

        def look(command, ctx):
            seen[command.command_type] = (current_tenant(), current_actor(), command.causation_id)

        for command_type in ("Part", "End", "Due"):
            world.handles(DOMAIN, command_type)(look)
        world.handles("answers", "Reply")(look)
        await world.store.ensure_queue("answers")
        with tenant_scope("ann"), actor_scope("alice"):
            part, end, due = uuid4(), uuid4(), uuid4()
            await world.bus.create_batch(
                DOMAIN,
                [BatchCommand("Part", part, {}, reply_to="answers__commands")],
                on_complete=SendRequest(DOMAIN, "End", end, {}),
            )
            await world.bus.schedules.set("nightly", DOMAIN, "Due", {}, cron="0 3 * * *")
        await world.bus.schedules.run_now("nightly", due)
        async with world.working(), world.working(domain="answers"):
            await world.settled(part, due)
            await eventually(lambda: self.all(world, "End"))
            (reply,) = await eventually(lambda: self.all(world, "Reply"))
            await world.settled(end)
            await world.settled(reply.command_id, domain="answers")

        assert seen == {
            "Part": ("ann", "alice", None),
            "End": ("ann", "alice", None),
            "Due": ("ann", "alice", None),
            "Reply": ("ann", "alice", part),
        }

    async def test_a_command_keeps_its_name_in_the_hands_of_an_operator(self, world: World) -> None:
        seen = []

        @world.handles(DOMAIN, "Do")
        async def do(command, ctx):
            seen.append((current_tenant(), current_actor()))
            if "mended" not in command.data:
                raise TransientCommandError("BUSY", "no")

        command_id = await world.send(tenant_id="ann", actor_id="alice", max_attempts=1)
        async with world.working():
            await world.settled(command_id)
            (item,) = await world.tsq.list_troubleshooting(DOMAIN)
            with tenant_scope("an operator's own"), actor_scope("operator"):
                await world.tsq.operator_retry(DOMAIN, command_id, "operator", data={"mended": True})
            await world.settled(command_id)

        assert said(item) == ("ann", "alice")
        assert seen == [("ann", "alice")] * 2
