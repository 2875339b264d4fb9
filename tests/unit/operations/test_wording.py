"""Rules in words."""

from datetime import UTC, datetime

import pytest
from cronsim import CronSim, CronSimError
from cronsim.explain import Expression, Field
from hypothesis import given, reject
from hypothesis import strategies as st

from mainstay.operations.wording import cron_in_words, deed_in_words, schedule_in_words

_DAYS_WITH_NAMES = ["MON", "FRI", "SAT", "sun"]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("*/15 9-17 * * *", "every 15 minutes from 09:00 through 17:59"),
        ("30 * * * *", "at minute 30 of every hour"),
        ("0 * * * *", "at the start of every hour"),
        ("0 */2 * * *", "every 2 hours"),
        ("30 */6 * * *", "at minute 30 past every sixth hour"),
        ("30 2 * * *", "at 02:30 every day"),
        ("30 2 * * MON-FRI", "at 02:30 on weekdays"),
        ("30 2 * * 1-5", "at 02:30 on weekdays"),
        ("0 4 * * mon", "at 04:00 on Monday"),
        ("0 9,17 * * 6,0", "at 09:00 and 17:00 on Saturday and Sunday"),
        ("0 0 1 * *", "at 00:00 on the first day of every month"),
        ("0 0 L * *", "at 00:00 on the last day of every month"),
        ("0 0 21 * *", "at 00:00 on the 21st day of every month"),
        ("0 0 11,22,31 * *", "at 00:00 on the 11th, the 22nd, and the 31st day of month"),
        ("0 9 * * MON#1", "at 09:00 on the first Monday of the month"),
        ("0 8 1 */3 *", "at 08:00 on the first day of every third month"),
        ("59 23 31 12 *", "at 23:59 on December 31"),
    ],
)
def test_a_cron_expression_is_said_in_words(cron, words):
    assert cron_in_words(cron) == words
    assert schedule_in_words(cron, None) == words


def test_a_day_of_the_month_and_a_weekday_are_either_of_them_as_cron_has_it():
    due = CronSim("0 12 13 * 5", datetime(2026, 11, 1, tzinfo=UTC))

    assert {next(due).day for _ in range(4)} == {6, 13, 20, 27}  # Fridays, of which one is the 13th
    assert cron_in_words("0 12 13 * 5") == "at 12:00 on the 13th day of month or on Friday"


@pytest.mark.parametrize(
    "cron",
    [
        "*/7 * * * *",  # 56 is followed by 0: no distance of seven minutes
        "*/90 * * * *",  # at minute 0 only
        "0 */5 * * *",
        "0-30/5 * * * *",
        "0 0 1 */5 *",
        "0 0 */2 * *",
        "0 0 */2 * 1",  # a star in one of them: both must fit
        "0 0 * * */2",
        "0 0 1-31 * 1",  # no star: every day
        "0 0 13 * 0-7",
        "*,5 * * * *",
        "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29 1,3,5,7,9,11,13,15,17,19,21,23 * * *",  # as long as itself
    ],
)
def test_an_expression_stands_for_itself_where_words_would_be_wrong_or_too_long(cron):
    assert cron_in_words(cron) == cron


def test_a_distance_is_said_in_its_largest_unit():
    assert [schedule_in_words(None, each) for each in (90, 7200, 86_400, 0.5 + 1)] == [
        "every 90 s",
        "every 2 h",
        "every 1 d",
        "every 1.5 s",
    ]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, ""),
        ({"before": {"cron": "0 1 * * *"}, "after": {"cron": "0 2 * * *"}}, "cron 0 1 * * * → 0 2 * * *"),
        ({"before": {"rate": 5, "per_seconds": 1.0}, "after": {"max_running": 3}},
         "rate 5 → none; per seconds 1.0 → none; max running 3"),
        ({"payload_changed": True}, "payload changed"),
        ({"action": "RETRY", "commands": 2, "selection": {"domain": "shop"}},
         "action RETRY; commands 2; selection domain shop"),
        ({"selection": {}}, "selection all"),
        ({"selection": {"command_ids": ["a", "b"]}}, "selection command ids a, b"),
        ({"paused_at": "2026-11-22T11:55:26.871495+01:00"}, "paused at 2026-11-22 10:55:26 UTC"),
        ({"before": {}, "after": {"reason_required": False}}, "reason required false"),
    ],
)  # fmt: skip
def test_what_an_operator_changed_is_said_in_words(details, words):
    assert deed_in_words(details) == words


def _fields(first: int, last: int, *names: str) -> st.SearchStrategy[str]:
    number = st.integers(first, last).map(str)
    term = st.one_of(
        number,
        st.just("*"),
        st.builds("{}-{}".format, number, number),
        st.builds("{}/{}".format, st.one_of(st.just("*"), number), st.integers(1, last + 5).map(str)),
        *([st.sampled_from(names)] if names else []),
    )
    return st.one_of(term, term, st.lists(term, min_size=1, max_size=3).map(",".join))


_CRON = st.builds(
    "{} {} {} {} {}".format,
    _fields(0, 59),
    _fields(0, 23),
    _fields(1, 31, "L", "LW"),
    _fields(1, 12, "JAN", "dec"),
    _fields(0, 7, *_DAYS_WITH_NAMES, "MON#1", "5L", "0#2"),
)


@given(_CRON)
def test_words_are_of_the_very_times_at_which_a_schedule_is_due(cron):
    try:
        due = CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError:
        reject()
    words = cron_in_words(cron)
    if words == cron:
        return
    said = Expression(cron.upper().split())
    assert _spelled(said.minute, 59) == due.minutes
    assert _spelled(said.hour, 23) == due.hours
    assert _spelled(said.month, 12) == due.months
    assert _spelled(said.day, 31) == due.days
    assert {each % 7 if isinstance(each, int) else each for each in _spelled(said.dow, 7)} == {
        each % 7 if isinstance(each, int) else each for each in due.weekdays
    }
    both = not said.day.star and not said.dow.star
    assert (" or on " in words) == both
    assert not (both and due.day_and)


def _spelled(field: Field, last: int) -> set[object]:
    """The values of which the words of a field speak."""
    found: set[object] = set()
    for each in field.parsed:
        if each.nth is not None:
            edges = {-1: CronSim.LAST, -2: CronSim.LAST_WEEKDAY}
            found.add(edges.get(each.start, (each.start, CronSim.LAST if each.nth == -1 else each.nth)))
        elif each.start is None:
            found |= set(range(field.min_value, last + 1, each.step))
        else:
            found |= set(range(each.start, each.stop + 1, each.step))
    return found
