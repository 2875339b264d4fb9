"""The pictures of the console, and of the command line, that the documentation shows: ``make screenshots``.

Nothing in them is made up. The example's bank works on a database of its own, whose customers go on sending each other
money; worker processes handle loads that the console's own page sends; and somebody with a browser looks at it, decides
and rebuilds. ``--minutes`` says for how long all that goes on before the pictures are taken: the dashboard draws a
quarter of an hour.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from playwright.async_api import Page, async_playwright

from examples.bank.bank import Bank, handlers, open_bank
from examples.bank.story import Story, named
from examples.bank.transfers import TransferState, order
from examples.bank.views import Ledger
from mainstay.operations.cli.serving import serving
from mainstay.operations.console import Role, User
from mainstay.operations.demo.processes import Crew
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.browser.terminal import take, typed
from tests.support.chromium import MISSING, chromium

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
LARGEST: Final = 150_000
"""Bytes that a picture may have."""
WIDE, HIGH = 1200, 840
CUSTOMERS = ("ann", "ben", "cleo")
LOAD = (
    "load?count=300&fail_permanent_pct=1&fail_transient_pct=12&fail_business_rule_pct=1.5&timeout_pct=1"
    "&min_duration_ms=40&max_duration_ms=400"
)


@dataclass(frozen=True, slots=True)
class AtWork:
    """A bank that works, and its console.

    Args:
        url: Of the console.
        bank: Open.
        operator: Asks and does what the console asks and does.
        refunded: A transfer whose money was given back.
    """

    url: str
    bank: Bank
    operator: Operator
    refunded: UUID


@asynccontextmanager
async def at_work(dsn: str) -> AsyncIterator[AtWork]:
    """A bank after its story, whose customers go on, beside two worker processes of the demo and a console."""
    crew, enough = Crew(dsn, concurrency=4, lease=10.0), asyncio.Event()
    async with open_bank(dsn, patience=timedelta(hours=1)) as bank, Operator.connect(dsn, max_size=8) as operator:
        with redirect_stdout(StringIO()):
            await Story(bank).tell()
        known = {"registry": handlers(bank.transfer), "projections": bank.views}
        async with serving(operator, ("127.0.0.1", 0), auth=_olga, demo=True, **known) as served:
            going_on = asyncio.create_task(_pay(bank, enough))
            try:
                await crew.start(2)
                yield AtWork(served.url, bank, operator, named("present"))
            finally:
                enough.set()
                await going_on
                await crew.stop()


def _olga(_request: object) -> User:
    return User("olga", Role.OPERATOR)


async def _pay(bank: Bank, enough: asyncio.Event) -> None:
    """Let money go round, and now and then to an account that is closed."""
    for number in count():
        source, target = CUSTOMERS[number % 3], CUSTOMERS[(number + 1) % 3]
        state = TransferState(
            transfer_id=uuid4(), source=source, target="dan" if number % 9 == 4 else target, amount=100 + number % 50
        )
        await order(bank.app, bank.transfer, state)
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), 1.5)
        if enough.is_set():
            return


class Photographer:
    """Somebody with a browser and a camera.

    Args:
        page: Of the browser.
        world: What there is to be seen.
    """

    def __init__(self, page: Page, world: AtWork) -> None:
        self._page = page
        self._world = world

    async def open(self, path: str) -> None:
        """Go to a page."""
        answer = await self._page.goto(self._world.url + path)
        if answer is None or not answer.ok:
            raise RuntimeError(f"{path} answers {answer and answer.status}")

    async def send_load(self) -> None:
        """Send a load, as somebody does who moves the sliders."""
        await self.open(LOAD)
        await self._page.get_by_role("button", name="Send", exact=True).click()
        await self._page.get_by_role("heading", name="300 commands").first.wait_for()

    async def load_ended(self) -> None:
        """Wait until nothing of the newest load is under way any more."""
        await self.open("batches?domain=e2e")
        await self._page.locator("tbody tr:first-child .status.in-progress").wait_for(state="detached", timeout=120_000)

    async def rebuild(self) -> None:
        """Build the tables of a projection anew, and compare."""
        await self.open(f"projections/one?subscription={Ledger.name}")
        await self._page.get_by_role("button", name="Build anew, and compare").click()
        await self._page.locator("#rebuild ~ p strong").wait_for()

    async def take(self, name: str, path: str, *, high: int = HIGH) -> None:
        """Take a picture of the upper part of a page."""
        await self._page.set_viewport_size({"width": WIDE, "height": high})
        await self.open(path)
        pulse = self._page.locator("[data-pulse]")
        if await pulse.count():
            await self._page.locator("[data-pulse].on").wait_for()
        target = IMAGES / f"console-{name}.png"
        picture = await self._page.screenshot(animations="disabled")
        if len(picture) > LARGEST:
            raise RuntimeError(f"{target.name} has {len(picture):,} bytes: let it be less high")
        target.write_bytes(picture)
        print(f"{target.name}: {len(picture):,} bytes")

    async def waiting(self) -> str:
        """The path of the command that waits longest for an operator."""
        await self.open("troubleshooting?domain=e2e")
        link = self._page.locator("section[aria-labelledby=waiting] tbody a").first
        return str(await link.get_attribute("href")).removeprefix("/")


async def take_all(dsn: str, minutes: float) -> None:
    """Let all of it work for a while, and take the pictures."""
    async with async_playwright() as playwright, at_work(dsn) as world:
        path = chromium(playwright.chromium.executable_path)
        if path is None:
            sys.exit(MISSING)
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page(color_scheme="light", locale="en-GB", viewport={"width": WIDE, "height": HIGH})
        olga, until = Photographer(page, world), time.monotonic() + 60 * minutes
        await olga.send_load()
        while time.monotonic() < until:
            await olga.load_ended()
            await olga.send_load()
        IMAGES.mkdir(exist_ok=True)
        await olga.take("dashboard", "")
        await olga.take("troubleshooting", "troubleshooting", high=620)
        waiting = await olga.waiting()
        await olga.take("command", waiting, high=800)
        await asyncio.to_thread(take_terminal, dsn, waiting.rpartition("/")[2])
        await olga.take("process", f"processes/{world.refunded}")
        await olga.rebuild()
        await olga.take("projections", f"projections/one?subscription={Ledger.name}", high=880)
        await browser.close()


def take_terminal(dsn: str, command_id: str) -> None:
    """Take a picture of what an operator without a browser sees of the same."""
    shown = [
        typed(dsn, "tsq", "groups", "--domain", "e2e"),
        typed(dsn, "tsq", "show", command_id),
        typed(dsn, "commands", "audit", command_id),
    ]
    take(IMAGES / "cli-troubleshooting.svg", "mainstay tsq", *shown)


def main() -> None:
    """Take them, on an embedded server."""
    options = argparse.ArgumentParser(description="Take the pictures of the console that the documentation shows.")
    options.add_argument("--minutes", type=float, default=3, help="for how long it works before (%(default)s)")
    minutes = options.parse_args().minutes
    with ExitStack() as stack:
        server, database = stack.enter_context(EmbeddedServer()), f"screenshots_{os.getpid()}"
        stack.callback(server.drop_database, database)
        asyncio.run(take_all(server.dsn(database), minutes))


if __name__ == "__main__":
    main()
