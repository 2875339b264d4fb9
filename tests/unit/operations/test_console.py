"""The console's guard and its manners, without a database: who is let in, what is sent along, what is made harmless."""

import asyncio
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import httpx
import pytest
from markupsafe import Markup
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

from mainstay import CommandModel, ConfigurationError, HandlerRegistry
from mainstay.operations.console import Anybody, Role, TokenAccess, User, console
from mainstay.operations.console import api as console_api
from mainstay.operations.console.asking import OPERATIONS
from mainstay.operations.console.keeping import LONGEST_REST, SHARE, Budget, Kept, Shared
from mainstay.operations.console.masking import MASK, Masking
from mainstay.operations.console.pages.session import _inside
from mainstay.operations.console.questions.commands import CommandsAsked
from mainstay.operations.console.rendering import environment, figure, length, when
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens

ID = "00000000-0000-4000-8000-000000000001"
DECISIONS = [f"/commands/shop/{ID}/{verb}" for verb in ("retry", "complete", "cancel")]
API_DECISIONS = [f"/api/troubleshooting/shop/{ID}/{verb}" for verb in ("retry", "complete", "cancel")]


class Untouched:
    """An operator that nobody may ask anything."""

    def __getattr__(self, name):
        raise AssertionError(f"the operator was asked: {name}")


@pytest.fixture
def app():
    return console(Untouched(), auth=tokens())


# -- who is let in -----------------------------------------------------------------------------------------------------
def test_there_is_no_console_without_authentication():
    with pytest.raises(ConfigurationError, match="needs to know who may use it"):
        console(Untouched(), auth=None)
    with pytest.raises(ConfigurationError, match="at least one token"):
        TokenAccess({})
    with pytest.raises(ConfigurationError, match="16 ASCII characters"):
        TokenAccess({"short": User("Olga")})


@pytest.mark.parametrize("text", ["olga", "olga:admin:" + "x" * 20, "olga:operator:", ":viewer:" + "x" * 20])
def test_a_list_of_tokens_that_is_none_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigurationError) as refused:
        TokenAccess.read(text)
    assert "x" * 20 not in str(refused.value)


def test_users_are_read_from_a_list_of_tokens():
    access = TokenAccess.read(f"olga:operator:{OPERATOR}\nvera:viewer:{VIEWER}")

    assert access.user_of(OPERATOR) == User("olga", Role.OPERATOR)
    assert access.user_of(VIEWER) == User("vera", Role.VIEWER)
    assert access.user_of(VIEWER[:-1]) is None


async def test_nobody_sees_anything_without_a_login(app):
    async with browser(app) as stranger:
        for path in ("/", "/commands", f"/commands/shop/{ID}", "/troubleshooting", f"/conversations/{ID}", "/nowhere"):
            answer = await stranger.get(path)
            assert (answer.status_code, answer.headers["location"][:7]) == (303, "/login?"), path
        for path in ("/live/dashboard", "/api/overview", "/api/commands", "/api/openapi.json", "/api/nowhere"):
            assert (await stranger.get(path)).status_code == 401, path


@pytest.mark.parametrize("path", [*DECISIONS, *API_DECISIONS, "/", "/nowhere", "/api/overview", "/static/console.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_is_changed_without_a_login_or_as_viewer(app, path, method):
    async with browser(app) as stranger:
        assert (await stranger.request(method, path)).status_code == 401
        bearer = {"authorization": f"Bearer {VIEWER}"}
        assert (await stranger.request(method, path, headers=bearer, json={"reason": "why"})).status_code == 403
        bearer = {"authorization": "Bearer wrong"}
        assert (await stranger.request(method, path, headers=bearer, json={"reason": "why"})).status_code == 401
    async with browser(app, VIEWER) as viewer:
        form = {"reason": "why", "csrf": "0" * 64}
        assert (await viewer.request(method, path, data=form)).status_code == 403


@pytest.mark.parametrize("path", [*DECISIONS, *API_DECISIONS, "/logout"])
async def test_nothing_is_changed_without_the_token_of_a_form_or_with_a_wrong_one(app, path):
    async with browser(app, OPERATOR) as operator, browser(app, VIEWER) as other:
        of_another = csrf_in(await other.get("/login"))
        for form in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": of_another}, {"csrf": "\u00fc"}):
            answer = await operator.post(path, data={"reason": "why", **form})
            assert answer.status_code == 403, form
        mine = csrf_in(await operator.get("/login"))
        elsewhere = {"sec-fetch-site": "cross-site"}
        answer = await operator.post(path, data={"reason": "why", "csrf": mine}, headers=elsewhere)
        assert answer.status_code == 403


@pytest.mark.parametrize("cookie", ["", "x", "9999999999.abc.def", "9999999999..", "..", "\u00e4.b.c"])
async def test_a_session_that_was_not_signed_here_is_none(app, cookie):
    async with browser(app) as forger:
        answer = await forger.get("/", headers={"cookie": f"mainstay_console={cookie}".encode()})
        assert answer.status_code == 303


async def test_a_session_ends_with_the_cookie_and_with_other_tokens(app):
    async with browser(app, OPERATOR) as operator:
        cookie = operator.cookies["mainstay_console"]
        other = console(Untouched(), auth=TokenAccess({"z" * 20: User("Olga", Role.OPERATOR)}))
        async with browser(other) as there:
            assert (await there.get("/login", headers={"cookie": f"mainstay_console={cookie}"})).text.count("Olga") == 0
        assert "Olga" in (await operator.get("/login")).text
        assert (await operator.post("/logout", data={"csrf": csrf_in(await operator.get("/login"))})).status_code == 303
        assert (await operator.get("/")).headers["location"].startswith("/login")


async def test_a_cookie_is_not_to_be_read_by_scripts_or_sent_by_other_sites(app):
    async with browser(app) as client:
        form = {"token": OPERATOR, "csrf": csrf_in(await client.get("/login"))}
        said = (await client.post("https://127.0.0.1/login", data=form)).headers["set-cookie"].lower()
        assert all(word in said for word in ("httponly", "samesite=strict", "secure", "path=/"))


async def test_a_wrong_token_is_told_so(app):
    async with browser(app) as client:
        form = {"token": "<b>guess</b>", "csrf": csrf_in(await client.get("/login"))}
        answer = await client.post("/login", data=form)
        assert answer.status_code == 401
        assert "Nobody has this token" in answer.text


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\n/evil"])
def test_a_login_leads_nowhere_else(path):
    assert _inside(path) == "/"
    assert _inside("/commands?status=FAILED") == "/commands?status=FAILED"


async def test_the_host_application_says_who_asks():
    async def hook(request: Request) -> User | None:
        name = request.headers.get("x-user")
        return User(name, Role.VIEWER) if name else None

    host = Starlette(routes=[Mount("/ops", console(Untouched(), auth=hook))])
    async with browser(host) as client:
        assert (await client.get("/ops/commands")).status_code == 401
        assert (await client.get("/ops/login", headers={"x-user": "Vera"})).status_code == 404
        page = await client.get("/ops/nowhere", headers={"x-user": "Vera"})
        assert page.status_code == 404
        assert 'href="/ops/commands"' in page.text
        assert "Log out" not in page.text
        assert (await client.get("/ops/static/console.css")).status_code == 200
        assert (await client.post("/ops" + DECISIONS[0], headers={"x-user": "Vera"})).status_code == 403


async def test_what_a_hook_gives_must_be_a_user():
    app = console(Untouched(), auth=lambda request: "Vera")
    async with browser(app) as client:
        answer = await client.get("/api/overview")
        assert answer.status_code == 500
        assert "User or None" in answer.json()["detail"]


async def test_everybody_is_let_in_under_names_of_loopback_only():
    app = console(Untouched(), auth=Anybody())
    async with browser(app) as client:
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.get("/nowhere", headers={"host": "localhost:8055"})).status_code == 404
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            assert (await client.get("/nowhere", headers={"host": name})).status_code == 421, name
        assert (await client.post(DECISIONS[0], data={"reason": "why"})).status_code == 403


# -- what is sent along ------------------------------------------------------------------------------------------------
async def test_every_answer_carries_the_policy_and_no_page_has_anything_inline(app):
    async with browser(app, OPERATOR) as client:
        for path in ("/login", "/nowhere", "/static/console.js", "/static/nothing", "/api/openapi.json", "/logout"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            if "html" in answer.headers["content-type"]:
                assert answer.headers["cache-control"] == "no-store"
                assert not re.search(r"<style|style=|<script(?! src=)| on\w+=", answer.text), path
    async with browser(app) as stranger:
        for answer in (await stranger.get("/"), await stranger.post("/"), await stranger.get("/api/overview")):
            assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_failure_of_the_console_is_a_page_that_tells_no_secret(app):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/api/failure-groups", headers={"authorization": f"Bearer {VIEWER}"})
    assert answer.status_code == 500
    assert "was asked" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_body_that_is_too_large_is_refused(app):
    async with browser(app, OPERATOR) as client:
        assert (await client.post(DECISIONS[0], data={"reason": "x" * 1_000_001})).status_code == 413


def test_no_asset_comes_from_elsewhere():
    for template in environment().list_templates():
        source = environment().loader.get_source(environment(), template)[0]
        assert not re.search(r"(src|href|action)=\"(https?:)?//", source), template
        assert "|safe" not in source.replace(" ", ""), template
        assert "autoescape" not in source, template


# -- what is made harmless ---------------------------------------------------------------------------------------------
HOSTILE = "</pre><script>alert(1)</script>\"' onload=x \x00 \u202egpj.exe \u2066 {{ 7*7 }} &amp;"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("template", ["{{ it }}", '<a title="{{ it }}">x</a>', "<pre>{{ {'k': it} | json }}</pre>"])
def test_what_is_printed_is_escaped_and_all_of_it_is_seen(template):
    printed = environment().from_string(template).render(it=HOSTILE)
    parser = Tags()
    parser.feed(printed)

    assert [tag for tag, _ in parser.found] == (["a"] if "<a" in template else ["pre"] if "<pre" in template else [])
    assert all(set(attrs) <= {"title"} for _, attrs in parser.found)
    assert not re.search("[\x00\u202e\u2066]", printed)
    assert "U+202E" in printed
    assert "{{ 7*7 }}" in printed


@pytest.mark.parametrize(("value", "shown"), [(0, '<span class="nil">0</span>'), (1234, "1,234"), (None, "")])
def test_a_number_in_a_table_stands_back_where_there_is_nothing_to_count(value, shown):
    assert figure(value) == shown


def test_what_is_markup_stays_markup():
    assert environment().from_string("{{ it }}").render(it=Markup("<b>x</b>")) == "<b>x</b>"


def test_times_say_how_long_ago_and_exactly():
    assert 'title="2020-01-01T00:00:00.000+00:00"' in when(datetime(2020, 1, 1, tzinfo=UTC))
    assert [length(each) for each in (0, 0.25, 12, 61, 7200, 200_000)] == [
        "0 s",
        "250 ms",
        "12 s",
        "1 min",
        "2 h",
        "2 d",
    ]


# -- what is personal --------------------------------------------------------------------------------------------------
def test_marked_fields_are_masked_wherever_they_stand():
    class Address(BaseModel):
        street: str = Field(json_schema_extra={"x-personal": True})
        city: str

    class SignUp(CommandModel, domain="masked"):
        mail: str = Field(json_schema_extra={"x-personal": True})
        address: Address
        plan: str

    registry = HandlerRegistry()

    @registry.handler(SignUp)
    async def sign_up(command, context):
        return None

    masking = Masking(registry, ["phone"])
    value = {"mail": "a@b", "plan": "big", "address": {"street": "High", "city": "Ulm"}, "more": [{"phone": "1"}]}

    assert masking.masked(value, "masked", "SignUp") == {
        "mail": MASK,
        "plan": "big",
        "address": {"street": MASK, "city": "Ulm"},
        "more": [{"phone": MASK}],
    }
    assert masking.masked({"mail": "a@b", "phone": None}, "other", "SignUp") == {"mail": "a@b", "phone": None}


# -- the API's document ------------------------------------------------------------------------------------------------
def test_the_document_describes_every_operation_and_refers_to_nothing_that_is_not_there():
    document = console_api.document("/ops")
    text = json.dumps(document)

    assert {each["operationId"] for path in document["paths"].values() for each in path.values()} == set(OPERATIONS)
    assert document["servers"] == [{"url": "/ops"}]
    (ids,) = [each for each in document["paths"]["/api/actions/preview"]["get"]["parameters"] if "ids" in each["name"]]
    assert (ids["in"], ids["style"], ids["explode"]) == ("query", "form", False)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in document["components"]["schemas"], name


async def test_a_mistaken_request_is_told_what_is_wrong(app):
    async with browser(app) as client:
        bearer = {"authorization": f"Bearer {OPERATOR}"}
        for path, word in (
            ("/api/commands?limit=0", "limit"),
            ("/api/commands?status=NONE", "status"),
            ("/api/commands?shade=red", "shade"),
            ("/api/commands?after=guess", "after"),
            ("/api/conversations/nobody", "asked"),
        ):
            answer = await client.get(path, headers=bearer)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), path
            assert word in answer.json()["detail"]
        for body, word in ((b"{", "JSON"), (b"[]", "object"), (b"{}", "reason"), (b'{"reason": " "}', "reason")):
            answer = await client.post(
                API_DECISIONS[0], content=body, headers={**bearer, "content-type": "application/json"}
            )
            assert answer.status_code == 400
            assert word in answer.json()["detail"]


async def test_what_no_database_holds_is_refused_however_deep_it_lies(app):
    bearer = {"authorization": f"Bearer {OPERATOR}", "content-type": "application/json"}
    nested = '{"reason": "why", "result": {"a": ' + "[" * 900 + '"x\\u0000"' + "]" * 900 + "}}"
    async with browser(app) as client:
        for answer in (
            await client.post(API_DECISIONS[1], content=nested, headers=bearer),
            await client.get("/api/commands?domain=a%00b", headers=bearer),
            await client.get(f"/api/commands/a%00b/{ID}", headers=bearer),
        ):
            assert (answer.status_code, "NUL" in answer.json()["detail"]) == (400, True)


def test_an_empty_field_of_a_form_says_nothing():
    assert OPERATIONS["list_commands"].asked({"domain": "", "status": ""}) == CommandsAsked()


# -- numbers that are kept ---------------------------------------------------------------------------------------------
async def test_many_who_look_ask_once_and_a_failure_is_told_to_all_and_not_kept():
    asked = []

    async def ask():
        asked.append(1)
        if len(asked) == 1:
            raise HTTPException(503)
        return len(asked)

    kept = Kept(ask, fresh=60.0, patience=60.0)
    with pytest.raises(HTTPException):
        await kept.get()
    assert [await kept.get() for _ in range(3)] == [2, 2, 2]
    assert kept.now() == 2
    assert await kept.get(patience=-1.0) == 3


async def test_who_cannot_wait_is_told_nothing_while_the_question_is_on_its_way_and_asked_once():
    asked, goes_on = [], asyncio.Event()

    async def ask():
        asked.append(1)
        await goes_on.wait()
        return "counted"

    kept = Kept(ask, fresh=60.0, patience=60.0)
    assert [await kept.soon(0.0), await kept.soon(0.001)] == [None, None]
    goes_on.set()
    assert await kept.get() == "counted"
    assert await kept.soon(0.0) == "counted"
    assert len(asked) == 1


async def test_what_took_long_rests_before_it_is_asked_again():
    now, asked = [100.0], []

    async def ask():
        asked.append(now[0])
        now[0] += 0.8
        return len(asked)

    kept = Kept(ask, fresh=2.0, patience=2.0, clock=lambda: now[0])
    assert await kept.get() == 1
    now[0] += 3.1  # older than the patience, but it took a fifth of this
    assert (await kept.get(), kept.now()) == (1, 1)
    now[0] += 0.2
    assert await kept.get() == 2
    now[0] += LONGEST_REST + 0.1
    assert await kept.get() == 3


class Looking:
    """Pages that look all the time at questions which take a while; time is what they take.

    Args:
        taking: Of each question how many seconds.
    """

    def __init__(self, *taking):
        self.now = 0.0
        self.asked = [0] * len(taking)
        self.spent = 0.0
        self._taking = list(taking)
        budget = Budget(clock=lambda: self.now)
        self._kept = [self._asking(number, budget) for number in range(len(taking))]

    def _asking(self, number, budget):
        async def ask():
            self.asked[number] += 1
            self.spent += self._taking[number]
            self.now += self._taking[number]

        return Kept(ask, fresh=2.0, patience=2.0, budget=budget, clock=lambda: self.now)

    async def look(self, seconds):
        """For a while; of each question, every how many seconds it was asked, and which part of the time all took."""
        until, began, self.asked, self.spent = self.now + seconds, self.now, [0] * len(self.asked), 0.0
        while self.now < until:
            for kept in self._kept:
                await kept.get()
            self.now += 0.05
        took = self.now - began
        return [took / each for each in self.asked], self.spent / took

    def take(self, number, seconds):
        """From now on a question takes so long."""
        self._taking[number] = seconds


async def test_fourteen_questions_take_little_more_of_a_connection_than_one():
    """Each with a budget of its own, all would be asked every two seconds, and take two thirds of it."""
    for pages, period in ((1, 2.1), (4, 2.4), (14, 7.0)):
        looking = Looking(*[0.1] * pages)
        await looking.look(60)
        every, share = await looking.look(300)
        assert share < SHARE * 1.1, pages
        assert every == pytest.approx([period] * pages, abs=0.5), pages


async def test_what_is_cheap_is_as_fresh_beside_what_is_dear():
    looking = Looking(1.0, *[0.005] * 10)
    await looking.look(60)
    every, share = await looking.look(300)
    assert share < SHARE * 1.1
    assert max(every[1:]) < 3.1  # two seconds, and now and then one that the dear one took
    assert every[0] == pytest.approx(5.8, abs=0.5)


async def test_a_question_keeps_to_its_share_however_dear_it_is():
    every, share = await Looking(30.0).look(1_500)
    assert share < SHARE * 1.1
    assert every[0] > 140


async def test_to_have_waited_once_makes_no_question_dear():
    looking = Looking(0.01)
    await looking.look(10)
    looking.take(0, 2.0)
    await looking.look(2.5)
    looking.take(0, 0.01)
    every, _ = await looking.look(20)
    assert every[0] < 2.5


async def test_nothing_rests_for_a_question_that_nobody_asks_any_more():
    now = [0.0]
    budget = Budget(clock=lambda: now[0])
    one, other = (Kept(anext, fresh=0.0, patience=0.0, budget=budget) for _ in range(2))
    alone = budget.rest(one, 0.5, 0.0)
    assert budget.rest(other, 0.5, 0.0) == pytest.approx(2 * alone + 0.5)
    del one
    assert budget.rest(other, 0.5, 0.0) == pytest.approx(alone)
    late = Kept(anext, fresh=0.0, patience=0.0, budget=budget)
    now[0] += 61.0
    assert budget.rest(late, 0.5, 0.0) == pytest.approx(alone)


async def test_streams_that_ask_the_same_share_the_answer_until_something_is_changed():
    now, asked = [0.0], []

    async def ask():
        asked.append(1)
        return len(asked)

    shared = Shared(2.0, clock=lambda: now[0])
    assert [await shared.get("one", ask), await shared.get("one", ask), await shared.get("other", ask)] == [1, 1, 2]
    shared.forget()
    assert await shared.get("one", ask) == 3
    now[0] += 2.1
    assert await shared.get("one", ask) == 4
    now[0] += 100.0
    await shared.get("other", ask)
    assert list(shared._kept) == ["other"]
