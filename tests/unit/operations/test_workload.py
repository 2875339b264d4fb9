"""The commands of the demo, and its handlers on the memory store."""

from collections import Counter
from dataclasses import replace

import pytest

from mainstay.commands.command import Command
from mainstay.commands.context import HandlerContext
from mainstay.errors import BusinessRuleException, PermanentCommandError, TransientCommandError
from mainstay.operations.demo.behaviours import CommandBehavior
from mainstay.operations.demo.handlers import DOMAIN, REPORTS, registry
from mainstay.operations.demo.workload import REPLIES, Way, Workload


def test_a_number_of_a_run_is_always_the_same_command():
    one, other = Workload(500, 7, "run"), Workload(500, 7, "run")

    assert list(one) == list(other)


def test_two_runs_share_no_id():
    one, other = Workload(300, 7, "one"), Workload(300, 7, "other")

    ids = {each.request.command_id for each in one} | {each.request.command_id for each in other}

    assert len(ids) == 600


@pytest.mark.thorough
def test_every_way_and_every_type_occurs_about_as_often_as_it_should():
    planned = list(Workload(10_000, 1, "run"))

    ways = Counter(each.way for each in planned)
    types = Counter(each.request.command_type for each in planned)

    assert ways[Way.BATCH] == 1000
    assert 7200 < ways[Way.BULK] < 7800
    assert all(300 < ways[way] < 700 for way in (Way.REPLY, Way.SINGLE, Way.DELAYED))
    assert 4700 < types["TestCommand"] < 5300
    assert set(types) == {"TestCommand", "LedgerCommand", "ThreadCommand", "NoOp"}


def test_a_way_shows_in_the_request():
    for each in Workload(2000, 1, "run"):
        assert (each.request.reply_to == REPLIES) == (each.way is Way.REPLY)
        assert (each.request.delay is not None) == (each.way is Way.DELAYED)
        assert (each.request.batch_id is not None) == (each.way is Way.BATCH)
        assert CommandBehavior.from_data(each.request.data) == each.behavior


def test_a_tiny_run_has_no_batch():
    assert Workload(5, 1, "run").batch_size == 0


def test_every_planned_command_has_a_handler():
    known = registry()

    types = {each.request.command_type for each in Workload(500, 1, "run")}

    assert all(known.has_handler(DOMAIN, each) for each in types)
    assert known.has_handler(REPORTS, Workload(1, 1, "run").batch_report.command_type)


def context_for(behavior):
    planned = Workload(1, 1, "run").command(0)
    data = {"seed": 1, "behavior": behavior.to_data()}
    command = Command(DOMAIN, "TestCommand", planned.request.command_id, data)
    return command, HandlerContext(command, attempt=1, max_attempts=3, msg_id=1)


@pytest.mark.parametrize(
    ("behavior", "error"),
    [
        (CommandBehavior(fail_permanent_pct=100), PermanentCommandError),
        (CommandBehavior(fail_transient_pct=100), TransientCommandError),
        (CommandBehavior(fail_business_rule_pct=100), BusinessRuleException),
    ],
)
@pytest.mark.parametrize("command_type", ["TestCommand", "ThreadCommand"])
async def test_a_handler_does_what_its_dice_say(behavior, error, command_type):
    command, context = context_for(behavior)
    made = registry()

    with pytest.raises(error):
        await made.dispatch(replace(command, command_type=command_type), context)


async def test_a_handler_whose_dice_say_success_returns_how_long_it_took():
    command, context = context_for(CommandBehavior(min_duration_ms=1, max_duration_ms=2))

    result = await registry().get_or_raise(DOMAIN, "TestCommand")(command, context)

    assert result["attempt"] == 1
    assert 1 <= result["duration_ms"] <= 2
