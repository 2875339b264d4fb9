"""Every link of the console, over things whose names mean harm: each leads to a page, and none of it is markup."""

import re
from html.parser import HTMLParser
from uuid import uuid4

import pytest

from mainstay import SendRequest
from mainstay.operations.console import console
from mainstay.operations.operator import Operator
from tests.support.console import OPERATOR, VIEWER, browser, tokens
from tests.support.console_world import QUIET, Words, settle
from tests.support.crawling import crawl

NAME = "\"'><evil onerror=alert(1)>{{7*7}}" + "W" * 9
WORDS = Words(
    name=NAME,
    text="</pre></script></textarea><evil><script>alert(1)</script>' onload=alert(1) \x01\u202egpj.exe\u2066\u200b"
    + "\u05d0" * 400,
    data={"<svg/onload=alert(1)>": ["javascript:alert(1)", {"a": [[["&lt;b&gt;"]]]}]},
)
DEEPEST = 252
FOREIGN = {"base", "embed", "evil", "iframe", "math", "object", "style"}
"""Tags that none of our templates has."""


class Markup(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.faults += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        self.faults += [f"{each}" for each in given.values() if re.match(r"\s*(javascript|data):", each or "")]
        if tag in FOREIGN or (tag in {"script", "img"} and "/static/" not in (given.get("src") or "")):
            self.faults.append(f"<{tag}>")


def faults(text: str) -> list[str]:
    """What is on a page that must not be."""
    parser = Markup()
    parser.feed(text)
    parser.close()
    unseen = re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
    return parser.faults + [f"unseen: {each!r}" for each in unseen]


@pytest.fixture
async def operator(pool):
    made = Operator(pool)
    yield made
    await made.bus.close()


@pytest.mark.parametrize("token", [OPERATOR, VIEWER])
async def test_every_link_leads_to_a_page_and_nothing_on_it_is_markup_of_somebody_else(pool, operator, token):
    await settle(pool, WORDS)
    seen, hostile = 0, 0
    async with browser(console(operator, auth=tokens(), personal=["mail"]), token) as client:
        async for page, address, answer in crawl(client):
            assert answer.status_code == 200, f"{address}, linked from {page}: {answer.status_code}"
            seen += 1
            if "html" in answer.headers["content-type"]:
                assert faults(answer.text) == [], address
                assert "example.org" not in answer.text, address
                assert "49" + "W" * 9 not in answer.text, address
                hostile += "onerror" in answer.text
    assert seen > 20
    assert hostile > 10


async def test_large_payloads_and_deep_ones_are_shown_whole_and_harmless(pool, operator):
    deep = {"end": "<evil>"}
    for _ in range(DEEPEST):
        deep = {"d": deep}
    payloads = [
        {"<script>": "<script>alert(1)</script>" * 35_000},
        {"rows": [[i, "<evil>"] for i in range(40_000)]},
        deep,
    ]
    ids = [uuid4() for _ in payloads]
    await operator.send([SendRequest(QUIET, "Large", key, data) for key, data in zip(ids, payloads, strict=True)])
    async with browser(console(operator, auth=tokens()), OPERATOR) as client:
        for key in ids:
            answer = await client.get(f"/commands/{QUIET}/{key}")
            assert answer.status_code == 200
            assert faults(answer.text) == []
            assert (await client.get(f"/api/commands/{QUIET}/{key}")).status_code == 200
        assert (await client.get("/commands")).status_code == 200


def test_what_means_harm_is_seen_where_it_is_not_escaped():
    assert faults("<img src=x onerror=alert(1)>") == ["<img onerror>", "<img>"]
    assert faults("<script>alert(1)</script>") == ["<script>"]
    assert faults("<a href='javascript:alert(1)'>\u202e</a>") == ["javascript:alert(1)", "unseen: '\\u202e'"]
