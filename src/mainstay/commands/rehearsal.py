"""Rehearsals: what handlers would do, and what they do otherwise than before, without a trace.

A dry run handles one command, new or recorded, and rolls back; see `mainstay.commands.trying`. A shadow run decides
again on what was decided, at the versions that were read, and compares; see `mainstay.commands.shadow`.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, Unpack, overload
from uuid import UUID, uuid4

from mainstay.commands.aggregates import Aggregates, check_all
from mainstay.commands.checks import (
    checked_count,
    checked_number,
    checked_request,
    checked_time,
    domain_filter,
    named,
    type_filter,
)
from mainstay.commands.command import Command, SendOptions, SendRequest
from mainstay.commands.dry_run import DryRun
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.ledger import DecisionFilter, StreamName, checked_stream
from mainstay.commands.model import CommandModel
from mainstay.commands.recorded import recorded_command
from mainstay.commands.shadow import Shadow, Shadowed, ShadowReport
from mainstay.commands.store import CommandStore, NewCommand
from mainstay.commands.trying import Trial
from mainstay.errors import (
    CommandNotFoundError,
    ConfigurationError,
    InvalidInputError,
    InvalidOperationError,
    shown,
)
from mainstay.message import checked_domain, checked_id
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, from_json


class Rehearsal:
    """Tries the handlers of a registry; nothing stays of it.

    Args:
        store: Where commands live.
        registry: Who handles what.
        aggregates: For handlers on aggregates.

    Raises:
        ConfigurationError: Not a registry, or a handler is on aggregates that nobody can load.
    """

    def __init__(self, store: CommandStore, registry: HandlerRegistry, aggregates: Aggregates | None) -> None:
        if not isinstance(registry, HandlerRegistry):
            raise ConfigurationError(f"registry must be a HandlerRegistry, not {shown(registry)}")
        for domain in _domains(registry):
            check_all(registry.targets(domain), aggregates)
        self._store = store
        self._registry = registry
        self._aggregates = aggregates

    @overload
    async def dry_run(
        self, domain: str, command_type: str, data: dict[str, Any], *, command_id: UUID | None = None, **options: Any
    ) -> DryRun: ...
    @overload
    async def dry_run(
        self, command: CommandModel, /, *, command_id: UUID | None = None, **options: Unpack[SendOptions]
    ) -> DryRun: ...
    async def dry_run(
        self,
        domain: str | CommandModel,
        command_type: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        **options: Any,
    ) -> DryRun:
        """What a command would do if it were handled now: nothing stays of it.

        Args:
            domain: Who handles it; or a typed command, which holds its type and its data, too.
            command_type: Name of the handler.
            data: JSON object.
            command_id: Drawn if None.
            options: As of `CommandBus.send`, by name: what of them a handler can see.

        Raises:
            HandlerNotFoundError: The registry has no handler for it.
            InvalidOperationError: The handler is not transactional, so what it does cannot be undone.
            InvalidInputError: Something cannot be accepted; the message names it.
            StorageUnavailableError: The database cannot be reached.
        """
        chosen = uuid4() if command_id is None else command_id
        name = named(domain, command_type, chosen, {} if data is None and isinstance(domain, str) else data)
        request = SendRequest(*name, **options)
        new = checked_request(request, default_max_attempts=DEFAULT_MAX_ATTEMPTS, payload_limit=DEFAULT_PAYLOAD_LIMIT)
        return await self._trial(new.domain).run_dry(_command_from(new))

    async def dry_run_again(self, domain: str, command_id: UUID) -> DryRun:
        """What a command that was sent would do if it were handled now, be it done or not.

        Args:
            domain: Whose command.
            command_id: Which.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: Its payload was pruned; or as `dry_run`.
            HandlerNotFoundError: As `dry_run`.
            StorageUnavailableError: As `dry_run`.
        """
        key = checked_domain(domain), checked_id(command_id, "command_id")
        known = await self._store.get(*key)
        if known is None:
            raise CommandNotFoundError(*key)
        if known.data is None:
            raise InvalidOperationError(f"the payload of command {command_id} was pruned: it cannot be tried")
        return await self._trial(domain).run_dry(recorded_command(known))

    async def shadow(
        self,
        domain: str | None = None,
        command_type: str | None = None,
        *,
        stream: StreamName | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        after: int = 0,
        ignore: Collection[str] = (),
        keep: int = 10,
        on_each: Callable[[Shadowed], None] | None = None,
    ) -> ShadowReport:
        """Decide again on what was decided, at the versions that were read, and tell what comes out otherwise.

        Args:
            domain: Of the commands.
            command_type: Of the commands.
            stream: On this stream.
            since: Not decided before this time; aware.
            until: Decided before this time; aware.
            limit: So many decisions at most; None: all that there are.
            after: Those with higher numbers: `ShadowReport.last` of a run before.
            ignore: Fields of payloads and replies that may differ: times that the handler asks for, ids that it draws.
            keep: How many differences to tell in full.
            on_each: Called with each as it comes.

        Raises:
            InvalidInputError: Something cannot be accepted; the message names it.
            StorageUnavailableError: The database cannot be reached.
        """
        if limit is not None:
            checked_count(limit, "limit")
        checked_number(keep, "keep")
        checked_number(after, "after")
        if isinstance(ignore, str) or not isinstance(ignore, Collection) or not all(isinstance(n, str) for n in ignore):
            raise InvalidInputError(f"ignore takes several names, ignore=['at'], not {shown(ignore)}")
        which = DecisionFilter(
            domain=domain_filter(domain),
            command_type=type_filter(command_type),
            since=checked_time(since, "since"),
            until=checked_time(until, "until"),
            stream=checked_stream(stream),
        )
        report = ShadowReport(last=after)
        run = Shadow(self._store, self._registry, self._aggregates, ignore).run(which, after=after, limit=limit)
        async for found in run:
            report.take(found, keep)
            if on_each is not None:
                on_each(found)
        return report

    def _trial(self, domain: str) -> Trial:
        return Trial(self._store, domain, self._registry, self._aggregates)


def _command_from(new: NewCommand) -> Command[Any]:
    return Command(
        domain=new.domain,
        command_type=new.command_type,
        command_id=new.command_id,
        data=from_json(new.data),
        correlation_id=new.correlation_id,
        reply_to=new.reply_to,
        headers={} if new.headers is None else from_json(new.headers),
        key=new.key,
    )


def _domains(registry: HandlerRegistry) -> Iterable[str]:
    return dict.fromkeys(domain for domain, _ in registry.registered_handlers())
