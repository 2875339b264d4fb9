"""What most commands do: ask the operator of the user's database one thing, and wait for the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mainstay.operations.operator import Operator

T = TypeVar("T")


def ask(dsn: str | None, question: "Callable[[Operator], Awaitable[T]]") -> T:
    """The answer to a question; errors as `connected` and whatever is asked raise them.

    Args:
        dsn: As the user gave it.
        question: What to ask.
    """
    from mainstay.operations.cli.connection import connected

    async def answer() -> T:
        async with connected(dsn) as operator:
            return await question(operator)

    return asyncio.run(answer())
