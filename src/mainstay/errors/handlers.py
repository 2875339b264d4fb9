"""Errors about handlers, and those that handlers raise."""

from datetime import timedelta
from typing import Any

from mainstay.errors.base import MainstayError, shown


class HandlerError(MainstayError):
    """Base of what has to do with handlers."""


class HandlerNotFoundError(HandlerError):
    """No handler is registered for this type."""

    def __init__(self, domain: str, command_type: str) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_type = command_type
        super().__init__(f"no handler for {shown(command_type)} in domain {shown(domain)}")


class HandlerAlreadyRegisteredError(HandlerError, ValueError):
    """Two handlers for one command type."""

    def __init__(self, domain: str, command_type: str) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_type = command_type
        super().__init__(f"handler already registered for {domain}.{command_type}")


class _CodedError(HandlerError):
    """An error with a code that people and programs agree on.

    Args:
        code: Short, stable, for grouping: ``"TIMEOUT"``.
        message: For people.
        details: JSON object for the audit trail and the operator.
    """

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.error_message = message
        self.details = details
        super().__init__(f"[{code}] {message}")


class TransientCommandError(_CodedError):
    """Raised by a handler: try again according to the retry policy.

    Args:
        code: Short, stable, for grouping: ``"TIMEOUT"``.
        message: For people.
        details: JSON object for the audit trail and the operator.
        retry_after: Seconds or timedelta until the next attempt, instead of the policy's delay: what a remote system
            asked for. The number of attempts stays. What is no duration is logged, and the policy decides.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        retry_after: timedelta | float | None = None,
    ) -> None:
        super().__init__(code, message, details)
        self.retry_after = retry_after


class PermanentCommandError(_CodedError):
    """Raised by a handler: retrying cannot help; the command goes to the troubleshooting queue at once."""


class BusinessRuleException(_CodedError):
    """Raised by a handler: the business refuses. The command is FAILED, finally, and no operator is asked."""
