"""The load generator of the demo: there with ``--demo`` only."""

from dataclasses import dataclass

from pydantic import Field
from starlette.exceptions import HTTPException

from mainstay.commands.command import BatchMetadata
from mainstay.errors import BatchNotFoundError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Nothing, operation
from mainstay.operations.demo.behaviours import CommandBehavior
from mainstay.operations.demo.calculator import Outcomes
from mainstay.operations.demo.generating import MOST, Generated, Generator, Load
from mainstay.operations.demo.handlers import DOMAIN


class LoadAsked(Asked):
    """How many commands, and how likely each attempt is to end how."""

    count: int = Field(10_000, ge=1, le=MOST)
    fail_permanent_pct: float = Field(1.0, ge=0, le=100, description="Fails for good.")
    fail_transient_pct: float = Field(
        5.0, ge=0, le=100, description="Fails so that it is tried again, if not for good."
    )
    fail_business_rule_pct: float = Field(0.0, ge=0, le=100, description="Is refused, if it did not fail.")
    timeout_pct: float = Field(0.0, ge=0, le=100, description="Takes too long, if none of the others.")
    min_duration_ms: float = Field(0.0, ge=0, le=500)
    max_duration_ms: float = Field(20.0, ge=0, le=500)

    def load(self) -> Load:
        """The load.

        Raises:
            InvalidInputError: The least duration is more than the most.
        """
        return Load(self.count, CommandBehavior(**self.model_dump(exclude={"count"})))


@dataclass(frozen=True, slots=True)
class LoadState:
    """A load, what must come of it but for chance, and what has come of it."""

    load: Generated
    expected: Outcomes
    batch: BatchMetadata | None


@operation("GET", "/load/expected", LoadAsked, Outcomes)
async def show_expected(desk: Desk, asked: LoadAsked, _user: User) -> Outcomes:
    """What must come of a load, but for chance."""
    _generator(desk)
    return asked.load().expected()


@operation("GET", "/load", Nothing, list[LoadState])
async def list_loads(desk: Desk, _asked: Nothing, _user: User) -> list[LoadState]:
    """The loads that were begun last from here, the newest first."""
    return [await _state(desk, each) for each in _generator(desk).loads]


@operation("POST", "/load", LoadAsked, LoadState)
async def begin_load(desk: Desk, asked: LoadAsked, user: User) -> LoadState:
    """Send many commands, as one batch in a stream, in the background."""
    return await _state(desk, _generator(desk).begin(asked.load(), user.name))


@operation("POST", "/load/stop", Nothing, LoadState)
async def stop_load(desk: Desk, _asked: Nothing, _user: User) -> LoadState:
    """Send no more of the load that is being sent; what was sent is handled."""
    return await _state(desk, await _generator(desk).stop())


async def _state(desk: Desk, load: Generated) -> LoadState:
    try:
        batch = await desk.operator.batch(load.batch_id, DOMAIN)
    except BatchNotFoundError:  # it is about to be opened
        batch = None
    return LoadState(load, load.load.expected(), batch)


def _generator(desk: Desk) -> Generator:
    if desk.generator is None:
        raise HTTPException(404, "the load generator is there with --demo only")
    return desk.generator
