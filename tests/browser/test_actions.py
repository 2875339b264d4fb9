"""Every form of every page, filled in and sent, beside a worker that goes on working."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import addresses_of, visiting
from tests.support.console import OPERATOR
from tests.support.crawling import shape
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

FILL = """form => {
    for (const each of document.querySelectorAll("main details")) each.open = true;
    for (const each of form.querySelectorAll("input, textarea, select")) {
        if (!each.required || each.value || each.type === "hidden") continue;
        if (each.type === "checkbox") each.checked = true;
        else if (each.tagName === "SELECT") each.selectedIndex = each.options.length - 1;
        else each.value = {number: each.min || "1", date: "2030-01-01"}[each.type] || "as agreed";
    }
}"""
BUTTONS = "main form[method=post] button:not([type=button])"


def test_every_action_that_is_offered_is_carried_out_or_says_why_not(browser, own_live):
    tried: dict[str, str] = {}
    with visiting(browser, own_live, OPERATOR) as operator:
        page, waiting = operator.page, own_live.ask(addresses_of, own_live.console.url)
        while waiting:
            address = waiting.pop(0)
            for number in range(_opened(operator, address).count()):
                button = _opened(operator, address).nth(number)
                if not button.count():
                    break  # what was done has taken it away
                action = button.evaluate("it => it.getAttribute('formaction') || it.form.getAttribute('action')")
                if (kind := shape(action) + button.inner_text()) in tried:
                    continue
                button.evaluate(f"it => ({FILL})(it.form)")
                heading = page.locator("h1").inner_text()
                with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
                    button.click()
                page.wait_for_load_state()
                said = page.locator(".said, .problem, [role=status], [role=alert]")
                tried[kind] = f"{answered.value.status} {said.all_inner_texts()}"
                assert answered.value.status in {200, 303, 400, 409}, (address, tried[kind])
                is_elsewhere = address.partition("?")[0] not in page.url  # as after sending: there is the command
                goes_on = page.locator("h1").inner_text() != heading  # as from an edited payload to what it changes
                assert said.count() or is_elsewhere or goes_on, (
                    f"{action} on {address} says nothing of what became of it"
                )
                expected = [each for each in operator.troubles if re.search("status of (400|409)", each)]
                assert operator.troubles == expected
                operator.troubles.clear()
                if shape(target := page.url.removeprefix(own_live.console.url)) not in map(shape, waiting):
                    waiting.append(target)
    assert any(re.search("retry", each) for each in tried)
    assert any(each.startswith("303") for each in tried.values()), tried


def _opened(operator, address):
    if operator.page.url != operator.url + address:
        answer = operator.page.goto(operator.url + address)
        assert answer.status < 500
        if answer.status == 404:  # what was done before has taken it away, and the browser tells of that
            operator.troubles.clear()
    return operator.page.locator(BUTTONS)


def test_what_is_retried_is_handled_again(browser, own_live):
    world, asked = own_live.console.world, own_live.console.operator
    with visiting(browser, own_live, OPERATOR) as operator:
        operator.open(f"/commands/shop/{world.broken}")
        operator.page.get_by_label("Why").fill("it is mended")
        operator.page.get_by_role("button", name="Retry").click()
        expect(operator.page.locator(".said")).to_have_text("Retried. It waits to be received.")

        async def failed_again():
            told = [each.event_type.value for each in await asked.audit(world.broken)]
            return told.count("MOVED_TO_TSQ") == 2

        own_live.ask(eventually, failed_again)
        operator.open(f"/commands/shop/{world.broken}")
        expect(operator.page.locator(".timeline")).to_contain_text("it is mended")
        expect(operator.page.locator(".timeline")).to_contain_text("Olga")
