"""Threads calling an event loop, and being lent to it."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mainstay.errors import ConfigurationError, PoolClosedError
from mainstay.message import correlated, correlation_id_var
from mainstay.portal import PerProcess, Portal, on_callers_thread
from tests.support.waiting import eventually_sync


@pytest.fixture
def portal():
    made = Portal()
    yield made
    made.stop()


class Thing:
    """Something opened on a portal."""

    def __init__(self):
        self.closed = threading.Event()

    async def close(self):
        self.closed.set()


@pytest.fixture
def things():
    return []


@pytest.fixture
def per_process(things):
    async def open_it():
        things.append(Thing())
        return things[-1]

    made = PerProcess(open_it)
    yield made
    made.close()


async def thread_name():
    return threading.current_thread().name


async def for_ever():
    await asyncio.Event().wait()


# --- portal -----------------------------------------------------------------------------------------------------------


def test_a_call_runs_on_the_portals_thread_and_returns(portal):
    assert portal.call(thread_name) == "mainstay-portal"


def test_an_error_arrives_as_it_was_raised(portal):
    error = LookupError("no such thing")

    async def fail():
        raise error

    with pytest.raises(LookupError) as raised:
        portal.call(fail)

    assert raised.value is error


def test_not_even_an_exit_ends_the_portal(portal):
    async def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        portal.call(leave)

    assert portal.call(thread_name)


def test_calls_of_many_threads_go_on_at_once(portal):
    meeting = asyncio.Barrier(5)

    async def meet():
        await meeting.wait()
        return True

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(lambda _: portal.call(meet), range(5))) == [True] * 5


def test_a_call_keeps_its_callers_context(portal):
    async def look():
        return correlation_id_var.get()

    with correlated("here"):
        assert portal.call(look) == "here"
    assert portal.call(look) is None


async def test_a_call_inside_an_event_loop_is_refused(portal, per_process):
    for call in (lambda: portal.call(thread_name), lambda: per_process.call(None), per_process.open, per_process.close):
        with pytest.raises(ConfigurationError, match="running event loop"):
            call()


def test_what_is_under_way_when_it_stops_is_told(portal):
    began = threading.Event()

    async def begin():
        began.set()
        await for_ever()

    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(portal.call, begin)
        assert began.wait(10)
        portal.stop()
        with pytest.raises(PoolClosedError, match="under way"):
            call.result(10)
    with pytest.raises(PoolClosedError):
        portal.call(thread_name)


def test_an_interrupted_call_is_cancelled(portal):
    canceled = threading.Event()

    async def interrupt():
        def job():
            raise KeyboardInterrupt

        try:
            await on_callers_thread(job)
        except asyncio.CancelledError:
            canceled.set()
            raise

    with pytest.raises(KeyboardInterrupt):
        portal.call(interrupt)

    assert canceled.wait(10)


# --- lending ----------------------------------------------------------------------------------------------------------


def test_a_waiting_thread_can_be_lent(portal):
    async def borrow():
        return await on_callers_thread(threading.current_thread)

    assert portal.call(borrow) is threading.current_thread()


def test_an_error_on_a_lent_thread_is_raised_where_it_was_borrowed(portal):
    async def borrow():
        with pytest.raises(ZeroDivisionError):
            await on_callers_thread(lambda: 1 / 0)
        return await on_callers_thread(lambda: 2)

    assert portal.call(borrow) == 2


def test_a_lent_thread_blocks_nobody_else(portal):
    free = threading.Event()

    async def borrow():
        return await on_callers_thread(lambda: free.wait(10))

    with ThreadPoolExecutor(1) as threads:
        blocked = threads.submit(portal.call, borrow)
        assert portal.call(thread_name)
        free.set()
        assert blocked.result(10)


def test_without_a_thread_to_lend_one_of_the_loops_own_is_used(portal):
    left_behind = []

    async def borrow():
        return await on_callers_thread(threading.current_thread)

    async def leave_behind():
        left_behind.append(asyncio.create_task(borrow()))

    async def look():
        return await left_behind[0]

    assert portal.call(borrow, lends=False) is not threading.current_thread()
    assert asyncio.run(borrow()) is not threading.current_thread()
    portal.call(leave_behind)
    assert portal.call(look) is not None


# --- one for each process ---------------------------------------------------------------------------------------------


def test_threads_that_come_first_together_open_once(per_process, things):
    together = threading.Barrier(8)

    async def same(thing):
        return thing

    def come():
        together.wait(10)
        return per_process.call(same)

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(come) for _ in range(8)]
        assert {id(call.result(10)) for call in calls} == {id(things[0])}
    assert len(things) == 1


def test_what_could_not_be_opened_is_tried_again():
    tries = []

    async def open_it():
        tries.append(1)
        if len(tries) == 1:
            raise LookupError
        return Thing()

    opening = PerProcess(open_it)
    with pytest.raises(LookupError):
        opening.open()
    opening.open()
    opening.open()

    assert len(tries) == 2
    opening.close()


def test_closing_closes_what_was_opened_for_good(per_process, things):
    per_process.open()
    per_process.close()
    per_process.close()

    assert things[0].closed.is_set()
    with pytest.raises(PoolClosedError):
        per_process.open()


def test_closing_what_was_never_opened_opens_nothing(per_process, things):
    per_process.close()

    assert things == []


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_what_nobody_closed_is_closed_when_it_is_collected(things, inside_a_loop):
    async def open_it():
        things.append(Thing())
        return things[-1]

    holder = [PerProcess(open_it)]
    holder[0].open()

    async def drop():
        holder.clear()
        gc.collect()

    if inside_a_loop:
        asyncio.run(drop())
    else:
        holder.clear()
        gc.collect()

    eventually_sync(things[0].closed.is_set)
    eventually_sync(lambda: not [each for each in threading.enumerate() if each.name == "mainstay-portal"])


def test_an_heir_touches_nothing_of_its_parents(per_process, things):
    """What a fork does to it, without one: tests/integration/test_sync.py forks."""
    per_process.open()
    portal, _ = per_process._made

    per_process.forget()
    per_process.open()

    assert len(things) == 2
    assert not things[0].closed.is_set()
    assert portal.call(thread_name)
    portal.stop()
