"""The spans of a command's way: send, process, reply; and what is counted on the way.

Spans follow OpenTelemetry's conventions for messaging. The context of a send travels in the command's headers, as W3C's
``traceparent``, but only if its span is recorded; so what handles the command, and what that sends on, belongs to one
trace. A header that the caller gave himself is left as it is.

While nobody records and nobody measures, none of this is prepared: a send and a run of a handler ask, and that is all.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from mainstay.commands.command import Command
from mainstay.commands.store import NewCommand, Outcome, Received, Verb
from mainstay.message import command_queue
from mainstay.metrics import ATTEMPTS, DURATION, HANDLED, SENT, is_measuring, record
from mainstay.serialization import from_json, to_json
from mainstay.telemetry import NAME, is_tracing, tracer

_OUTCOMES = {
    Verb.COMPLETE: "completed",
    Verb.FAIL: "failed",
    Verb.RETRY: "retried",
    Verb.TROUBLESHOOT: "troubleshot",
    Verb.GIVE_BACK: "given_back",
}
_LOST = "lost"
_CANCELED = "canceled"
_ENDS = (Verb.COMPLETE, Verb.FAIL, Verb.TROUBLESHOOT)
_NO_HANDLER = "NO_HANDLER"
_NOBODYS_TYPE = "(no handler)"
"""The label of all types that nobody handles: a sender's typing errors must not make metrics without end."""


@contextmanager
def sending(commands: Sequence[NewCommand]) -> Iterator[Sequence[NewCommand]]:
    """Send commands inside the block, as the ones given back: they carry the context of the span, if one is recorded.

    Args:
        commands: All of one send; not empty.
    """
    if not is_tracing():
        yield commands
    else:
        queue = command_queue(commands[0].domain)
        with tracer().start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, record_exception=False) as span:
            if not span.is_recording():
                yield commands
            else:
                span.set_attributes(_of_send(commands, queue, "send"))
                try:
                    yield [_carrying(command) for command in commands]
                except Exception as error:
                    span.set_attribute("error.type", type(error).__name__)
                    raise
    count_sent(commands)


def created(command: NewCommand) -> NewCommand:
    """A command that will be sent later, with others: it carries the context of a span of its own, if that is recorded.

    Args:
        command: What a handler sends on.
    """
    if not is_tracing():
        return command
    queue = command_queue(command.domain)
    with tracer().start_as_current_span(f"create {queue}", kind=SpanKind.PRODUCER) as span:
        if not span.is_recording():
            return command
        span.set_attributes(_of_send([command], queue, "create"))
        return _carrying(command)


def count_sent(commands: Sequence[NewCommand]) -> None:
    """Count commands as sent."""
    if not is_measuring():
        return
    if len(commands) == 1:
        record(SENT, 1, commands[0].domain, commands[0].command_type)
        return
    for (domain, command_type), count in Counter((one.domain, one.command_type) for one in commands).items():
        record(SENT, count, domain, command_type)


class Handling:
    """One run of a handler, seen from outside; a context manager.

    Args:
        received: What is handled.
    """

    __slots__ = ("_began", "_ended", "_outcome", "_received", "_span", "_token")

    def __init__(self, received: Received) -> None:
        self._received = received
        self._span: trace.Span | None = None
        self._token: Any = None
        self._outcome: Outcome | None = None
        self._ended = _CANCELED

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if is_tracing():
            self._open()
        return self

    def ended(self, end: "Outcome | Verb | None") -> None:
        """Say how it ended.

        Args:
            end: What is to be written; or a verb that is written already; or None: nothing can be.
        """
        if isinstance(end, Outcome):
            self._outcome = end
            if end.sends:
                count_sent(end.sends)
        verb = end.verb if isinstance(end, Outcome) else end
        self._ended = _LOST if verb is None else _OUTCOMES[verb]
        command = self._received.command
        labels = command.domain, self._type(command), self._ended
        if verb in _ENDS:
            record(ATTEMPTS, self._received.attempt, *labels)
        if self._span is not None and command.reply_to and verb in (Verb.COMPLETE, Verb.FAIL):
            _reply(command)

    def __exit__(self, *_: object) -> None:
        command = self._received.command
        labels = command.domain, self._type(command), self._ended
        record(HANDLED, 1, *labels)
        record(DURATION, time.perf_counter() - self._began, *labels)
        if self._span is not None:
            self._close(self._span)

    def _type(self, command: Command) -> str:
        unknown = self._outcome is not None and self._outcome.error_code == _NO_HANDLER
        return _NOBODYS_TYPE if unknown else command.command_type

    def _open(self) -> None:
        command = self._received.command
        queue = command_queue(command.domain)
        parent = propagate.extract(_carrier(command.headers)) if command.headers else None
        span = tracer().start_span(f"process {queue}", parent, SpanKind.CONSUMER)
        if not span.is_recording():
            return
        lease = self._received.lease
        span.set_attributes(
            _of_message(queue, "process", command.correlation_id)
            | {
                "messaging.message.id": str(lease.msg_id),
                "mainstay.command_id": str(command.command_id),
                "mainstay.command_type": command.command_type,
                "mainstay.attempt": self._received.attempt,
                "mainstay.max_attempts": self._received.max_attempts,
            }
        )
        self._span = span
        self._token = otel.attach(trace.set_span_in_context(span))

    def _close(self, span: trace.Span) -> None:
        span.set_attribute("mainstay.outcome", self._ended)
        outcome = self._outcome
        if outcome is not None and outcome.error_code is not None:
            span.set_attribute("error.type", outcome.error_code)
            span.set_status(Status(StatusCode.ERROR, outcome.error_message))
        elif self._ended in (_LOST, _CANCELED):
            span.set_status(Status(StatusCode.ERROR, self._ended))
        otel.detach(self._token)
        span.end()


def _reply(command: Command) -> None:
    """The reply as a span: it is written with the outcome."""
    queue = command.reply_to or ""
    with tracer().start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER) as span:
        span.set_attributes(
            _of_message(queue, "send", command.correlation_id) | {"mainstay.command_id": str(command.command_id)}
        )


def _of_message(queue: str, operation: str, correlation_id: Any) -> dict[str, Any]:
    attributes = {
        "messaging.system": NAME,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }
    if correlation_id is not None:
        attributes["messaging.message.conversation_id"] = str(correlation_id)
    return attributes


def _of_send(commands: Sequence[NewCommand], queue: str, operation: str) -> dict[str, Any]:
    first = commands[0]
    if len(commands) > 1:
        return _of_message(queue, operation, None) | {"messaging.batch.message_count": len(commands)}
    return _of_message(queue, operation, first.correlation_id) | {
        "mainstay.command_id": str(first.command_id),
        "mainstay.command_type": first.command_type,
    }


def _carrying(command: NewCommand) -> NewCommand:
    carrier: dict[str, Any] = {}
    propagate.inject(carrier)
    given = from_json(command.headers) if command.headers else {}
    return replace(command, headers=to_json(carrier | given, what="headers"))


def _carrier(headers: Any) -> dict[str, str]:
    """What of the headers can be context: anybody may have written them."""
    if not isinstance(headers, dict):
        return {}
    return {name: value for name, value in headers.items() if isinstance(value, str)}
