"""Payloads as operators edit them: what is hidden stays what it is, and what is wrong is said where it is."""

import orjson
import pytest

from mainstay import InvalidPayloadError
from mainstay.commands.edits import diff
from mainstay.commands.payload import PayloadProblem
from mainstay.operations.console.editing import hide, lines, restore
from mainstay.operations.console.masking import Masking, without_in_diff
from mainstay.operations.console.rendering import as_json, escaped

NAMES = frozenset({"mail", "phone"})
PEOPLE = {"people": [{"mail": "a@b", "age": 1}, {"mail": "c@d", "phone": None}], "mail": {"work": "e@f"}, "plan": "big"}


def test_what_is_hidden_keeps_its_value_wherever_an_edit_puts_it():
    shown, kept = hide(PEOPLE, NAMES)
    assert shown == {
        "people": [{"mail": "•••1", "age": 1}, {"mail": "•••2", "phone": None}],
        "mail": "•••3",
        "plan": "big",
    }
    assert restore(shown, kept) == PEOPLE
    shown["people"].reverse()
    del shown["people"][1]["age"]
    assert restore(shown, kept) == PEOPLE | {"people": [{"mail": "c@d", "phone": None}, {"mail": "a@b"}]}
    assert restore({"people": [shown["people"][0]], "mail": "new@b"}, kept)["mail"] == "new@b"


@pytest.mark.parametrize(
    "edited",
    [
        {"plan": "•••1"},
        {"phone": "•••1"},
        {"mail": "•••4"},
        {"mail": "•••0"},
        {"mail": "•••"},
        {"mail": "•••1x"},
        {"mail": ["•••1"]},
        {"mail": "•••99999999999999999999"},
    ],
)
def test_a_stand_in_that_stands_for_nothing_there_is_refused(edited):
    _, kept = hide(PEOPLE, NAMES)
    with pytest.raises(InvalidPayloadError, match="stands for a hidden value"):
        restore(edited, kept)


def test_a_diff_shows_that_something_hidden_changed_and_not_what():
    after = {"people": [{"mail": "x@y", "age": 2}], "mail": {"work": "z@z"}, "plan": "big"}
    for changed in (without_in_diff(diff(PEOPLE, after), NAMES), without_in_diff(diff({"a": PEOPLE}, {}), NAMES)):
        assert "@" not in orjson.dumps(changed).decode()
    assert without_in_diff(diff({"mail": "a@b", "plan": 1}, {"mail": None, "plan": 2}), NAMES) == [
        {"path": "/mail", "before": "•••", "after": None},
        {"path": "/plan", "before": 1, "after": 2},
    ]
    told = Masking(names=NAMES).masked_details({"mail": 1, "diff": diff(PEOPLE, after)}, "shop", "Bad")
    assert "@" not in orjson.dumps(told).decode()


def test_a_problem_stands_at_its_field_or_at_what_should_hold_it():
    payload = {"items": [{"price": "x"}, {}], "empty": {}}
    problems = [
        PayloadProblem("items.0.price", "no number", "int"),
        PayloadProblem("items.1.price", "Field required", "missing"),
        PayloadProblem("name", "Field required", "missing"),
        PayloadProblem("", "too much", "value"),
    ]
    found = lines(payload, problems)
    assert orjson.loads("\n".join(line.text for line in found)) == payload
    assert [(line.text.strip(), line.problems) for line in found if line.problems] == [
        ("{", ["name: Field required", "too much"]),
        ('"price": "x"', ["no number"]),
        ("{}", ["price: Field required"]),
    ]


def test_text_to_be_edited_says_the_same_when_it_comes_back():
    value = {"a": '\x00\x1f\u200b\u202e\ufeff\u2028\x85 \\ "é😀', "b": [1.5, None]}
    sent = escaped(as_json(value)).replace("\n", "\r\n")
    assert orjson.loads(escaped(sent)) == value
    assert sent.isprintable() or all(each.isprintable() or each in "\r\n" for each in sent)
