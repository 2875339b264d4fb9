"""Requests that make no sense, by the hundred: each is answered or refused, none is a failure of the console.

`MAINSTAY_TEST_INPUTS` says how many there are (300 unless given), `MAINSTAY_TEST_SEED` which. What they may be is read
from the routes and from the models of the operations, so what is added is tried, too.
"""

import json
import os
import random
from typing import Any
from urllib.parse import quote

from starlette.routing import Route

from mainstay.operations.console import console
from mainstay.operations.console.asking import OPERATIONS
from tests.support.console import OPERATOR, browser, csrf_in, tokens
from tests.support.console_world import ConsoleWorld, settle
from tests.support.garbage import TEXTS
from tests.support.markup import faults

HOW_MANY = int(os.environ.get("MAINSTAY_TEST_INPUTS", "300"))
SEED = int(os.environ.get("MAINSTAY_TEST_SEED", "20"))
LONGEST_ADDRESS = 8_000
NUMBERS = [0, -1, 1, 2, 501, 100_000, 2**31, 2**63, -(2**63) - 1, 10**40, 0.1, -0.5, 1e-9, 1e15, 1e308, -1e191]
ODD = [None, True, [], {}, [[]], {"a": {"b": None}}, ["x"] * 600]
MORE = ["expect", "offset", "after", "before", "up_to", "text", "state", "action", "result", "rate", "since", "shade"]


class Draw:
    """Draws requests: of each value most often one that is there, else anything.

    Args:
        world: What is there.
        seed: Of the dice.
    """

    def __init__(self, world: ConsoleWorld, seed: int) -> None:
        self.dice = random.Random(seed)
        self.known = world.values()

    def value(self, name: str, schema: dict[str, Any]) -> Any:
        chance = self.dice.random()
        if chance < 0.6 and name in self.known:
            known = self.known[name]
            return known if isinstance(known, list | int) else str(known)
        choices = [each for part in schema.get("anyOf", [schema]) for each in part.get("enum", [])]
        if chance < 0.8 and choices:
            return self.dice.choice(choices)
        if chance < 0.85:
            return self.dice.choice([str(each) for each in self.known.values()])
        return self.dice.choice(self.dice.choice([TEXTS, NUMBERS, ODD]))

    def fields(self, schema: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, each in schema.get("properties", {}).items():
            part = schema.get("$defs", {}).get(each.get("$ref", "").rpartition("/")[2], each)
            if self.dice.random() < (0.95 if name in schema.get("required", ()) else 0.3):
                found[name] = self.value(name, part)
        return found

    def address(self, path: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The path with its parameters in it, and the other fields."""
        parts, rest = [], dict(fields)
        for part in path.split("/"):
            name = part.strip("{}").partition(":")[0]
            is_field = part.startswith("{")
            parts.append(_text(rest.pop(name, self.value(name, {})), LONGEST_ADDRESS) if is_field else part)
        return "/".join(parts), rest


def _text(value: Any, longest: int) -> str:
    text = value if isinstance(value, str) else str(value)
    return quote(text[:longest].encode("utf-8", "surrogatepass"), safe="")


def _query(fields: dict[str, Any]) -> str:
    return "&".join(f"{name}={_text(value, 200)}" for name, value in fields.items())


async def test_no_request_of_the_api_makes_the_console_fail(pool, operator):
    world = await settle(pool)
    draw, answered = Draw(world, SEED), 0
    schemas = [(each, each.asks.model_json_schema()) for each in OPERATIONS.values()]
    headers = {"authorization": f"Bearer {OPERATOR}", "content-type": "application/json"}
    async with browser(console(operator, auth=tokens())) as client:
        for _ in range(HOW_MANY):
            operation, schema = draw.dice.choice(schemas)
            path, fields = draw.address(f"/api{operation.path}", draw.fields(schema))
            try:
                if operation.method == "GET":
                    answer = await client.get(f"{path}?{_query(fields)}", headers=headers)
                else:
                    answer = await client.post(path, content=json.dumps(fields, allow_nan=True), headers=headers)
            except Exception as error:
                error.add_note(f"{operation.method} {path} {fields!r:.500}")
                raise
            assert answer.status_code < 500, (operation.method, path, fields, answer.text)
            if answer.status_code != 307:  # two slashes; without the last one it may be there
                answer.json()
            answered += answer.status_code == 200
    assert answered > HOW_MANY / 10
    assert (await operator.fsck()).findings == ()


async def test_no_request_of_a_page_makes_the_console_fail(pool, operator):
    world = await settle(pool)
    draw, answered = Draw(world, SEED + 1), 0
    app = console(operator, auth=tokens())
    routes = [
        (each.path, method)
        for each in app._inner.routes
        if isinstance(each, Route) and not each.path.startswith(("/api/", "/live/", "/logout"))
        for method in {"GET", "POST"} & (each.methods or set())
    ]
    names = sorted({*world.values(), *MORE})
    async with browser(app, OPERATOR) as client:
        csrf = csrf_in(await client.get("/login"))
        for _ in range(HOW_MANY // 2):
            route, method = draw.dice.choice(routes)
            given = {name: draw.value(name, {}) for name in draw.dice.sample(names, draw.dice.randint(0, 6))}
            path, fields = draw.address(route, given)
            try:
                if method == "GET":
                    answer = await client.get(f"{path}?{_query(fields)}")
                else:
                    form = "&".join(
                        [f"csrf={csrf}", *(f"{name}={_text(each, 9_000)}" for name, each in fields.items())]
                    )
                    kind = {"content-type": "application/x-www-form-urlencoded"}
                    answer = await client.post(path, content=form, headers=kind)
            except Exception as error:
                error.add_note(f"{method} {path} {fields!r:.500}")
                raise
            assert answer.status_code < 500, (method, path, fields, answer.text)
            if "html" in answer.headers.get("content-type", ""):
                assert faults(answer.text) == [], (method, path, fields)
            answered += answer.status_code in {200, 303}
    assert answered > HOW_MANY / 20
    assert (await operator.fsck()).findings == ()
