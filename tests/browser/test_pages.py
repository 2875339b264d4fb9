"""Every page in a browser: nothing it complains of, nothing that cannot be read or reached, at every width."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import visiting
from tests.support.console import OPERATOR, VIEWER

pytestmark = pytest.mark.browser

AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
WIDER = """() => {
    const wide = document.documentElement.clientWidth;
    return document.documentElement.scrollWidth <= wide ? [] : [...document.querySelectorAll("body *")]
        .filter((each) => each.getBoundingClientRect().right > wide + 1 && !each.closest(".wide, pre, nav"))
        .map((each) => `${each.tagName}.${each.className}`);
}"""


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (820, "dark"), (1440, "light")])
def test_every_page_can_be_read_at_any_width_and_no_browser_complains(browser, live, addresses, width, theme):
    size, faults = {"width": width, "height": 900}, []
    with visiting(browser, live, OPERATOR, viewport=size, color_scheme=theme) as operator:
        for address in addresses:
            operator.open(address)
            faults += [f"{address}: wider than the window: {each}" for each in operator.page.evaluate(WIDER)]
            faults += [f"{address}: {each}" for each in operator.troubles]
            operator.troubles.clear()
            for each in Axe().run(operator.page, options=AXE).response["violations"] if width != 820 else ():
                where = [node["target"] for node in each["nodes"][:3]]
                faults.append(f"{address}: {each['impact']}: {each['help']} {where}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("width", "lines"), [(390, 1), (834, 1), (1280, 12)])
def test_the_way_to_every_page_is_one_line_or_a_column_beside_the_page(browser, live, width, lines):
    with visiting(browser, live, VIEWER, viewport={"width": width, "height": 720}) as viewer:
        viewer.open("/projections")
        links = viewer.page.get_by_role("navigation", name="Pages").get_by_role("link")
        assert len({round(box["y"]) for each in links.all() if (box := each.bounding_box())}) == lines
        expect(links.filter(has_text="Projections")).to_be_in_viewport(ratio=1)
        if lines > 1:
            expect(links.first).to_be_in_viewport(ratio=1)


def test_a_viewer_is_offered_nothing_that_changes_anything(browser, live, addresses):
    with visiting(browser, live, VIEWER) as viewer:
        for address in addresses:
            viewer.open(address)
            forms = viewer.page.locator("form[method=post]").evaluate_all("all => all.map((each) => each.action)")
            assert forms == [f"{live.console.url}/logout"], address


def test_the_dashboard_follows_what_happens_and_the_theme_is_kept(browser, live):
    with visiting(browser, live, VIEWER, color_scheme="light") as viewer:
        expect(viewer.page.locator("[data-pulse]")).to_have_text("live")
        waiting = viewer.page.get_by_role("link", name="canceled").locator(".count")
        expect(waiting).not_to_have_text("…")
        before = int(waiting.inner_text())
        assert live.ask(_cancel_one, live).applied
        expect(waiting).to_have_text(str(before + 1))

        viewer.page.get_by_role("button", name="Dark").click()
        viewer.open("/commands")
        assert viewer.page.locator("html").get_attribute("data-theme") == "dark"
        assert viewer.page.get_by_role("button", name="Light").is_visible()


async def _cancel_one(live):
    (done,) = await live.console.operator.cancel([live.console.world.waiting])
    return done


def test_a_keyboard_is_enough(browser, live):
    with visiting(browser, live, OPERATOR) as operator:
        keys, focused = operator.page.keyboard, operator.page.locator(":focus")
        operator.open("/commands")
        keys.press("Tab")
        expect(focused).to_have_text("Skip to the content")
        expect(focused).to_be_in_viewport()
        keys.press("Enter")
        keys.press("Tab")
        expect(focused).to_have_attribute("name", "domain")
        assert focused.evaluate("it => getComputedStyle(it).outlineStyle") != "none"
        keys.type("shop")
        keys.press("Enter")
        operator.page.wait_for_url("**/commands?domain=shop*")
        assert operator.page.locator("tbody tr").count() > 0


def test_without_scripts_pages_are_right_and_decisions_can_be_made(browser, own_live):
    broken = own_live.console.world.broken
    with visiting(browser, own_live, OPERATOR, java_script_enabled=False) as operator:
        operator.page.get_by_role("link", name="Troubleshooting", exact=True).click()
        operator.page.get_by_role("link", name=str(broken)[:8]).first.click()
        operator.page.get_by_label("Why").fill("as agreed")
        operator.page.get_by_role("button", name="Cancel").click()
        expect(operator.page.locator(".said")).to_have_text("Canceled.")
    told = own_live.ask(own_live.console.operator.audit, broken)
    assert [each.details["operator"] for each in told if each.event_type.value == "OPERATOR_CANCEL"] == ["Olga"]
