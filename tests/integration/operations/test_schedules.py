"""Schedules from the command line."""

import pytest

from tests.support.cli import run


@pytest.fixture
def schedules(dsn):
    def call(*arguments):
        return run("schedules", *arguments, "--dsn", dsn)

    return call


def test_a_schedule_is_set_listed_paused_resumed_run_and_removed(schedules, dsn):
    wanted = ("nightly", "shop", "Report", "--cron", "30 2 * * MON-FRI", "-z", "Europe/Berlin", "--data", '{"n":1}')
    seen = schedules("set", *wanted, "--preview")
    none_yet = schedules("list", "--json")
    made = schedules("set", *wanted)
    listed = schedules("list")
    paused = schedules("pause", "nightly")
    while_paused = schedules("list", "--domain", "shop")
    resumed = schedules("resume", "nightly", "--json")
    sent = schedules("run", "nightly", "--json")
    removed = schedules("remove", "nightly")

    assert [each.code for each in (made, listed, paused, while_paused, resumed, sent, removed)] == [0] * 7
    assert "It would fire at 02:30 on weekdays:" in seen.out
    assert seen.out.count("02:30:00 Europe/Berlin") == 5
    assert none_yet.json == []
    assert "Set schedule nightly. It fires at 02:30 on weekdays, Europe/Berlin. It is due" in made.out
    for each in ("30 2 * * MON-FRI", "at 02:30 on weekdays", "Europe/Berlin"):
        assert each in " ".join(listed.out.split())
    assert "It is paused." in paused.out
    assert "paused" in while_paused.out
    assert resumed.json["is_paused"] is False
    command = run("commands", "show", sent.json["command_id"], "--dsn", dsn, "--json").json
    assert (command["command_type"], command["data"]) == ("Report", {"n": 1})
    assert "Removed schedule nightly." in removed.out
    assert schedules("list", "--json").json == []


def test_programs_get_all_of_it(schedules):
    made = schedules(
        "set", "[b]tick[/b]", "shop", "Tick", "--every", 90, "--catch-up", "all", "--catch-up-limit", 5,
        "--reply-to", "shop_replies", "--max-attempts", 9, "--key", "k",
        "--unique-key", "u", "--unique-for", 60, "--json",
    ).json  # fmt: skip

    assert schedules("list", "--json").json == [made]
    assert (made["every"], made["cron"], made["catch_up"], made["catch_up_limit"]) == (90, None, "ALL", 5)
    assert made["in_words"] == "every 90 s"
    seen = schedules("set", "tock", "shop", "Tock", "--every", 60, "--preview", "--json").json
    assert (seen["name"], seen["in_words"], len(seen["upcoming"])) == ("tock", "every 1 min", 5)
    assert (made["reply_to"], made["max_attempts"], made["key"]) == ("shop_replies", 9, "k")
    assert (made["unique_key"], made["unique_for"], made["skipped_count"]) == ("u", 60, 0)
    assert "[b]tick[/b]" in schedules("list").out
    assert "every 90 s" in schedules("list").out
    assert "[b]tick[/b]" in schedules("pause", "[b]tick[/b]").out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["remove", "nobody"], 5, "no schedule 'nobody'"),
        (["pause", "nobody"], 5, "no schedule"),
        (["resume", "nobody"], 5, "no schedule"),
        (["run", "nobody"], 5, "no schedule"),
        (["set", "n", "shop", "Do"], 2, "cron or every"),
        (["set", "n", "shop", "Do", "--cron", "often"], 2, "cron"),
        (["set", "n", "shop", "Do", "--every", "60", "--data", "[1]"], 2, "JSON object"),
        (["set", "n", "shop", "Do", "--every", "60", "--data", "{"], 2, "JSON"),
        (["set", "n", "shop", "Do", "--every", "60", "--catch-up", "some"], 2, "catch_up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_says_why(schedules, arguments, code, told):
    result = schedules(*arguments)

    assert result.code == code
    assert told in result.err


def test_nothing_is_told_in_a_sentence(schedules):
    assert "No schedules were set yet." in schedules("list").out
    assert "No schedules found." in schedules("list", "--domain", "shop").out
