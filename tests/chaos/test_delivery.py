"""Delivery under a storm, in its short form; ``python -m tests.chaos.delivery`` is the long one."""

import os

import pytest

from tests.chaos.delivery import show, storm
from tests.support.brokers import BROKERS

pytestmark = pytest.mark.thorough

EVENTS = int(os.environ.get("MAINSTAY_CHAOS_MESSAGES", "300"))
"""With 100,000, it is the long form."""


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_no_event_is_lost_and_streams_keep_their_order_while_relays_are_killed_and_the_broker_restarts(
    name, dsn, tmp_path
) -> None:
    broker = BROKERS[name](tmp_path)
    broker.start()
    try:
        how = {} if EVENTS > 10_000 else {"kills": 1, "restarts": 1, "consuming": 1}
        result = storm(dsn, broker, name=name, events=EVENTS, **how)
    finally:
        broker.stop(hard=True)

    show(result)
    assert result.holds
    assert result.stored_twice in (0, None)
