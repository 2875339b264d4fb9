"""Parts of pages that follow what happens, by server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from starlette.requests import Request

from mainstay.errors import MainstayError
from mainstay.operations.console.overview import FRESH

Part: TypeAlias = Callable[[Request], Awaitable[str]]
"""Renders a part of a page, as it is now."""
STREAM_SECONDS: Final = 300.0
"""After so long a stream ends; the browser begins another, and is asked again who it is."""


async def stream(
    request: Request,
    part: Part,
    *,
    seconds: float = STREAM_SECONDS,
    pause: float = FRESH,
) -> AsyncIterator[str]:
    """What a stream sends until its reader is gone or its time is over; a database that is gone is told of."""
    loop = asyncio.get_running_loop()
    ends, last = loop.time() + seconds, ""
    yield "retry: 2000\n\n"
    closing = request.state.console_desk.closing
    request.state.console_stream = True
    while loop.time() < ends and not closing.is_set() and not await request.is_disconnected():
        try:
            now = await part(request)
        except MainstayError as error:
            yield _event("trouble", str(error))
        else:
            yield _event("part", now) if now != last else ": nothing new\n\n"
            last = now
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await closing.wait()


def _event(kind: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {kind}\n{lines}\n"
