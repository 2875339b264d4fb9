"""Charts of the console: scales that are round, lines that are broken where nothing was measured."""

from datetime import UTC, datetime, timedelta

import pytest

from mainstay.commands.activity import Interval
from mainstay.operations.activity import Span, Traffic
from mainstay.operations.console.charts import charts, path, top


@pytest.mark.parametrize(
    ("most", "round_number"), [(0, 1), (1, 1), (1.1, 2), (19, 20), (499, 500), (501, 1000), (0.03, 0.05)]
)
def test_the_top_of_a_scale_is_round_and_not_below_what_is_drawn(most, round_number):
    assert top(most) == pytest.approx(round_number)


def test_a_line_is_broken_where_nothing_was_measured():
    assert path([(1, 5), (2, 6), (3, None), (4, 7)]) == "M1 5h0L2 6M4 7h0"
    assert path([(1, None)]) == ""


@pytest.mark.parametrize(("sent", "scale"), [(1, ("1", "", "0")), (7, ("10", "5", "0"))])
def test_a_scale_names_no_half_of_a_command(sent, scale):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    intervals = [Interval(now - timedelta(seconds=15 * each), sent, 0, 0, 0, None, None) for each in (2, 1)]

    counts, *_ = charts(Traffic(Span.QUARTER, 15.0, now, intervals, 58))

    assert counts.scale == scale
