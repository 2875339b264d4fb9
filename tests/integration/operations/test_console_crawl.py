"""Every link of the console, over things whose names mean harm: each leads to a page, and none of it is markup."""

from uuid import uuid4

import pytest

from mainstay import SendRequest
from mainstay.operations.console import console
from tests.support.console import OPERATOR, VIEWER, browser, tokens
from tests.support.console_world import QUIET, Words, settle
from tests.support.crawling import crawl
from tests.support.markup import faults

NAME = "\"'><evil onerror=alert(1)>{{7*7}}" + "W" * 9
WORDS = Words(
    name=NAME,
    text="</pre></script></textarea><evil><script>alert(1)</script>' onload=alert(1) \x01\u202egpj.exe\u2066\u200b"
    + "\u05d0" * 400,
    data={"<svg/onload=alert(1)>": ["javascript:alert(1)", {"a": [[["&lt;b&gt;"]]]}]},
)
DEEPEST = 252


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
