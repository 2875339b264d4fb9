"""Processes whose workers are killed again and again: each step happens once, and every process ends."""

import asyncio
import signal
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel

from mainstay import Mainstay, Process, ProcessStatus, Step
from tests.support.cli import program
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.thorough

PROCESSES = 12
HANDLERS = """
from pydantic import BaseModel

from mainstay import BusinessRuleException, HandlerRegistry, Process, Step, register_processes


class Trip(BaseModel):
    fails: bool = False


class Travel(Process[Trip]):
    process_type = "Travel"
    domain = "travel"
    state_class = Trip

    def start(self, state):
        return Step("travel", "Flight", {"fails": state.fails}, max_attempts=50)

    def on_reply(self, state, reply):
        following = {"Flight": "Hotel", "Hotel": "Car"}.get(reply.step)
        return Step("travel", following, {"fails": state.fails}, max_attempts=50) if following else None

    def compensate(self, state, done):
        return Step("travel", "Undo" + done.step, max_attempts=50)


registry = HandlerRegistry()
register_processes(registry, Travel())


async def book(command, ctx):
    if command.command_type == "Car" and command.data["fails"]:
        raise BusinessRuleException("NO_CAR", "there is none")
    await ctx.conn.execute("insert into booking values (%s, %s)", [command.headers["process_id"], command.command_type])


for step in ("Flight", "Hotel", "Car", "UndoFlight", "UndoHotel"):
    registry.register("travel", step, book, transactional=True)
"""


class Trip(BaseModel):
    """What a trip knows."""

    fails: bool = False


class Travel(Process[Trip]):
    """The beginning of what the workers know: enough to start it."""

    process_type = "Travel"
    domain = "travel"
    state_class = Trip

    def start(self, state):
        return Step("travel", "Flight", {"fails": state.fails}, max_attempts=50)

    def on_reply(self, state, reply):
        raise NotImplementedError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handlers_of_a_trip.py").write_text(HANDLERS)
    return tmp_path


def test_processes_go_on_where_killed_workers_left_them(folder, dsn):
    async def start() -> UUID:
        async with Mainstay.connect(dsn) as app:
            return await app.processes.start_batch(Travel(), [Trip(fails=n % 2 == 1) for n in range(PROCESSES)])

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table booking (process_id text, step text)")
        batch_id = asyncio.run(start())

        def booked() -> int:
            return conn.execute("select count(*) from booking").fetchone()[0]

        def ended() -> bool:
            found = conn.execute("select count(*) from commandbus.process where completed_at is not null").fetchone()
            return found[0] == PROCESSES

        for kill_after in (4, 20, None):
            command = ("worker", "handlers_of_a_trip:registry", "--visibility-timeout", "5", "--concurrency", "3")
            with program(*command, cwd=folder, env={"DATABASE_URL": dsn, "PYTHONPATH": ""}) as worker:
                if kill_after is None:
                    eventually_sync(ended, timeout=180)
                    worker.send_signal(signal.SIGTERM)
                    worker.communicate(timeout=90)
                else:
                    eventually_sync(lambda after=kill_after: booked() >= after, timeout=120)
                    worker.kill()
                    worker.communicate(timeout=90)

        statuses = dict(conn.execute("select status, count(*) from commandbus.process group by status").fetchall())
        bookings = Counter(conn.execute("select process_id, step from booking").fetchall())
        twice = [booking for booking, times in bookings.items() if times > 1]
        steps = Counter(step for _, step in bookings)
        faults = conn.execute("select * from commandbus.find_faults()").fetchall()

    assert statuses == {ProcessStatus.COMPLETED: PROCESSES // 2, ProcessStatus.COMPENSATED: PROCESSES // 2}
    assert twice == []
    half = PROCESSES // 2
    assert steps == {"Flight": PROCESSES, "Hotel": PROCESSES, "Car": half, "UndoHotel": half, "UndoFlight": half}
    assert faults == []
    assert batch_id is not None
