"""In how many clicks operators do what they do most: what docs/guides/console.md says of it is counted here."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import visiting
from tests.support.console import OPERATOR

pytestmark = pytest.mark.browser

GUIDE = Path(__file__).parents[2] / "docs/guides/console.md"
SAID = re.compile(r"^\| ([^|]+) \| (\d) \| ", re.MULTILINE)


class Hand:
    """Clicks on the dashboard and on what it leads to, and counts; what is typed is counted by nobody."""

    def __init__(self, page, world):
        self.page = page
        self.world = world
        self.clicks = 0

    def click(self, role, name, *, exact=True, within="main"):
        self.page.locator(within).get_by_role(role, name=name, exact=exact).first.click()
        self.clicks += 1

    def type(self, label, text):
        self.page.get_by_label(label).fill(text)

    def sees(self, heading):
        expect(self.page.get_by_role("heading", name=heading)).to_be_visible()


def find(hand):
    hand.page.keyboard.press("/")
    hand.page.keyboard.type(str(hand.world.broken)[:8])
    hand.page.keyboard.press("Enter")
    expect(hand.page.locator("p.id")).to_have_text(str(hand.world.broken))


def retry_a_group(hand):
    hand.click("link", "it is broken")
    hand.click("button", "Retry …")
    hand.type("Why", "it is mended")
    hand.click("button", re.compile(r"Retry \d commands?"))
    hand.sees(re.compile(r"Retry: \d commands?"))


def edit_and_retry(hand):
    hand.click("link", "Troubleshooting", within="nav")
    hand.click("link", str(hand.world.broken)[:8])
    hand.click("link", "Edit the payload")
    hand.type("Payload, a JSON object", '{"right": true}')
    hand.click("button", "Check")
    hand.type("Why", "it was wrong")
    hand.click("button", "Retry with this payload")
    expect(hand.page.locator(".said")).to_contain_text("Retried")


def pause_a_type(hand):
    hand.click("link", "it is broken")
    hand.click("link", "Pause it …")
    hand.type("Why", "what it calls is down")
    hand.click("button", "Pause")
    expect(hand.page.locator(".said")).to_contain_text("Paused")


def replay(hand):
    hand.click("link", "apart")
    hand.type("What has changed", "the constraint is dropped")
    hand.click("button", "Handle again")
    hand.sees("Handled again")


def rebuild(hand):
    hand.click("link", "balances")
    hand.click("button", "Build anew, and compare")
    hand.click("button", "Swap")
    expect(hand.page.get_by_text("Swapped")).to_be_visible()


DONE = {  # what takes commands away comes late, and a pause, which holds them, last
    "Find a command by its id": find,
    "Handle dead letters again": replay,
    "Rebuild a projection, and swap it": rebuild,
    "Edit a payload, and retry": edit_and_retry,
    "Retry what failed alike": retry_a_group,
    "Pause a type that fails": pause_a_type,
}


def test_what_operators_do_most_takes_as_many_clicks_as_the_guide_says(browser, plain_live):
    counted = {}
    with visiting(browser, plain_live, OPERATOR, viewport={"width": 1440, "height": 900}) as operator:
        for what, way in DONE.items():
            operator.open("/")
            way(hand := Hand(operator.page, plain_live.console.world))
            counted[what] = hand.clicks

    said = {what: int(clicks) for what, clicks in SAID.findall(GUIDE.read_text(encoding="utf-8"))}
    assert said == counted
