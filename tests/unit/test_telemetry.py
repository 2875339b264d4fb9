"""The correlation id on log records."""

import logging

import pytest

from mainstay.message import correlated
from mainstay.telemetry import ContextFilter, get_logger


@pytest.fixture
def caught(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_our_records_carry_the_correlation_of_their_context(caught: pytest.LogCaptureFixture) -> None:
    logger = get_logger("mainstay.test")

    logger.info("outside")
    with correlated("abc"):
        logger.info("inside %s", "x", extra={"domain": "orders"})
    outside, inside = caught.records

    assert (outside.correlation_id, inside.correlation_id) == (None, "abc")
    assert (inside.getMessage(), inside.domain) == ("inside x", "orders")


def test_the_filter_puts_the_correlation_on_records_of_others() -> None:
    record = logging.makeLogRecord({"msg": "theirs"})
    ours = logging.makeLogRecord({"msg": "ours", "correlation_id": "kept"})

    with correlated("abc"):
        passed = [ContextFilter().filter(record), ContextFilter().filter(ours)]

    assert passed == [True, True]
    assert (record.correlation_id, ours.correlation_id) == ("abc", "kept")
