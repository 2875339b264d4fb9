"""Which function handles which command."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack, overload

from mainstay.commands.aggregates import StreamChoice, Target, commands_of, decide
from mainstay.commands.carried import said_by
from mainstay.commands.command import Command
from mainstay.commands.context import HandlerContext
from mainstay.commands.ledger import HandlerVersion, checked_version
from mainstay.commands.model import CommandModel, name_of
from mainstay.commands.payload import PayloadProblem, PayloadReader, not_an_object, untyped_schema
from mainstay.commands.signature import annotated_model, check_arguments, reader_for
from mainstay.commands.threads import SyncHandlerContext, at_once
from mainstay.commands.upcasting import Upcasters, UpcasterT, lift_of, upcast
from mainstay.errors import (
    ConfigurationError,
    HandlerAlreadyRegisteredError,
    HandlerNotFoundError,
    shown,
)
from mainstay.message import checked_domain, checked_type, correlated
from mainstay.retry import RetryPolicy, as_seconds, checked_policy
from mainstay.tenancy import scope_of

_MARK = "__mainstay_handler__"

HandlerFn: TypeAlias = Callable[..., Any]
"""``(command, context)``, async or plain; what it returns is the command's result."""

F = TypeVar("F", bound=Callable[..., Any])


class HandlerChoices(TypedDict, total=False):
    """What `handler` takes besides the names."""

    retry_policy: RetryPolicy | None
    timeout: timedelta | float | None
    transactional: bool | None
    aggregate: type | None
    stream: StreamChoice | None
    version: HandlerVersion | None


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What `handler` says of a function.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        retry_policy: Instead of the worker's.
        timeout: Seconds one attempt may take; None: as long as it likes.
        model: What the payload must fit; None: what the handler's annotation says.
        transactional: Effects through ``ctx.conn`` and the completion commit together.
        target: Which aggregate it is called with; None: with none.
        version: Of its code, for the ledger of decisions.
    """

    domain: str
    command_type: str
    retry_policy: RetryPolicy | None = None
    timeout: float | None = None
    transactional: bool = False
    model: type[CommandModel] | None = None
    target: Target | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered handler, ready to be called."""

    function: HandlerFn
    options: HandlerOptions
    is_async: bool
    reader: PayloadReader | None = None
    """For a typed handler."""
    name: str = ""
    """Module and name of the function, or of the decider."""

    @property
    def decides(self) -> bool:
        """Whether it is a decider's: it has no effects."""
        return self.function is decide

    def opened(self, command: Command[Any]) -> Command[Any]:
        """The command as this handler wants it: a typed one gets the payload read.

        Raises:
            PermanentCommandError: The payload does not fit.
            TransientCommandError: It is newer than this code.
        """
        return command if self.reader is None else self.reader.opened(command)


def _options(  # noqa: PLR0917 - one place builds the options
    domain: str | type[CommandModel] | None,
    command_type: str | None,
    retry_policy: RetryPolicy | None,
    timeout: timedelta | float | None,
    transactional: bool | None,  # noqa: FBT001 - as above
    target: Target | None = None,
    version: HandlerVersion | None = None,
) -> HandlerOptions:
    seconds = None if timeout is None else as_seconds(timeout)
    if seconds == 0:
        message = "timeout must be more than 0 seconds; None is no timeout"
        raise ConfigurationError(message)
    if not isinstance(transactional, bool | None):
        message = f"transactional must be True or False, not {shown(transactional)}"
        raise ConfigurationError(message)
    if transactional is False and target is not None:
        message = (
            "a handler on an aggregate is transactional, since its events and the completion of its command are one "
            "COMMIT: leave transactional=False out, or load the aggregate in the handler instead of aggregate="
        )
        raise ConfigurationError(message)
    if version is not None and target is None:
        raise ConfigurationError("version= is for the ledger of decisions on aggregates: say aggregate=, too")
    model = domain if isinstance(domain, type) else None
    if model is not None:
        if command_type is not None:
            message = f"{model.__name__} knows its command type: leave out {shown(command_type)}"
            raise ConfigurationError(message)
        domain, command_type, _ = name_of(model)
    return HandlerOptions(
        domain=checked_domain(domain),
        command_type=checked_type(command_type),
        model=model,
        retry_policy=checked_policy(retry_policy),
        timeout=seconds,
        transactional=bool(transactional) or target is not None,
        target=target,
        version=checked_version(version),
    )


def handler(
    domain: str | type[CommandModel] | None = None,
    command_type: str | None = None,
    *,
    retry_policy: RetryPolicy | None = None,
    timeout: timedelta | float | None = None,
    transactional: bool | None = None,
    aggregate: type | None = None,
    stream: StreamChoice | None = None,
    version: HandlerVersion | None = None,
) -> Callable[[F], F]:
    """Mark a function or method as the handler of a command type; `HandlerRegistry.register_instance` finds the mark.

    A typed handler is marked with its model, ``@handler(CreateOrder)``, or with ``@handler()`` if its annotation names
    the model: ``command: Command[CreateOrder]``. Its payloads are validated before it is called.

    Args:
        domain: Whose commands; or a typed command, which knows its type, too; or nothing, if the annotation names one.
        command_type: Which of them.
        retry_policy: Delays for this handler, instead of the worker's.
        timeout: Seconds (or timedelta) one attempt may take. An async handler is canceled; a thread cannot be stopped:
            its lease is no longer renewed and its result is refused.
        transactional: The handler gets ``ctx.conn``; what it does there and the command's completion are one COMMIT, so
            the effect happens exactly once. False unless given or, with ``aggregate``, True.
        aggregate: The handler is called with ``(aggregate, command, context)``: the aggregate of this class that the
            command is for, loaded. What it raises is appended in the COMMIT that completes the command; if somebody
            else appends meanwhile, the handler is called again with a fresh one, in the same attempt. It is
            transactional. A handler that returns None replies with the stream's ``version`` and ``position``.
        stream: What tells which aggregate: a function of the command, or the name of a field of its payload; unless
            given, the field that is called after the aggregate's type: ``order_line_id`` for ``OrderLine``.
        version: Of a handler on an aggregate: a whole number, or a short text, that the ledger keeps beside what it
            decided; 1 unless given. Change it when the handler decides otherwise.

    Raises:
        InvalidDomainError: No queue can have this name.
        InvalidInputError: Not a command type.
        ConfigurationError: Not a retry policy, not a timeout, not an aggregate, ``transactional=False`` for one, or no
            annotation that names a typed command.
    """
    target = Target.of(aggregate, stream)
    is_silent = domain is None and command_type is None
    rest = (retry_policy, timeout, transactional, target, version)
    options = None if is_silent else _options(domain, command_type, *rest)

    def mark(function: F) -> F:
        said = options or _options(annotated_model(function), None, *rest)
        setattr(function, _MARK, said)
        return function

    return mark


def get_handler_meta(function: Callable[..., Any]) -> HandlerOptions | None:
    """What `handler` said of this function; None if it is not marked."""
    return getattr(function, _MARK, None)


class HandlerRegistry:
    """The handlers of one or more workers, and the upcasters of their payloads; an object, not a global."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._upcasters = Upcasters()

    @overload
    def register(
        self, domain: str, command_type: str, handler: HandlerFn, **options: Unpack[HandlerChoices]
    ) -> None: ...
    @overload
    def register(self, model: type[CommandModel], handler: HandlerFn, /, **options: Unpack[HandlerChoices]) -> None: ...
    def register(
        self,
        domain: Any,
        command_type: Any,
        handler: HandlerFn | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | float | None = None,
        transactional: bool | None = None,
        aggregate: type | None = None,
        stream: StreamChoice | None = None,
        version: HandlerVersion | None = None,
    ) -> None:
        """Register a function; the arguments are those of `handler`.

        Raises:
            HandlerAlreadyRegisteredError: This type has a handler (also a ValueError).
            ConfigurationError: Not callable, or an annotation that names another payload.
        """
        if isinstance(domain, type) and handler is None:
            command_type, handler = None, command_type
        target = Target.of(aggregate, stream)
        self._add(handler, _options(domain, command_type, retry_policy, timeout, transactional, target, version))

    def register_decider(
        self,
        *,
        domain: str,
        decider: type,
        stream: StreamChoice | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | float | None = None,
        version: HandlerVersion | None = None,
    ) -> None:
        """Let a decider handle the commands that stand between the brackets of its base.

        Each command is decided on in the transaction that completes it: the events that follow are appended, and the
        reply holds the stream's ``version`` and ``position``. A `BusinessRuleException` of ``decide`` fails the
        command, as a handler's does.

        Args:
            domain: Whose commands.
            decider: A ``DeciderAggregate[State, Open | Close]`` whose commands are `CommandModel` classes.
            stream: As `handler` says.
            retry_policy: As `handler` says.
            timeout: Seconds (or timedelta) one attempt may take, with all that it waits for: its turn, its stream, its
                group, the COMMIT. ``decide`` itself cannot be interrupted.
            version: As `handler` says.

        Raises:
            ConfigurationError: Not a decider, or it decides on what is no typed command of this domain.
            HandlerAlreadyRegisteredError: One of the commands has a handler.
        """
        found = commands_of(decider, domain)
        target = Target.of(decider, stream)
        for model in found:
            if self.has_handler(*name_of(model)[:2]):
                raise HandlerAlreadyRegisteredError(*name_of(model)[:2])
        for model in found:
            options = _options(model, None, retry_policy, timeout, transactional=True, target=target, version=version)
            self._add(decide, options)

    def targets(self, domain: str) -> list[Target]:
        """The aggregates that handlers of a domain are called with."""
        found = (each.options.target for key, each in self._handlers.items() if key[0] == domain)
        return [target for target in found if target is not None]

    def handlers_of(self, domain: str) -> list[Handler]:
        """All that are registered for a domain."""
        return [each for key, each in self._handlers.items() if key[0] == domain]

    def only_decides(self, domain: str) -> bool:
        """Whether all handlers of a domain are deciders."""
        found = self.handlers_of(domain)
        return bool(found) and all(each.decides for each in found)

    def decorator(
        self,
        domain: str | type[CommandModel] | None = None,
        command_type: str | None = None,
        **options: Unpack[HandlerChoices],
    ) -> Callable[[F], F]:
        """Register the decorated function; the arguments are those of `handler`."""
        mark = handler(domain, command_type, **options)

        def register(function: F) -> F:
            self.add(mark(function))
            return function

        return register

    handler = decorator
    """The same under the name that `commandbus` users know."""

    def add(self, function: HandlerFn) -> None:
        """Register a function marked with `handler` or with `upcast`.

        Raises:
            ConfigurationError: It is not marked.
            HandlerAlreadyRegisteredError: Its type has a handler.
        """
        if (step := lift_of(function)) is not None:
            self._upcasters.add(function, step)
            return
        options = get_handler_meta(function)
        if options is None:
            message = (
                f"{shown(function)} is not marked; put @handler(domain=..., command_type=...) on it or use register()"
            )
            raise ConfigurationError(message)
        self._add(function, options)

    def register_instance(self, instance: object) -> None:
        """Register every method of an object that is marked with `handler` or with `upcast`.

        Raises:
            ConfigurationError: No method is marked.
            HandlerAlreadyRegisteredError: A type has a handler.
        """
        found = [
            getattr(instance, name)
            for name, attribute in inspect.getmembers_static(type(instance))
            if get_handler_meta(attribute) is not None or lift_of(attribute) is not None
        ]
        if not found:
            message = f"{type(instance).__name__} has no method marked with @handler"
            raise ConfigurationError(message)
        for method in found:
            self.add(method)

    def upcast(self, model: type[CommandModel], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
        """Register the decorated function as an upcaster; the arguments are those of `mainstay.upcast`."""
        mark = upcast(model, from_version=from_version)

        def register(function: UpcasterT) -> UpcasterT:
            self.add(mark(function))
            return function

        return register

    def get(self, domain: str, command_type: str) -> HandlerFn | None:
        """The function for a type; None if there is none."""
        try:
            return self.find(domain, command_type).function
        except HandlerNotFoundError:
            return None

    def get_or_raise(self, domain: str, command_type: str) -> HandlerFn:
        """The function for a type.

        Raises:
            HandlerNotFoundError: There is none.
        """
        return self.find(domain, command_type).function

    def find(self, domain: str, command_type: str) -> Handler:
        """The handler for a type, with its options.

        Raises:
            HandlerNotFoundError: There is none.
        """
        try:
            return self._handlers[domain, command_type]
        except (KeyError, TypeError):  # a list is no key, and no name either
            raise HandlerNotFoundError(domain, command_type) from None

    def has_handler(self, domain: str, command_type: str) -> bool:
        """Whether a type has a handler."""
        return self.get(domain, command_type) is not None

    def problems(
        self, domain: str, command_type: str, data: Any, headers: Mapping[str, Any] | None = None
    ) -> list[PayloadProblem]:
        """What is wrong with a payload, before it is sent or retried with; nothing if its handler takes it.

        Args:
            domain: Whose command.
            command_type: Which.
            data: The payload.
            headers: Of the command that it is for, which say the payload's version; None: it has the newest.

        Raises:
            HandlerNotFoundError: There is no handler.
        """
        reader = self.find(domain, command_type).reader
        if reader is not None:
            return reader.problems(data, headers)
        return [] if isinstance(data, dict) else [not_an_object(data)]

    def json_schemas(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The JSON Schema of every command that has a handler, by domain and type.

        A command without a model is any JSON object. ``x-command`` holds domain, type and version.
        """
        schemas: dict[str, dict[str, dict[str, Any]]] = {}
        for domain, command_type in self.registered_handlers():
            reader = self._handlers[domain, command_type].reader
            schema = untyped_schema(domain, command_type) if reader is None else reader.schema()
            schemas.setdefault(domain, {})[command_type] = schema
        return schemas

    def registered_handlers(self) -> list[tuple[str, str]]:
        """Domain and type of every handler."""
        return sorted(self._handlers)

    async def dispatch(self, command: Command[Any], context: HandlerContext) -> Any:
        """Call the handler of a command in this task, for tests; a worker does more. Plain ones have no ``ctx.conn``.

        Raises:
            HandlerNotFoundError: There is none.
            PermanentCommandError: The payload does not fit a typed handler.
            ConfigurationError: It is called with an aggregate, which only a worker loads.
        """
        found = self.find(command.domain, command.command_type)
        if found.options.target is not None:
            message = f"{command.command_type} is handled on an aggregate: call its handler with one, or run a worker"
            raise ConfigurationError(message)
        given = context if found.is_async else SyncHandlerContext(context, at_once)
        tenant_id, actor_id = said_by(command)
        with correlated(command.correlation_id, command.command_id, actor_id), scope_of(tenant_id):
            result = found.function(found.opened(command), given)
            return await result if inspect.isawaitable(result) else result

    def clear(self) -> None:
        """Forget all handlers and upcasters."""
        self._handlers.clear()
        self._upcasters.clear()

    def _add(self, function: HandlerFn | None, options: HandlerOptions) -> None:
        if not callable(function):
            message = f"a handler is a function of (command, context), not {shown(function)}"
            raise ConfigurationError(message)
        check_arguments(function, ("aggregate", "command", "context") if options.target else ("command", "context"))
        call = function if inspect.isroutine(function) else type(function).__call__
        if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
            raise ConfigurationError(
                f"a handler returns its result; {_name(function, options)} yields, so it never runs"
            )
        is_async = inspect.iscoroutinefunction(call)
        key = (options.domain, options.command_type)
        if key in self._handlers:
            raise HandlerAlreadyRegisteredError(*key)
        reader = reader_for(function, key, options.model, self._upcasters)
        if options.target is not None:
            options.target.fits(None if reader is None else reader.model)
        self._handlers[key] = Handler(function, options, is_async, reader, _name(function, options))


def _name(function: HandlerFn, options: HandlerOptions) -> str:
    named: Any = options.target.kind if function is decide and options.target is not None else function
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"
