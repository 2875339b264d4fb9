"""What a handler sends on: commands that go out with its completion, or not at all.

Promises. In a transactional handler they are sent on its connection, at once; in any other they are kept until the
handler has returned, and sent by the transaction that writes its completion. A handler that fails, returns a `Failure`
or loses its lease has sent nothing.

Ids are derived from the command in hand and from which send of the handler it is, or from a name. A handler that runs
again derives the same ids, and a derived id that is known already is passed over: no redelivery, whatever its cause,
sends twice. What a handler sends belongs to its command's correlation, tenant and actor, and its ``causation_id`` is
that command.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from mainstay.commands.aggregates import no_command
from mainstay.commands.carried import ACTOR, CAUSATION, TENANT
from mainstay.commands.checks import checked_request, checked_text, named
from mainstay.commands.command import Command, CommandMetadata, SendRequest, SendResult
from mainstay.commands.model import CommandModel
from mainstay.commands.store import Answer, CommandStore, NewCommand, NotUnique, Refusal
from mainstay.commands.tracing import count_sent, created
from mainstay.errors import (
    BatchNotFoundError,
    DuplicateCommandError,
    InvalidInputError,
    InvalidOperationError,
    KeyConflict,
    NotUniqueError,
    QueueNotFoundError,
)
from mainstay.message import command_queue
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, checked_object
from mainstay.tenancy import current_actor, current_tenant

_NAME_LIMIT = 200


def derived_id(command: Command[Any] | CommandMetadata, name: str) -> UUID:
    """The id of what a command's handler sends under a name; the same whenever it is asked for.

    Args:
        command: The command being handled; its domain counts too, because ids are unique in a domain only.
        name: Which of its sends.
    """
    return uuid5(command.command_id, f"{command.domain}/{name}")


def sent(command: NewCommand, answer: Answer) -> SendResult:
    """The result of a send, or the error that its refusal stands for.

    Raises:
        DuplicateCommandError: The id is known, and was not derived.
        NotUniqueError: Another command holds its unique key.
        BatchNotFoundError: No such batch.
        QueueNotFoundError: No queue, for it or for its reply.
    """
    if isinstance(answer, SendResult):
        return answer
    if isinstance(answer, NotUnique):
        raise NotUniqueError(command.domain, _conflict(command, answer))
    if answer is Refusal.BATCH_NOT_FOUND and command.batch_id is not None:
        raise BatchNotFoundError(command.domain, command.batch_id)
    if answer is Refusal.REPLY_QUEUE_NOT_FOUND and command.reply_to is not None:
        raise QueueNotFoundError(command.reply_to)
    if answer is Refusal.QUEUE_NOT_FOUND:
        raise QueueNotFoundError(command_queue(command.domain))
    if command.skip_known:
        return SendResult(command.command_id, None)
    raise DuplicateCommandError(command.domain, command.command_id)


def all_sent(commands: Sequence[NewCommand], answers: Sequence[Answer]) -> list[SendResult]:
    """The results of a send, all or none; as `sent`, but an error about unique keys names all that are held."""
    results: list[SendResult] = []
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, NotUnique):
            pairs = [(each, why) for each, why in zip(commands, answers, strict=True) if each.domain == command.domain]
            raise NotUniqueError(
                command.domain, *(_conflict(each, why) for each, why in pairs if isinstance(why, NotUnique))
            )
        results.append(sent(command, answer))
    return results


def _conflict(command: NewCommand, answer: NotUnique) -> KeyConflict:
    return KeyConflict(command.command_id, command.unique_key or "", answer.holder_id)


class Sends:
    """The sends of one run of a handler.

    Args:
        command: What is being handled.
        store: Where commands live; None in a test without a worker: everything is kept in ``kept``.
        conn: The connection of a transactional handler.
    """

    def __init__(self, command: Command[Any], store: CommandStore | None = None, conn: Any = None) -> None:
        self._command = command
        self.store = store
        self._conn = conn
        self._count = 0
        self.keys: dict[tuple[str, UUID], None] = {}
        """Domain and id of what was sent, in order."""
        self._is_over = False
        self.kept: list[NewCommand] = []
        self.domains: list[str] = []

    async def send(
        self,
        domain: str | CommandModel,
        command_type: str | None,
        data: dict[str, Any] | None,
        *,
        command_id: UUID | None,
        name: str | None,
        options: dict[str, Any],
    ) -> SendResult:
        """Send a command with the handler's completion; `HandlerContext.send` says what the arguments mean."""
        new = self._checked(domain, command_type, data, command_id=command_id, name=name, options=options)
        await self._get_ready(new.domain)
        if self._is_over:
            message = "the handler that this context belonged to has ended; what it sends is sent before it returns"
            raise InvalidOperationError(message)
        key = new.domain, new.command_id
        if key in self.keys:
            raise DuplicateCommandError(*key)
        result = await self._put(created(new))
        if not result.skipped:
            self.keys[key] = None
        self.domains.append(new.domain)
        return result

    def take(self, command: CommandModel) -> None:
        """Keep what a decider decided to send; its queue is still to be made.

        Raises:
            InvalidInputError: Not a typed command, or something of it cannot be accepted.
        """
        if not isinstance(command, CommandModel):
            raise no_command(command)
        new = self._checked(command, None, None, command_id=None, name=None, options={})
        self.keys[new.domain, new.command_id] = None
        self.kept.append(created(new))
        self.domains.append(new.domain)

    async def _get_ready(self, domain: str) -> None:
        if self.store is not None:
            await self.store.ensure_queue(domain)

    async def _put(self, new: NewCommand) -> SendResult:
        if self.store is None or self._conn is None:
            self.kept.append(new)
            return SendResult(new.command_id, None)
        (answer,) = await self.store.send([new], conn=self._conn)
        result = sent(new, answer)
        count_sent([new])
        return result

    def end(self) -> tuple[NewCommand, ...]:
        """The handler has returned: what was kept, and nothing more is taken."""
        self._is_over = True
        return tuple(self.kept)

    def _checked(
        self,
        domain: str | CommandModel,
        command_type: str | None,
        data: dict[str, Any] | None,
        *,
        command_id: UUID | None,
        name: str | None,
        options: dict[str, Any],
    ) -> NewCommand:
        domain, command_type, _, data = named(domain, command_type, command_id, data)
        if command_id is not None and name is not None:
            message = "give command_id or name, not both: a name is what an id is derived from"
            raise InvalidInputError(message)
        is_repeatable = bool(options.pop("idempotent", False)) or command_id is None
        if command_id is None:
            if name is None:
                self._count += 1
            which = f"#{self._count}" if name is None else checked_text(name, "name", _NAME_LIMIT)
            command_id = derived_id(self._command, f"{which}")
        try:
            request = SendRequest(domain, command_type, command_id, data or {}, **options)
        except TypeError as error:
            message = f"ctx.send: {error}"
            raise InvalidInputError(message) from error
        request = self._following(request)
        new = checked_request(request, default_max_attempts=DEFAULT_MAX_ATTEMPTS, payload_limit=DEFAULT_PAYLOAD_LIMIT)
        is_heir = new.unique_key is not None and new.domain == self._command.domain
        return replace(new, skip_known=is_repeatable, successor_of=self._command.command_id if is_heir else None)

    def _following(self, request: SendRequest) -> SendRequest:
        """The request with what it takes over from the command: correlation, cause, tenant and actor."""
        command, headers = self._command, checked_object(request.headers, what="headers")
        carried: dict[str, Any] = {"headers": {CAUSATION: str(command.command_id)} | headers}
        if request.correlation_id is None:
            carried["correlation_id"] = command.correlation_id
        if request.tenant_id is None and current_tenant() is None and TENANT not in headers:
            carried["tenant_id"] = command.tenant_id
        if request.actor_id is None and current_actor() is None and ACTOR not in headers:
            carried["actor_id"] = command.actor_id
        return replace(request, **carried)
