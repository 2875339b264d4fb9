"""The operators' trail from the command line."""

import pytest

from tests.support.cli import run

NIL = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def mainstay(dsn):
    def call(*arguments):
        return run(*arguments, "--dsn", dsn)

    return call


def test_who_changed_what_is_listed_filtered_and_continued(mainstay):
    assert "No operator has changed anything yet." in mainstay("trail").out
    every = ("schedules", "set", "nightly", "shop", "Report", "--every", 60)
    done = [
        mainstay(*every, "--operator", "Olga", "--reason", "as agreed"),
        mainstay("schedules", "pause", "nightly", "--operator", "Paula", "-r", "a release"),
        mainstay("limits", "set", "shop", "Report", "--max-running", 2, "--operator", "Olga", "-r", "slow"),
        mainstay("limits", "remove", "shop", "Report", "--operator", "Olga"),
        mainstay("pause", "shop", "--operator", "Olga"),
        mainstay("resume", "shop", "--operator", "Paula", "-r", "it is out"),
        mainstay("tsq", "rules", "--approve-above", 5, "--operator", "Rita", "-r", "two see more"),
    ]
    assert [each.code for each in done] == [0] * 7
    found = mainstay("trail", "--json").json
    assert [(each["operator"], each["kind"], each["what"], each["reason"]) for each in reversed(found)] == [
        ("Olga", "SCHEDULE", "SET", "as agreed"),
        ("Paula", "SCHEDULE", "PAUSED", "a release"),
        ("Olga", "LIMIT", "SET", "slow"),
        ("Olga", "LIMIT", "REMOVED", None),
        ("Olga", "PAUSE", "PAUSED", None),
        ("Paula", "PAUSE", "RESUMED", "it is out"),
        ("Rita", "RULES", "CHANGED", "two see more"),
    ]
    table = mainstay("trail", "--kind", "rules").out
    assert "approve above 5" in " ".join(table.split())
    assert {each["operator"] for each in mainstay("trail", "--operator", "Paula", "--json").json} == {"Paula"}
    assert len(mainstay("trail", "--subject", "night", "--json").json) == 2
    assert mainstay("trail", "--until", "1h", "--json").json == []
    assert len(mainstay("trail", "--since", "1h", "--json").json) == 7
    first = mainstay("trail", "-n", 3)
    assert f"--after {found[2]['deed_id']}" in first.err
    assert [each["deed_id"] for each in mainstay("trail", "--after", found[2]["deed_id"], "--json").json] == [
        each["deed_id"] for each in found[3:]
    ]
    assert "Nothing of the kind was done." in mainstay("trail", "--operator", "nobody").out


def test_who_is_not_named_is_the_account(dsn):
    limit = ("limits", "set", "shop", "Report", "--dsn", dsn, "--max-running")
    assert run(*limit, 2, MAINSTAY_OPERATOR="the account").code == 0
    assert run(*limit, 0, MAINSTAY_OPERATOR="the account").code == 2
    assert run(*limit, 3).code == 0
    found = run("trail", "--dsn", dsn, "--json").json
    assert [each["operator"] for each in found][1:] == ["the account"]
    assert found[0]["operator"]  # whoever runs the tests


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "nothing"], "there are: schedule, pause"),
        (["--since", "soon"], "--since is"),
        (["--until", "soon"], "--until is"),
    ],
)
def test_what_cannot_be_understood_says_why(mainstay, arguments, told):
    result = mainstay("trail", *arguments)
    assert result.code == 2
    assert told in result.err


@pytest.mark.parametrize("verb", ["retry", "complete", "cancel"])
@pytest.mark.parametrize(
    ("which", "says"),
    [
        ([NIL], f"there is no command {NIL}"),
        ([NIL, "--domain", "shop"], f"there is no command {NIL} in domain shop"),
        ([NIL, NIL[:-1] + "1"], "there is no command with any of these 2 ids"),
        (["--group", "nosuch", "--yes"], "there is no group 'nosuch'"),
        (["--batch", NIL, "--yes"], f"there is no batch {NIL}"),
    ],
)
def test_a_decision_on_what_there_is_not_is_code_5_and_leaves_no_trail(mainstay, verb, which, says):
    result = mainstay("tsq", verb, *which)
    previewed = mainstay("tsq", verb, *which, "--preview")

    assert (result.code, previewed.code) == (5, 5)
    assert f"Error: {says}" in result.err
    assert mainstay("tsq", "actions").out == "Nothing was decided yet.\n"
    assert mainstay("trail", "--json").json == []
