"""Every order of the steps of two and three writers, a reader, an abort and a savepoint: nothing skipped or inverted.

The wrong ways, which others have used, are seen to fail in the same orders.
"""

import pytest

from tests.interleavings.model import (
    ABORT,
    APPEND,
    COMMIT,
    READ,
    TWO_EVENTS,
    Rule,
    Writer,
    by_floor,
    by_transaction_filter,
    by_transaction_order,
    explore,
    naive,
)
from tests.support.thorough import thorough

EARLY = ("lock",)


def plain(stream: str = "a", events: tuple[str, ...] = APPEND) -> Writer:
    return Writer(stream, (*EARLY, *events, *COMMIT))


def aborted(stream: str = "a") -> Writer:
    return Writer(stream, (*EARLY, *APPEND, *ABORT))


def with_savepoint(stream: str = "a", rollback: str = "rollback to") -> Writer:
    """Appends, takes that back, and appends again."""
    return Writer(stream, (*EARLY, "savepoint", *APPEND, rollback, *APPEND, *COMMIT))


def savepoint_later(stream: str = "a") -> Writer:
    """Appends, appends more, and takes only the second back: the floor stays."""
    return Writer(stream, (*EARLY, *APPEND, "savepoint", "draw", "rollback to", "draw", *COMMIT))


def aborts_after_savepoint(stream: str = "a") -> Writer:
    return Writer(stream, (*EARLY, "savepoint", *APPEND, "rollback to", *APPEND, *ABORT))


WRITERS = {
    "two streams": [plain("a"), plain("b")],
    "one stream": [plain("a"), plain("a")],
    "two events each": [plain("a", TWO_EVENTS), plain("b", TWO_EVENTS)],
    "one aborts": [plain("a", TWO_EVENTS), aborted("b")],
    "one aborts, of one stream": [plain("a"), aborted("a")],
    "one goes back to a savepoint": [with_savepoint("a"), plain("b")],
    "one goes back to a savepoint, of one stream": [with_savepoint("a"), plain("a")],
    "one goes back behind its first append": [savepoint_later("a"), plain("b")],
    "both go back to savepoints": [with_savepoint("a"), with_savepoint("b")],
    "one goes back and aborts": [aborts_after_savepoint("a"), plain("b", TWO_EVENTS)],
    "three streams": [plain("a"), plain("b"), plain("c")],
    "three, two of one stream": [plain("a"), plain("a"), plain("b")],
    "three, one aborts": [plain("a"), aborted("b"), plain("c")],
    "three, one goes back to a savepoint": [plain("a"), with_savepoint("b"), plain("b")],
    "three, one goes back to a savepoint, one aborts": [plain("a"), with_savepoint("b"), aborted("c")],
    "three, of one stream, one goes back, one aborts": [plain("a"), with_savepoint("a"), aborted("a")],
}
TWO_PAGES = READ * 2
LONGEST = (
    "three, one goes back to a savepoint, one aborts",
    "three, one goes back to a savepoint",
    "three streams",
    "three, of one stream, one goes back, one aborts",
    "three, one aborts",
)
"""Most of the time of all; each of their steps is in another one."""


@pytest.mark.parametrize(
    "writers", [thorough(each) if name in LONGEST else each for name, each in WRITERS.items()], ids=WRITERS
)
def test_no_order_of_steps_skips_or_inverts_an_event(writers: list[Writer]) -> None:
    pages = TWO_PAGES if len(writers) < 3 else READ
    explored = explore(writers, pages)

    print(f"{explored.orders:,} orders, {explored.states:,} states")
    assert explored.fault is None
    assert explored.orders > 1_000


@pytest.mark.parametrize(
    ("rule", "streams", "fault"),
    [(naive, "ab", "skipped"), (by_transaction_filter, "ab", "skipped"), (by_transaction_order, "aa", "inverted")],
)
def test_other_ways_of_reading_skip_or_invert(rule: Rule, streams: str, fault: str) -> None:
    # A transaction that writes something else first has its number before it draws a position, as a command's has.
    writers = [Writer(stream, ("number", "lock", *APPEND, *COMMIT)) for stream in streams]
    explored = explore(writers, ("rows", "rows"), rule)

    assert (explored.fault or "").startswith(fault)


@pytest.mark.parametrize(
    "reads",
    [
        ("floors", "sequence", "rows"),
        ("snapshot", "sequence", "floors", "rows"),
        ("sequence", "snapshot", "floors", "rows"),
    ],
    ids=["floors before the sequence", "horizon inside the scanning statement", "snapshot between the questions"],
)
def test_the_reader_must_ask_in_this_order(reads: tuple[str, ...]) -> None:
    assert (explore(WRITERS["two streams"], reads * 2, by_floor).fault or "").startswith("skipped")


@pytest.mark.parametrize(
    "steps",
    [
        ("number", "lock", "draw", "read", "hold", *COMMIT),
        ("number", "lock", "read", "draw", "hold", *COMMIT),
        ("number", "lock", *APPEND, "release", "commit"),
        ("number", "lock", "draw", *COMMIT),
    ],
    ids=["draws before it reads", "draws before it holds", "lets go before the commit", "holds nothing"],
)
def test_the_writer_must_act_in_this_order(steps: tuple[str, ...]) -> None:
    writers = [Writer("a", steps), plain("b")]

    assert (explore(writers, TWO_PAGES).fault or "").startswith("skipped")


def test_who_goes_back_to_a_savepoint_must_hold_a_floor_again() -> None:
    writers = [with_savepoint("a", "rollback to, flag kept"), plain("b")]

    assert (explore(writers, TWO_PAGES).fault or "").startswith("skipped")


def test_a_number_that_is_read_late_is_harmless() -> None:
    """Another may draw between reading the sequence and holding the floor: the horizon is lower than it could be."""
    writers = [Writer("a", ("read", "number", "lock", "hold", "draw", *COMMIT)), plain("b", TWO_EVENTS)]

    assert explore(writers, TWO_PAGES).fault is None
