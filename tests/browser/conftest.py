"""A served console and a headless Chromium; where there is no Chromium, the tests are skipped and say so."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from tests.support.chromium import MISSING, chromium
from tests.support.console import OPERATOR, csrf_in
from tests.support.console_world import Words
from tests.support.crawling import crawl, shape
from tests.support.live_console import LiveConsole, served
from tests.support.servers import Servers

HOSTILE = Words(
    name="\"'><img src=x onerror=alert(1)><b>",
    text="</pre></script><script>alert(1)</script>\u202egpj.exe\u2066\u200b"
    + "\u0416" * 300
    + " \u05e9\u05dc\u05d5\u05dd",
    data={"<svg/onload=alert(1)>": ["javascript:alert(1)", "x" * 5_000, {"a": [[[{"b": 1e300}]]]}]},
)


@dataclass
class Live:
    """A console that is served, and the way to its event loop."""

    console: LiveConsole
    portal: Any

    def ask(self, function: Any, *arguments: Any) -> Any:
        """Call a coroutine function where the console runs."""
        return self.portal.call(function, *arguments)


@contextmanager
def _live(servers: Servers, words: Words = HOSTILE, *, has_code: bool = False) -> Iterator[Live]:
    server = servers.get("18")
    with (
        server.database() as name,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(served(server.dsn(name), words, has_code=has_code)) as console,
    ):
        yield Live(console, portal)


@pytest.fixture(scope="session")
def live(browser: Browser, servers: Servers) -> Iterator[Live]:
    """A console for whoever only looks."""
    with _live(servers) as made:
        yield made


@pytest.fixture
def own_live(browser: Browser, servers: Servers) -> Iterator[Live]:
    """A console for one test, which may change what it likes."""
    with _live(servers) as made:
        yield made


@pytest.fixture
def plain_live(browser: Browser, servers: Servers) -> Iterator[Live]:
    """A console for one test, without words that are meant to do harm, and with the code of its projections."""
    with _live(servers, Words(), has_code=True) as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium(playwright.chromium.executable_path)
        if path is None:
            pytest.skip(MISSING)
        with playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as launched:
            yield launched


@dataclass
class Visitor:
    """Somebody with a browser, who notes whatever it complains of."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.troubles.append(f"raised: {error}"))
        self.page.on("dialog", lambda dialog: (self.troubles.append(f"asked: {dialog.message}"), dialog.dismiss()))
        self.page.on("requestfailed", self._failed)

    def open(self, path: str) -> Response:
        """Go to a page, which must be there."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)
        return answer

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what is left with its page
            self.troubles.append(f"failed: {request.url}: {request.failure}")


@contextmanager
def visiting(browser: Browser, live: Live, token: str, **options: Any) -> Iterator[Visitor]:
    """Somebody who has logged in, and of whose browser there must be no complaint."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(30_000)
        visitor = Visitor(context.new_page(), live.console.url)
        visitor.open("/login")
        visitor.page.get_by_label("Token").fill(token)
        visitor.page.get_by_role("button", name="Log in").click()
        visitor.page.wait_for_url(f"{live.console.url}/")
        yield visitor
    assert visitor.troubles == []


@pytest.fixture(scope="session")
def addresses(live: Live) -> list[str]:
    """One address of every shape that can be come to by links."""
    return live.ask(addresses_of, live.console.url)


async def addresses_of(url: str) -> list[str]:
    """The addresses of pages, one of every shape, as an operator comes to them."""
    found: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=url) as client:
        await client.post("/login", data={"token": OPERATOR, "csrf": csrf_in(await client.get("/login"))})
        async for _, address, answer in crawl(client):
            if "text/html" in answer.headers["content-type"]:
                found.setdefault(shape(address), address)
    return list(found.values())
