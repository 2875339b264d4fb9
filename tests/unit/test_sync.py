"""The blocking calls, on the store in memory."""

import asyncio
import inspect
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from mainstay import (
    Action,
    BatchCommand,
    CommandBus,
    CommandNotFoundError,
    CommandStatus,
    ConfigurationError,
    DuplicateCommandError,
    HandlerRegistry,
    MemoryCommandStore,
    PermanentCommandError,
    SendRequest,
    SyncCommandBus,
    SyncMainstay,
    SyncSchedules,
    SyncTroubleshootingQueue,
    SyncWorker,
    TroubleshootingQueue,
    Worker,
    actor_scope,
    tenant_scope,
)
from mainstay.commands.breaking import Breakers
from mainstay.commands.limits import Limits
from mainstay.commands.schedules import Schedules
from mainstay.sync import SyncBreakers, SyncLimits
from tests.support.waiting import eventually_sync

PATIENCE = 90.0


@pytest.fixture
def app():
    with SyncMainstay(MemoryCommandStore()) as made:
        yield made


@pytest.fixture
def registry():
    return HandlerRegistry()


@pytest.fixture
def working(app, registry):
    """Starts a worker in a thread; it is stopped at the end and must end well."""
    with ThreadPoolExecutor(1) as threads:
        worker = app.worker("orders", registry)
        runs = []

        def start(**options):
            runs.append(threads.submit(worker.run, **{"poll_interval": 0.05} | options))
            return worker

        yield start
        worker.stop(10)
        for run in runs:
            run.result(PATIENCE)


def settled(bus, command_id, *statuses):
    def look():
        found = bus.get_command("orders", command_id)
        return found if found.status in (statuses or (CommandStatus.COMPLETED,)) else None

    return eventually_sync(look, timeout=PATIENCE)


# --- the same calls ---------------------------------------------------------------------------------------------------


def public_calls(kind):
    return {
        name: member
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name != "close"
    }


def missing(blocking, room):
    """What a room can do and its blocking face cannot, or not with the same arguments."""
    there = public_calls(blocking)
    return [
        name
        for name, member in public_calls(room).items()
        if name not in there or inspect.signature(there[name]) != inspect.signature(member)
    ]


@pytest.mark.parametrize(
    ("blocking", "room"),
    [
        (SyncCommandBus, CommandBus),
        (SyncTroubleshootingQueue, TroubleshootingQueue),
        (SyncSchedules, Schedules),
        (SyncLimits, Limits),
        (SyncBreakers, Breakers),
    ],
    ids=["bus", "troubleshooting", "schedules", "limits", "breakers"],
)
def test_nothing_that_a_room_can_do_is_missing(blocking, room):
    assert missing(blocking, room) == []
    assert not [name for name, member in public_calls(blocking).items() if inspect.iscoroutinefunction(member)]


def test_a_missing_call_is_seen():
    class Room(CommandBus):
        async def request(self, domain): ...

        async def wake(self, domain, count): ...

    assert missing(SyncCommandBus, Room) == ["request", "wake"]


def test_a_worker_takes_what_the_asynchronous_one_takes():
    ours, theirs = (inspect.signature(kind).parameters for kind in (SyncWorker, Worker))

    assert [
        name for name in theirs if name not in ours and theirs[name].kind is not inspect.Parameter.KEYWORD_ONLY
    ] == ["pool"]
    with pytest.raises(TypeError):
        SyncWorker(MemoryCommandStore(), "orders", size=3).run()


# --- sending and asking -----------------------------------------------------------------------------------------------


def test_what_is_limited_and_paused_is_seen_and_let_go(app):
    app.bus.limits.set("orders", "Do", max_running=2)
    app.bus.pause("orders", reason="migration")

    assert [state.limit.max_running for state in app.bus.limits.list()] == [2]
    assert [pause.reason for pause in app.bus.paused()] == ["migration"]
    assert app.bus.limits.remove("orders", "Do")
    assert app.bus.resume("orders")
    assert (app.bus.limits.list(), app.bus.paused()) == ([], [])


def test_what_is_sent_in_a_scope_is_the_tenants_and_the_actors(app):
    command_id = uuid4()
    with tenant_scope("acme"), actor_scope("ann"):
        app.bus.send("orders", "Do", command_id, {})
    found = app.bus.get_command("orders", command_id)

    assert (found.tenant_id, found.actor_id) == ("acme", "ann")


def test_commands_are_sent_and_found(app):
    first, second, third = uuid4(), uuid4(), uuid4()

    assert app.bus.send("orders", "Do", first, {"n": 1}).command_id == first
    sent = app.bus.send_batch([SendRequest("orders", "Do", second, {"n": 2})])
    batch = app.bus.create_batch("orders", [BatchCommand("Do", third, {"n": 3})], name="three")
    app.bus.wake()
    app.bus.wake("orders")

    assert sent.total_commands == 1
    assert app.bus.get_command("orders", first).data == {"n": 1}
    assert app.bus.command_exists("orders", second)
    assert len(app.bus.query_commands(domain="orders")) == 3
    assert app.bus.get_batch("orders", batch.batch_id).name == "three"
    assert [each.command_id for each in app.bus.list_batch_commands("orders", batch.batch_id)] == [third]
    assert len(app.bus.list_batches("orders")) == 1
    assert [each.event_type for each in app.bus.get_audit_trail(first)] == ["SENT"]
    app.bus.cancel("orders", first, reason="enough")
    assert app.bus.get_command("orders", first).status is CommandStatus.CANCELED


def test_a_thread_wakes_for_itself_and_uses_up_nothing_of_others(monkeypatch):
    store = MemoryCommandStore()
    woken = []

    async def wake(domains):
        woken.extend(domains)
        return 0

    monkeypatch.setattr(store, "wake", wake)
    bus = SyncCommandBus(store)
    has_sent, may_wake = threading.Event(), threading.Event()

    class Joined:
        """A transaction that ends at once."""

    async def send(commands, *, conn=None, **options):
        return await type(store).send(store, commands, **options)

    monkeypatch.setattr(store, "send", send)

    def other():
        bus.send("other", "Do", uuid4(), {}, conn=Joined())
        has_sent.set()
        assert may_wake.wait(PATIENCE)
        bus.wake()

    def ended():
        bus.send("ended", "Do", uuid4(), {}, conn=Joined())

    threads = [threading.Thread(target=each) for each in (other, ended)]
    threads[0].start()
    assert has_sent.wait(PATIENCE)
    threads[1].start()  # after that: whoever sends next has what it leaves
    threads[1].join(PATIENCE)
    bus.send("mine", "Do", uuid4(), {}, conn=Joined())
    woken.clear()
    bus.wake()
    mine, woken[:] = sorted(woken), []
    bus.wake()
    assert woken == []
    may_wake.set()
    threads[0].join(PATIENCE)
    bus.wake("other")
    bus.close()

    assert mine == ["ended", "mine"]
    assert woken == ["other", "other"]


def test_schedules_are_set_and_run(app):
    made = app.bus.schedules.set("nightly", "orders", "Do", {"n": 1}, cron="0 3 * * *")
    key = app.bus.schedules.run_now("nightly").command_id

    assert app.bus.schedules.list() == [made]
    assert app.bus.get_command("orders", key).data == {"n": 1}


def test_errors_are_those_of_the_asynchronous_calls(app):
    key = uuid4()
    app.bus.send("orders", "Do", key, {})

    with pytest.raises(DuplicateCommandError):
        app.bus.send("orders", "Do", key, {})
    with pytest.raises(CommandNotFoundError):
        app.bus.cancel("orders", uuid4())


def test_many_threads_share_a_bus(app):
    keys = [uuid4() for _ in range(200)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: app.bus.send("orders", "Do", key, {}), keys))

    assert {each.command_id for each in app.bus.query_commands(limit=1000)} == set(keys)


async def test_inside_an_event_loop_every_call_is_refused(app):
    calls = [
        lambda: app.bus.send("orders", "Do", uuid4(), {}),
        app.troubleshooting.count,
        lambda: app.worker("orders", HandlerRegistry()).run(),
        app.close,
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="running event loop"):
            call()
    await asyncio.to_thread(calls[0])


@pytest.mark.parametrize("source", [None, 5, object()], ids=["nothing", "a number", "an object"])
def test_what_cannot_be_connected_to_is_refused_at_once(source):
    for kind in (SyncMainstay, SyncCommandBus, SyncTroubleshootingQueue, lambda given: SyncWorker(given, "orders")):
        with pytest.raises(ConfigurationError, match="connection string"):
            kind(source)


def test_what_cannot_be_a_connection_string_is_refused_when_it_is_needed():
    with SyncCommandBus(lambda: "not a dsn") as bus, pytest.raises(ConfigurationError, match="connection string"):
        bus.command_exists("orders", uuid4())
    with pytest.raises(ConfigurationError, match="connection string"):
        SyncMainstay.connect("not a dsn")


def test_a_shared_pool_stays_open_when_one_of_its_users_closes(app):
    with SyncCommandBus(app) as bus, SyncTroubleshootingQueue(app) as queue:
        bus.send("orders", "Do", uuid4(), {})
        assert queue.count() == 0

    assert len(app.bus.query_commands()) == 1


# --- working ----------------------------------------------------------------------------------------------------------


def test_a_plain_handler_may_use_the_bus(app, registry, working):
    next_key = uuid4()

    @registry.handler("orders", "Do")
    def do(command, context):
        app.bus.send("orders", "Then", next_key, {"thread": threading.current_thread().name})

    @registry.handler("orders", "Then")
    async def then(command, context):
        return command.data["thread"]

    working()
    first = uuid4()
    app.bus.send("orders", "Do", first, {})
    done = settled(app.bus, first) and eventually_sync(lambda: app.bus.command_exists("orders", next_key))

    assert done
    assert settled(app.bus, next_key).result.startswith("mainstay-handler")
    followed, before = (app.bus.get_command("orders", key) for key in (next_key, first))
    assert followed.correlation_id == before.correlation_id


def test_an_async_handler_that_blocks_the_loop_with_a_call_is_told(app, registry, working):
    @registry.handler("orders", "Do")
    async def do(command, context):
        app.bus.command_exists("orders", command.command_id)

    working()
    key = uuid4()
    app.bus.send("orders", "Do", key, {}, max_attempts=1)

    assert settled(app.bus, key, CommandStatus.IN_TROUBLESHOOTING_QUEUE).last_error_code == "ConfigurationError"


def test_an_operator_decides(app, registry, working):
    @registry.handler("orders", "Do")
    def do(command, context):
        if "account" not in command.data:
            raise PermanentCommandError("NO_ACCOUNT", "no account")

    working()
    keys = [uuid4() for _ in range(4)]
    for key in keys:
        app.bus.send("orders", "Do", key, {})
    queue = app.troubleshooting
    eventually_sync(lambda: queue.count() == 4, timeout=PATIENCE)

    assert {item.last_error_code for item in queue.list_troubleshooting()} == {"NO_ACCOUNT"}
    queue.operator_retry("orders", keys[0], "ada", data={"account": 1})
    queue.operator_cancel("orders", keys[1], "no use", "ada")
    queue.operator_complete("orders", keys[2], {"done": "by hand"}, "ada")
    assert queue.get("orders", keys[3]).command_id == keys[3]
    assert [verdict.applied for verdict in queue.act("orders", keys, Action.CANCEL)] == [False, False, False, True]
    assert settled(app.bus, keys[0])


def test_the_end_of_a_batch_is_called_in_a_thread_that_may_block(app, registry, working):
    @registry.handler("orders", "Do")
    def do(command, context): ...

    told = []

    def complete(batch):
        told.append(app.bus.get_batch("orders", batch.batch_id).completed_count)

    async def complete_on_the_loop(batch):
        told.append(batch.completed_count)

    working()
    for callback in (complete, complete_on_the_loop):
        app.bus.create_batch("orders", [BatchCommand("Do", uuid4(), {})], on_complete=callback)

    eventually_sync(lambda: told == [1, 1], timeout=PATIENCE)


def test_a_worker_runs_once_at_a_time_and_again_after_its_end(app, registry):
    worker = app.worker("orders", registry)
    worker.stop()
    for _ in range(2):
        with ThreadPoolExecutor(1) as threads:
            run = threads.submit(worker.run)
            eventually_sync(lambda: worker.is_running)
            with pytest.raises(ConfigurationError, match="running already"):
                worker.run()
            worker.stop()
            run.result(PATIENCE)
    assert not worker.is_running
    assert worker.in_flight_count == worker.handled_count == 0


def test_draining_finishes_what_was_received_and_run_returns(app, registry):
    started, may_end, drained = threading.Event(), threading.Event(), threading.Event()

    @registry.handler("orders", "Wait")
    def wait(command, context):
        started.set()
        assert may_end.wait(PATIENCE)
        return "done"

    worker = app.worker("orders", registry)
    running = threading.Thread(target=worker.run)
    running.start()
    command_id = app.bus.send("orders", "Wait", uuid4(), {}).command_id
    assert started.wait(PATIENCE)

    def drain():
        worker.drain()
        drained.set()

    draining = threading.Thread(target=drain)
    draining.start()
    may_end.set()
    for each in (draining, running):
        each.join(PATIENCE)

    assert drained.is_set()
    assert not running.is_alive()
    assert app.bus.get_command("orders", command_id).result == "done"
    worker.drain()  # nothing to do


def test_a_wrong_argument_is_told_before_anything_runs(app, registry):
    with pytest.raises(ConfigurationError, match="concurrency"):
        app.worker("orders", registry).run(concurrency=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_first_signal_lets_handlers_finish(app, registry, number):
    before = signal.getsignal(number)
    key = uuid4()

    @registry.handler("orders", "Do")
    def do(command, context):
        os.kill(os.getpid(), number)
        return "finished"

    app.bus.send("orders", "Do", key, {})
    worker = app.worker("orders", registry)
    worker.run()

    assert app.bus.get_command("orders", key).result == "finished"
    assert worker.handled_count == 1
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once_and_gives_back(app, registry):
    key = uuid4()

    @registry.handler("orders", "Do")
    async def do(command, context):
        os.kill(os.getpid(), signal.SIGTERM)  # of two equal ones that come together, one is seen
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    app.bus.send("orders", "Do", key, {})
    app.worker("orders", registry).run(stop_timeout=None)

    found = app.bus.get_command("orders", key)
    assert (found.status, found.attempts) == (CommandStatus.PENDING, 0)
