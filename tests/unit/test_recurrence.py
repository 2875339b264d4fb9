"""When schedules are due; around both changes of the clocks, in zones on both sides of Greenwich."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from mainstay.commands.recurrence import Recurrence, checked_cron, checked_every, checked_timezone
from mainstay.errors import InvalidInputError

BERLIN = "Europe/Berlin"
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression, timezone=BERLIN, **options):
    return Recurrence(expression, None, timezone, START, **options)


def every(seconds, counts_from=START, **options):
    return Recurrence(None, timedelta(seconds=seconds), "UTC", counts_from, **options)


def next_times(rule, moment, count):
    found = []
    for _ in range(count):
        moment = rule.after(moment)
        found.append(moment)
    return found


# --- cron -------------------------------------------------------------------------------------------------------------

#: In Berlin clocks jump from 2:00 to 3:00 on 29 March 2026 (1:00 UTC), and back from 3:00 to 2:00 on 25 October (1:00
#: UTC); in New York on 8 March and 1 November, at 7:00 and 6:00 UTC.
AROUND = {
    "a skipped time runs right after the gap": (
        "30 2 * * *", BERLIN, "2026-03-27 23:00", ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"],
    ),
    "a repeated time runs the first time": (
        "30 2 * * *", BERLIN, "2026-10-23 23:00", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"],
    ),
    "two times that the gap moves together run once": (
        "0 2,3 * * *", BERLIN, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:00", "2026-03-30 01:00"],
    ),
    "a time outside of the gap keeps its local hour": (
        "0 9 * * *", BERLIN, "2026-03-27 23:00", ["2026-03-28 08:00", "2026-03-29 07:00", "2026-03-30 07:00"],
    ),
    "every quarter of an hour runs through the gap": (
        "*/15 * * * *", BERLIN, "2026-03-29 00:40", ["2026-03-29 00:45", "2026-03-29 01:00", "2026-03-29 01:15"],
    ),
    "every half hour runs in both passes of an hour": (
        "*/30 * * * *", BERLIN, "2026-10-25 00:10",
        ["2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30", "2026-10-25 02:00"],
    ),
    "every hour at a minute runs in both passes": (
        "30 * * * *", BERLIN, "2026-10-24 23:40", ["2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"],
    ),
    "a gap in New York": (
        "30 2 * * *", "America/New_York", "2026-03-07 12:00", ["2026-03-08 07:00", "2026-03-09 06:30"],
    ),
    "a repeated time in New York": (
        "30 1 * * *", "America/New_York", "2026-10-31 12:00", ["2026-11-01 05:30", "2026-11-02 06:30"],
    ),
    "a zone without changes": ("30 2 * * *", "Asia/Kolkata", "2026-03-28 12:00", ["2026-03-28 21:00"]),
    "UTC": ("*/5 * * * *", "UTC", "2026-03-29 00:59", ["2026-03-29 01:00", "2026-03-29 01:05"]),
}  # fmt: skip


@pytest.mark.parametrize("case", AROUND)
def test_cron_around_changes_of_the_clock(case):
    expression, timezone, moment, expected = AROUND[case]

    assert next_times(cron(expression, timezone), at(moment), len(expected)) == [at(each) for each in expected]


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 2 * * *", "30 * * * *", "*/30 * * * *", "15,45 1-3 * * *"])
@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_what_is_due_after_a_moment_depends_on_the_moment_alone(expression, day):
    rule = cron(expression)
    begin = at(f"{day} 00:00") - timedelta(hours=3)
    moments = [begin + timedelta(minutes=7 * n) for n in range(80)]
    due = sorted({rule.after(moment) for moment in moments})

    assert all(moment < rule.after(moment) for moment in moments)
    for moment in moments:
        assert rule.after(moment) == min(each for each in due if each > moment)
    assert all(rule.after(one) == other for one, other in pairwise(due))


def test_nothing_is_due_before_it_may_begin():
    begin = at("2026-05-01 12:00")

    assert cron("0 * * * *", not_before=begin).after(START) == begin
    assert cron("30 * * * *", not_before=begin).after(START) == begin + timedelta(minutes=30)
    assert cron("0 * * * *", not_before=begin).after(begin) == begin + timedelta(hours=1)


# --- every ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [(0, 90), (89.999999, 90), (90, 180), (90.000001, 180), (900_000_001, 900_000_090), (-100, -90), (-1000, -990)],
)
def test_every_counts_from_its_beginning(elapsed, expected):
    assert every(90).after(START + timedelta(seconds=elapsed)) == START + timedelta(seconds=expected)


def test_every_begins_when_it_may():
    begin = at("2026-05-01 12:00")

    assert every(60, begin, not_before=begin).after(START) == begin
    assert every(60, begin, not_before=begin).after(begin) == begin + timedelta(seconds=60)


def test_every_ends_with_the_calendar():
    assert every(100 * 366 * 86_400, datetime(9990, 1, 1, tzinfo=UTC)).after(datetime(9995, 1, 1, tzinfo=UTC)) is None


# --- what was missed --------------------------------------------------------------------------------------------------


def test_of_what_was_missed_the_newest_are_found():
    first = START + timedelta(seconds=60)
    until = START + timedelta(seconds=601)

    assert every(60).latest(first, until, 1) == [START + timedelta(seconds=600)]
    assert every(60).latest(first, until, 3) == [START + timedelta(seconds=60 * n) for n in (8, 9, 10)]
    assert len(every(60).latest(first, until, 100)) == 10
    assert every(60).latest(first, first, 5) == [first]


def test_a_due_time_of_an_earlier_rule_counts():
    odd = START + timedelta(seconds=61.5)

    assert every(60).latest(odd, odd + timedelta(seconds=1), 5) == [odd]
    assert every(60).latest(odd, START + timedelta(seconds=120), 5) == [odd, START + timedelta(seconds=120)]


def test_a_long_absence_costs_no_more_than_a_short_one():
    """A century of seconds is not walked through; the suite's timeout would end that."""
    until = START + timedelta(days=36_500, seconds=0.5)
    late = cron("* * * * *").latest(START, until, 3)

    assert every(1).latest(START, until, 2) == [until - timedelta(seconds=n) for n in (1.5, 0.5)]
    assert late == [until.replace(microsecond=0) - timedelta(minutes=n) for n in (2, 1, 0)]
    assert cron("0 0 29 2 *", "UTC").latest(START, until, 2) == [at("2120-02-29 00:00"), at("2124-02-29 00:00")]


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *"])
def test_the_newest_are_the_same_from_wherever_one_counts(expression):
    rule = cron(expression)
    first, until = at("2026-03-20 00:00"), at("2026-04-05 12:00")
    all_of_them = rule.latest(first, until, 10_000)

    assert rule.latest(first, until, 5) == all_of_them[-5:]
    assert all_of_them == sorted(set(all_of_them))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "* * * * * *", "@daily", "61 * * * *", "0 0 30 2 *", "a b c d e", "*/0 * * * *", "5-1 * * * *",
        "* * * * MON#1/2", "\u0661 * * * *", "* * * * *" + " " * 300, None, 5, "0 0 * * 8", "-1 * * * *",
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_cron_expression_is_refused(text):
    with pytest.raises(InvalidInputError, match="cron"):
        checked_cron(text)


def test_a_cron_expression_is_stored_with_single_spaces():
    assert checked_cron(" 0  9\t* * mon-fri ") == "0 9 * * mon-fri"


@pytest.mark.parametrize("name", ["", "Berlin", "Europe", "../etc/passwd", "/etc/passwd", "a\x00b", None, 5], ids=repr)
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(InvalidInputError, match="time zone"):
        checked_timezone(name)


@pytest.mark.parametrize("seconds", [0, 0.5, -1, float("nan"), float("inf"), "60", True, 10**12], ids=repr)
def test_what_is_no_distance_is_refused(seconds):
    with pytest.raises(InvalidInputError, match="every"):
        checked_every(seconds)
