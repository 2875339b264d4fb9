"""The contract of logs is shown to fail on logs that are wrong in the ways in which logs have been wrong."""

import inspect
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import MainstayError
from mainstay.events.memory import MemoryEventLog
from mainstay.testing.contracts.events import EventLogContract


class Impatient(MemoryEventLog):
    """Gives out whatever is committed, as if nobody could still commit a lower position."""

    def _horizon(self):
        return self._last


class Unguarded(MemoryEventLog):
    """Lets two transactions write one stream."""

    async def _own(self, mine, streams, condition=None):
        pass


class Forgetful(MemoryEventLog):
    """Does not know an append that it has seen."""

    def _standing(self, append, mine):
        return replace(super()._standing(append, mine), there={})


class Unconditional(MemoryEventLog):
    """Looks at conditions, and appends."""

    def _refuse_forbidden(self, condition, mine):
        pass


class Shortsighted(MemoryEventLog):
    """Holds conditions against what is committed only, and not against what may still be."""

    async def _own(self, mine, streams, condition=None):
        await super()._own(mine, streams)


class Hasty(MemoryEventLog):
    """Commits whatever was appended, however its transaction ends."""

    @asynccontextmanager
    async def _begun(self):
        async with super()._begun() as mine:
            try:
                yield mine
            except BaseException:
                self._commit(mine)
                raise


class Careless(MemoryEventLog):
    """Checks nothing about time windows and leaves out nothing."""

    async def read_stream(self, stream, **asked):
        return await super().read_stream(stream, **asked | {"up_to_time": None})


FAULTS = [
    (Impatient, "nothing_is_skipped_behind_an_open_transaction"),
    (Impatient, "readers_miss_nothing_and_meet_nothing_twice"),
    (Impatient, "what_an_open_transaction_has_appended_is_not_in_the_feed"),
    (Unguarded, "who_wants_the_stream_of_an_open_transaction_waits_for_its_end"),
    (Unguarded, "readers_miss_nothing_and_meet_nothing_twice"),
    (Forgetful, "many_who_say_the_same_say_it_once"),
    (Forgetful, "a_repetition_beside_others_is_recognized_or_refused"),
    (Unconditional, "of_many_who_want_the_same_seat_one_gets_it"),
    (Unconditional, "conditions_that_cross_do_not_both_hold"),
    (Unconditional, "who_appends_without_a_condition_is_seen_by_those_who_have_one"),
    (Shortsighted, "a_condition_waits_for_what_an_open_transaction_has_appended"),
    (Shortsighted, "who_appends_without_a_condition_is_seen_by_those_who_have_one"),
    (Hasty, "what_a_transaction_rolls_back_never_was"),
    (Hasty, "a_canceled_transaction_leaves_nothing"),
    (Hasty, "nothing_is_skipped_behind_an_open_transaction"),
    (Careless, "a_stream_is_read_as_it_was_at_a_time"),
]


class Suite(EventLogContract):
    """The suite, run by hand."""

    def __init__(self, log):
        self.clock = FrozenClock()
        self.log = log(self.clock)

    def pass_time(self, log):
        self.clock.advance(0.25)

    async def run(self, rule, **options):
        await getattr(self, f"test_{rule}")(self.log, **options)
        await self.check(self.log)


async def run(log, rule):
    """A test of the contract, with each way in which its transactions may end."""
    parameters = inspect.signature(getattr(EventLogContract, f"test_{rule}")).parameters
    for ends in (True, False):
        options = {"commits": ends, "ends": ends, "seed": 1}
        await Suite(log).run(rule, **{name: options[name] for name in parameters if name in options})


@pytest.mark.parametrize(("wrong", "rule"), FAULTS)
async def test_a_log_that_is_wrong_fails(wrong, rule):
    with pytest.raises((AssertionError, pytest.fail.Exception, MainstayError)):
        await run(wrong, rule)


@pytest.mark.parametrize("rule", sorted({rule for _, rule in FAULTS}))
async def test_a_log_that_is_right_does_not(rule):
    await run(MemoryEventLog, rule)
