"""Who did what, where the database keeps no trail of it: said in the log, at a level that is shown by default."""

from mainstay.operations.console.access import User
from mainstay.telemetry import get_logger

logger = get_logger(__name__)


def noted(user: User, what: str, subject: str, reason: str) -> None:
    """Say who did what, to what, and why.

    Args:
        user: Who.
        what: In the past tense.
        subject: To what.
        reason: Why.
    """
    logger.warning("%s %s", what, subject, extra={"operator": user.name, "reason": reason})
