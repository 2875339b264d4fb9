"""How the console asks and does things: each thing declared once, for its page, for the JSON API and for OpenAPI.

An `Operation` has a name, a place in the API, a model of what it is asked with, and a function that asks the operator.
What changes something is a POST: `access` lets only operators make one. What is shown of commands passes
the mask in these functions, so neither a page nor the API can forget it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mainstay.errors import (
    ActionNotFoundError,
    BatchNotFoundError,
    CommandNotFoundError,
    ConversationNotFoundError,
    HandlerNotFoundError,
    InvalidInputError,
    InvalidOperationError,
    MainstayError,
    NotUniqueError,
    PermissionDeniedError,
    ProcessNotFoundError,
    QueueNotFoundError,
    ScheduleNotFoundError,
    StorageUnavailableError,
    StreamNotFoundError,
    SubscriptionNotFoundError,
    shown,
)
from mainstay.operations.console.access import User
from mainstay.operations.console.building import Building
from mainstay.operations.console.carrying import Carrying
from mainstay.operations.console.keeping import Shared
from mainstay.operations.console.masking import Masking
from mainstay.operations.console.overview import Watch
from mainstay.operations.demo.generating import Generator
from mainstay.operations.events import NoSuchEventError
from mainstay.operations.operator import Operator
from mainstay.operations.states import States
from mainstay.tenancy import operator_scope

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Method = Literal["GET", "POST"]
Reason: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
"""Why something is done; it stands in the audit trail."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations work with.

    Args:
        operator: Asks and acts.
        masking: Hides what is personal.
        watch: The numbers of the dashboard.
        states: Tells the states of aggregates whose classes are known.
        carrying: Carries out what operators decided on many commands.
        building: Replays and rebuilds with the application's projections.
        shared: What streams have asked.
        generator: Sends loads, in a demo.
        closing: The server ends: so do streams.
    """

    operator: Operator
    masking: Masking
    watch: Watch
    states: States
    carrying: Carrying
    building: Building
    shared: Shared
    generator: Generator | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class Asked(BaseModel):
    """What an operation is asked with: from the path, the query, a form or a JSON body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked or done.

    Args:
        name: In the API's document.
        method: POST changes something.
        path: Below ``/api``; names in braces are fields of ``asks``.
        asks: What it is asked with.
        answers: What it answers, for the API's document.
        run: Does it.
    """

    name: str
    method: Method
    path: str
    asks: type[Asked]
    answers: Any
    run: Callable[[Desk, Any, User], Awaitable[Any]]

    def asked(self, fields: Mapping[str, Any]) -> Asked:
        """What a request says, checked; empty texts, as forms send them, say nothing.

        Raises:
            InvalidInputError: It cannot be accepted; names the field.
        """
        said = {name: value for name, value in fields.items() if value != ""}
        if nul := next((name for name, value in said.items() if _has_nul(value)), None):
            raise InvalidInputError(f"{nul}: it holds a NUL character, which no text in the database has")
        try:
            return self.asks.model_validate(said)
        except ValidationError as error:
            raise InvalidInputError("; ".join(map(_problem, error.errors()))) from error

    async def answer(self, desk: Desk, fields: Mapping[str, Any], user: User, *, shared: bool = False) -> Any:
        """Ask or do it.

        Args:
            desk: What it works with.
            fields: What the request says.
            user: Who asks.
            shared: Streams ask: what others have just asked need not be asked again.

        Raises:
            MainstayError: It cannot be answered, or done.
        """
        asked = self.asked(fields)
        if self.method == "POST":
            try:
                with operator_scope(user.name, getattr(asked, "reason", None)):
                    return await self.run(desk, asked, user)
            finally:
                desk.shared.forget()
        if not shared:
            return await self.run(desk, asked, user)
        return await desk.shared.get(f"{self.name} {asked.model_dump_json()}", lambda: self.run(desk, asked, user))


def _problem(found: "ErrorDetails") -> str:
    """What is wrong with a field, for people."""
    name = ".".join(map(str, found["loc"])) or "the request"
    if found["type"] in {"uuid_parsing", "uuid_type"}:
        return f"{name}: it must be a UUID, not {shown(found['input'])}"
    return f"{name}: {found['msg']}"


def _has_nul(value: Any) -> bool:
    """Whether a text, or one in a list or object, has what PostgreSQL cannot hold; the driver would fail."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and "\0" in each:
            return True
    return False


_STATUS: Final[tuple[tuple[type[MainstayError], int], ...]] = (
    (ActionNotFoundError, 404),
    (CommandNotFoundError, 404),
    (ConversationNotFoundError, 404),
    (StreamNotFoundError, 404),
    (SubscriptionNotFoundError, 404),
    (NoSuchEventError, 404),
    (ScheduleNotFoundError, 404),
    (BatchNotFoundError, 404),
    (ProcessNotFoundError, 404),
    (NotUniqueError, 409),
    (QueueNotFoundError, 409),
    (HandlerNotFoundError, 409),
    (InvalidOperationError, 409),
    (PermissionDeniedError, 403),
    (StorageUnavailableError, 503),
    (InvalidInputError, 400),
)


def status_of(error: Exception) -> int:
    """The HTTP status that says why something cannot be answered, or done."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


OPERATIONS: Final[dict[str, Operation]] = {}
_Run = Callable[[Desk, Any, User], Awaitable[Any]]


def operation(method: Method, path: str, asks: type[Asked], answers: Any) -> Callable[[_Run], Operation]:
    """Declare an operation; the function's docstring is its summary."""

    def declare(run: _Run) -> Operation:
        made = Operation(getattr(run, "__name__", path), method, path, asks, answers, run)
        OPERATIONS[made.name] = made
        return made

    return declare


class Nothing(Asked):
    """No parameters."""


def in_utc(moment: datetime | None) -> datetime | None:
    """A time that says its zone: UTC where none is said."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
