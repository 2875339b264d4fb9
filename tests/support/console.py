"""A console on a database, and browsers that look at it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mainstay.operations.console import Role, TokenAccess, User

OPERATOR, VIEWER = "operator-token-" + "x" * 20, "viewer-token-" + "y" * 20


def tokens() -> TokenAccess:
    return TokenAccess({OPERATOR: User("Olga", Role.OPERATOR), VIEWER: User("Vera", Role.VIEWER)})


@asynccontextmanager
async def browser(app: Any, token: str | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who looks at a console, logged in as people do."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        if token is not None:
            answer = await client.post("/login", data={"token": token, "csrf": csrf_in(await client.get("/login"))})
            assert answer.status_code == 303, answer.text
        yield client


def csrf_in(answer: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', answer.text)
    assert found, answer.text
    return found[1]
