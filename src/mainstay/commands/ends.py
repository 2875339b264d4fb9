"""What the end of a handler means for its command: the outcomes that are written, and what of a text can be stored."""

from typing import Any

from mainstay.commands.aggregates import Opened
from mainstay.commands.command import Failure, Success
from mainstay.commands.deciders import Consequence
from mainstay.commands.handler import Handler
from mainstay.commands.ledger import FIRST_VERSION, NewDecision
from mainstay.commands.sends import Sends
from mainstay.commands.store import NewCommand, Outcome, Received, Verb
from mainstay.errors import ConfigurationError, InvalidPayloadError, TransientCommandError, told
from mainstay.message import COMMANDS_SUFFIX
from mainstay.retry import as_seconds
from mainstay.serialization import storable, to_json
from mainstay.telemetry import get_logger

TRANSIENT = "TRANSIENT"
PERMANENT = "PERMANENT"
BUSINESS_RULE = "BUSINESS_RULE"

CODE_LIMIT = 200
"""Characters of an error's code."""
_TEXT_LIMIT = 4000

logger = get_logger(__name__)


class Why:
    """Why a command is given back, as its audit trail says it."""

    STOPPED = b'{"reason": "the worker stopped"}'
    LATE = b'{"reason": "it would have started too late for its rate limit"}'
    CANCELED = b'{"reason": "it is to be canceled"}'
    STALLED = b'{"reason": "the handlers before it take long"}'
    NOT_BEGUN = b'{"reason": "no connection for its handler became free in time"}'
    OVERTAKEN = b'{"reason": "others were quicker to append to its stream, each time"}'


class InvalidResultError(Exception):
    """A handler returned what cannot be stored; carries the reason out of a transaction."""


def asked_delay(received: Received, error: BaseException, otherwise: float) -> float:
    """Seconds until the next attempt: what the handler's error asks for, else the policy's."""
    asked = error.retry_after if isinstance(error, TransientCommandError) else None
    if asked is None:
        return otherwise
    try:
        return as_seconds(asked)
    except ConfigurationError as problem:
        logger.warning("retry_after of a handler's error is of no use: %s", problem, extra=about(received))
        return otherwise


def unwritable(received: Outcome, error: BaseException) -> Outcome:
    """The outcome for a command whose own outcome the database refused: an operator must look.

    Args:
        received: What was refused.
        error: Why.
    """
    return Outcome(
        lease=received.lease,
        verb=Verb.TROUBLESHOOT,
        error_type=PERMANENT,
        error_code=cleaned(type(error).__name__, CODE_LIMIT),
        error_message=cleaned(f"the outcome {received.verb} could not be written: {told(error)}"),
        details=received.result,
    )


def tell_operators(domain: str, command_type: str, outcome: Outcome) -> None:
    """Log that an operator must decide on a command; call it once that is written.

    Args:
        domain: The command's.
        command_type: The command's.
        outcome: What was written.
    """
    command_id = str(outcome.lease.command_id)
    logger.warning(
        "an operator must decide on %s.%s %s: %s: %s",
        domain,
        command_type,
        command_id,
        outcome.error_code,
        outcome.error_message,
        extra={"domain": domain, "command_id": command_id, "command_type": command_type},
    )


def decision_of(handler: Handler, opened: Opened | Consequence | None, sends: Sends | None) -> NewDecision | None:
    """What the ledger keeps of a decision on an aggregate; of a refusal without sends."""
    if opened is None:
        return None
    sent = () if sends is None else tuple(sends.keys)
    version = handler.options.version or FIRST_VERSION
    return NewDecision(opened.stream, opened.version_read, opened.events, handler.name, version, sent)


def outcome_of(received: Received, result: Success[Any] | Failure, sends: tuple[NewCommand, ...]) -> Outcome:
    """What a handler's result means for its command."""
    if isinstance(result, Failure):
        return failure_of(received, result.code, result.message, result.details)
    try:
        document = None if result.value is None else to_json(result.value, what="the handler's result")
    except InvalidPayloadError as error:
        raise InvalidResultError from error
    return Outcome(received.lease, Verb.COMPLETE, document, sends=sends, answers=answers_to(received))


def failure_of(received: Received, code: str, text: str, details: dict[str, Any] | None) -> Outcome:
    """That a command failed for good, as its rules say."""
    return Outcome(
        lease=received.lease,
        verb=Verb.FAIL,
        error_type=BUSINESS_RULE,
        error_code=cleaned(code, CODE_LIMIT),
        error_message=cleaned(text),
        details=details_of(details),
        answers=answers_to(received),
    )


def answers_to(received: Received) -> str | None:
    """The domain whose workers the reply is for, if it arrives as a command."""
    queue = received.command.reply_to
    return queue.removesuffix(COMMANDS_SUFFIX) if queue and queue.endswith(COMMANDS_SUFFIX) else None


def cleaned(text: object, limit: int = _TEXT_LIMIT) -> str:
    """Text that PostgreSQL can store, whatever an exception says, even if it cannot say anything."""
    stored = storable(told(text))
    return stored if len(stored) <= limit else stored[: limit - 1] + "…"


def details_of(details: dict[str, Any] | None) -> bytes | None:
    """Details of an error as JSON; what JSON cannot hold as text."""
    if details is None:
        return None
    try:
        return to_json(details, what="details")
    except InvalidPayloadError as error:
        parts = details.items() if isinstance(details, dict) else [("details", details)]
        return to_json({"unreadable": cleaned(error)} | {cleaned(name): cleaned(part) for name, part in parts})


def about(received: Received) -> dict[str, str]:
    """What a line of the log says of a command besides."""
    return {
        "domain": received.command.domain,
        "command_id": str(received.command.command_id),
        "command_type": received.command.command_type,
    }
