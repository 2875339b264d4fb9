"""Request and reply: send a command and wait for how it ends.

The reply is the end of the command's row, so it is never lost. A request that gave up has lost nothing but patience:
its command goes on, and `Requests.wait_for` finds the reply at any later time, in any process.
"""

import asyncio
from datetime import timedelta
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError

from mainstay.commands.checks import checked_seconds, named
from mainstay.commands.command import Reply, SendOptions
from mainstay.commands.lifecycle import CommandStatus, ReplyOutcome
from mainstay.commands.model import CommandModel
from mainstay.commands.replies import Key, reply_of
from mainstay.commands.store import CommandStore
from mainstay.commands.waiting import WaitingRoom
from mainstay.errors import (
    CommandNotFoundError,
    InvalidInputError,
    InvalidReplyError,
    MainstayError,
    RequestTimeoutError,
)
from mainstay.message import checked_domain, checked_id
from mainstay.positions import note_position
from mainstay.serialization import to_json

DEFAULT_TIMEOUT = 30.0

ModelT = TypeVar("ModelT", bound=BaseModel)
FoundT = TypeVar("FoundT", bound=Reply[Any] | None)


class Requests:
    """What a bus does besides sending: it waits for replies.

    Args:
        store: Where commands live.
        listens: Be woken when a reply is there; else look from time to time.
    """

    def __init__(self, store: CommandStore, *, listens: bool) -> None:
        self._store = store
        self._room = WaitingRoom(store, listens=listens)

    async def send(self, *args: Any, **options: Any) -> Any:
        """Send one command; the bus says how."""
        raise NotImplementedError

    @overload
    async def request(
        self,
        domain: str,
        command_type: str,
        command_id: UUID | None,
        data: dict[str, Any],
        *,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> Reply[Any]: ...
    @overload
    async def request(
        self,
        domain: str,
        command_type: str,
        command_id: UUID | None,
        data: dict[str, Any],
        *,
        reply_model: type[ModelT],
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> Reply[ModelT]: ...
    @overload
    async def request(
        self,
        command: CommandModel,
        /,
        *,
        command_id: UUID | None = None,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> Reply[Any]: ...
    @overload
    async def request(
        self,
        command: CommandModel,
        /,
        *,
        reply_model: type[ModelT],
        command_id: UUID | None = None,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> Reply[ModelT]: ...
    async def request(
        self,
        domain: str | CommandModel,
        command_type: str | None = None,
        command_id: UUID | None = None,
        data: dict[str, Any] | None = None,
        *,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        reply_model: type[BaseModel] | None = None,
        **options: Any,
    ) -> Reply[Any]:
        """Send a command and wait for its reply.

        If the command needs an operator meanwhile, the wait goes on: somebody may mend it in time.

        Args:
            domain: Who handles it; or a typed command, which holds its type and its data, too.
            command_type: Name of the handler.
            command_id: Drawn if None.
            data: JSON object.
            timeout: Seconds (or timedelta) to wait in all.
            reply_model: What the data of a successful reply must fit; ``reply.data`` is then that model.
            options: As for `send`, by name, but for ``conn``: what is sent with an open transaction has no reply
                before its end. With ``idempotent``, a command that was sent before gives its reply; with
                ``on_conflict="skip"`` the one that holds the unique key.

        Returns:
            How the command ended, well or not; ``reply.unwrap()`` gives the data or raises.

        Raises:
            RequestTimeoutError: It has not ended in time; it goes on, and `wait_for` finds its reply.
            InvalidReplyError: It succeeded, and the reply does not fit the model.
            MainstayError: As `send`.
        """
        if "conn" in options:
            message = (
                "a request cannot join a transaction: its command is sent when that ends, and its reply comes later"
            )
            raise InvalidInputError(message)
        seconds = checked_seconds(timeout, "timeout")
        end = asyncio.get_running_loop().time() + seconds
        chosen = uuid4() if command_id is None else checked_id(command_id, "command_id")
        key = checked_domain(named(domain, command_type, chosen, data)[0]), chosen
        async with self._room.place(key, seconds, look=bool(options.get("idempotent"))) as future:
            result = await self.send(domain, command_type, chosen, data, **options)
            reply = None if result.skipped else await self._awaited(key, future, end, seconds)
        if reply is None:
            left = max(0.0, end - asyncio.get_running_loop().time())
            reply = await self.wait_for(key[0], result.command_id, timeout=left)
        return reply if reply_model is None else fitting(reply, reply_model)

    @overload
    async def wait_for(
        self, domain: str, command_id: UUID, *, timeout: timedelta | float = DEFAULT_TIMEOUT
    ) -> Reply[Any]: ...
    @overload
    async def wait_for(
        self, domain: str, command_id: UUID, *, reply_model: type[ModelT], timeout: timedelta | float = DEFAULT_TIMEOUT
    ) -> Reply[ModelT]: ...
    async def wait_for(
        self,
        domain: str,
        command_id: UUID,
        *,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        reply_model: type[BaseModel] | None = None,
    ) -> Reply[Any]:
        """Wait for the reply to a command that somebody sent, at whatever time, and in whatever process.

        Args:
            domain: Whose command.
            command_id: Which.
            timeout: Seconds (or timedelta) to wait; 0: only if it has ended.
            reply_model: As for `request`.

        Raises:
            CommandNotFoundError: No such command.
            RequestTimeoutError: It has not ended in time; it goes on.
            InvalidReplyError: It succeeded, and the reply does not fit the model.
            StorageUnavailableError: The database cannot be reached.
        """
        seconds = checked_seconds(timeout, "timeout")
        end = asyncio.get_running_loop().time() + seconds
        key = checked_domain(domain), checked_id(command_id, "command_id")
        reply = await self.get_result(*key)
        if reply is None:
            async with self._room.place(key, seconds, look=True) as future:
                reply = await self._awaited(key, future, end, seconds)
        return reply if reply_model is None else fitting(reply, reply_model)

    @overload
    async def get_result(self, domain: str, command_id: UUID) -> Reply[Any] | None: ...
    @overload
    async def get_result(self, domain: str, command_id: UUID, *, reply_model: type[ModelT]) -> Reply[ModelT] | None: ...
    async def get_result(
        self, domain: str, command_id: UUID, *, reply_model: type[BaseModel] | None = None
    ) -> Reply[Any] | None:
        """How a command ended; None if it has not.

        Args:
            domain: Whose command.
            command_id: Which.
            reply_model: As for `request`.

        Raises:
            CommandNotFoundError: No such command.
            InvalidReplyError: It succeeded, and the reply does not fit the model.
        """
        key = checked_domain(domain), checked_id(command_id, "command_id")
        known = await self._store.get(*key)
        if known is None:
            raise CommandNotFoundError(*key)
        reply = _told(reply_of(known))
        return reply if reply is None or reply_model is None else fitting(reply, reply_model)

    async def _awaited(self, key: Key, future: "asyncio.Future[Reply]", end: float, seconds: float) -> Reply:
        """The reply, or, when the time is over, the error that says where the command stands."""
        try:
            async with asyncio.timeout_at(end):
                return _told(await future)
        except TimeoutError:
            pass
        try:
            known = await self._store.get(*key)
        except MainstayError:
            raise RequestTimeoutError(*key, seconds, "and the database cannot say where it stands") from None
        if known is None:
            raise CommandNotFoundError(*key)
        if (reply := _told(reply_of(known))) is not None:
            return reply
        where = f"it is {known.status}"
        if known.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
            where += f" ([{known.last_error_code}] {known.last_error_msg}) and needs an operator"
        raise RequestTimeoutError(*key, seconds, where)


def _told(reply: FoundT) -> FoundT:
    """A reply, of which whoever is in between learns how far the feed must be read to see what it says."""
    if reply is not None:
        note_position(reply.position)
    return reply


def fitting(reply: Reply[Any], model: type[ModelT]) -> Reply[ModelT]:
    """A reply with its data as a model, if it is a success; else as it is.

    Raises:
        InvalidReplyError: The data does not fit.
    """
    if reply.outcome is not ReplyOutcome.SUCCESS:
        return reply
    try:
        data = model.model_validate_json(to_json(reply.data))
    except ValidationError as error:
        raise InvalidReplyError(reply.command_id, model.__name__, str(error)) from error
    return Reply(reply.command_id, reply.correlation_id, reply.outcome, data, position=reply.position)
