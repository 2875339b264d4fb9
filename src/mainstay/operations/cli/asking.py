"""What most commands do: ask the operator of the user's database one thing, and wait for the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mainstay.operations.operator import Operator

T = TypeVar("T")


def ask(
    dsn: str | None,
    question: "Callable[[Operator], Awaitable[T]]",
    *,
    who: str | None = None,
    reason: str | None = None,
) -> T:
    """The answer to a question; errors as `connected` and whatever is asked raise them.

    Args:
        dsn: As the user gave it.
        question: What to ask.
        who: In whose name, for the operators' trail; None: whoever calls.
        reason: Why.
    """
    from mainstay.operations.cli.connection import connected

    async def answer() -> T:
        async with connected(dsn, who=who, reason=reason) as operator:
            return await question(operator)

    return asyncio.run(answer())
