"""Dice that always fall the same way, and what they let expect."""

from collections import Counter
from math import comb, sqrt
from uuid import UUID, uuid4

import pytest

from mainstay.errors import InvalidInputError
from mainstay.operations.demo.behaviours import RETRIED, CommandBehavior, Fate, replay, roll
from mainstay.operations.demo.calculator import LOOKS, Expected, calculate

ATTEMPTS = 3


def test_the_same_attempt_always_rolls_the_same():
    behavior = CommandBehavior(10, 20, 5, 5, 0, 100)
    key = uuid4()

    rolls = {roll(behavior, 7, key, 2) for _ in range(20)}

    assert len(rolls) == 1


def test_another_attempt_rolls_anew():
    behavior = CommandBehavior(fail_transient_pct=50)
    key = UUID(int=1)

    fates = {roll(behavior, 7, key, attempt).fate for attempt in range(1, 30)}

    assert fates == {Fate.TRANSIENT, Fate.SUCCESS}


@pytest.mark.parametrize(
    ("behavior", "fate"),
    [
        (CommandBehavior(100, 100, 100, 100), Fate.PERMANENT),
        (CommandBehavior(0, 100, 100, 100), Fate.TRANSIENT),
        (CommandBehavior(0, 0, 100, 100), Fate.BUSINESS_RULE),
        (CommandBehavior(0, 0, 0, 100), Fate.TIMEOUT),
        (CommandBehavior(), Fate.SUCCESS),
    ],
)
def test_the_first_certain_fate_in_order_comes_up(behavior, fate):
    assert roll(behavior, 1, uuid4(), 1).fate is fate


def test_a_success_takes_as_long_as_it_may():
    behavior = CommandBehavior(min_duration_ms=10, max_duration_ms=40)

    seconds = [roll(behavior, 1, UUID(int=n), 1).seconds for n in range(500)]

    assert min(seconds) >= 0.010
    assert max(seconds) <= 0.040
    assert 0.023 < sum(seconds) / len(seconds) < 0.027


@pytest.mark.parametrize(
    "fields",
    [
        {"fail_permanent_pct": 101},
        {"timeout_pct": -1},
        {"fail_transient_pct": "5"},
        {"fail_transient_pct": True},
        {"fail_business_rule_pct": float("nan")},
        {"min_duration_ms": 2, "max_duration_ms": 1},
        {"max_duration_ms": float("inf")},
        {"min_duration_ms": -1},
        {"unknown": 1},
    ],
)
def test_what_is_no_behaviour_is_refused_by_name(fields):
    with pytest.raises(InvalidInputError) as caught:
        CommandBehavior.from_data({"behavior": fields})

    assert next(iter(fields)) in str(caught.value)


def test_a_behaviour_survives_its_command_data():
    behavior = CommandBehavior(1, 2, 3, 4, 5, 6)

    assert CommandBehavior.from_data({"behavior": behavior.to_data()}) == behavior
    assert CommandBehavior.from_data({}) == CommandBehavior()


def ends_of(behavior, number):
    """Ends and retries of many commands, by rolling their dice."""
    ends = Counter()
    for n in range(number):
        for attempt in range(1, ATTEMPTS + 1):
            fate = roll(behavior, 3, UUID(int=n), attempt).fate
            if fate not in RETRIED:
                ends[fate] += 1
                break
            ends["retries"] += attempt < ATTEMPTS
        else:
            ends["exhausted"] += 1
    return ends


@pytest.mark.parametrize(
    "behavior",
    [
        CommandBehavior(10, 20),
        CommandBehavior(2, 8, 1, 0.5),
        CommandBehavior(5, 60, 10, 20),
        CommandBehavior(fail_transient_pct=100),
        CommandBehavior(),
    ],
)
def test_the_calculator_expects_what_the_dice_give(behavior):
    expected = calculate([(behavior, ATTEMPTS)] * 4000)

    happened = ends_of(behavior, 4000)

    assert expected.completed.allows(happened[Fate.SUCCESS])
    assert expected.failed.allows(happened[Fate.BUSINESS_RULE])
    assert expected.permanent.allows(happened[Fate.PERMANENT])
    assert expected.exhausted.allows(happened["exhausted"])
    assert expected.retries.allows(happened["retries"])


def test_the_readmes_example_is_calculated():
    expected = calculate([(CommandBehavior(2, 8), 1)] * 10_000)

    assert expected.permanent.mean == pytest.approx(200)
    assert expected.exhausted.mean == pytest.approx(784)
    assert expected.completed.mean == pytest.approx(9016)


def test_expected_numbers_sum_up_to_all_commands():
    expected = calculate([(CommandBehavior(3, 30, 4, 9), ATTEMPTS)] * 500)

    ends = [expected.completed, expected.failed, expected.permanent, expected.exhausted]

    assert sum(each.mean for each in ends) == pytest.approx(500)


def test_a_number_far_from_the_expected_one_is_not_allowed():
    expected = Expected(mean=100, deviation=9)

    assert expected.allows(144)
    assert not expected.allows(145)
    assert not Expected(0, 0).allows(1)


@pytest.mark.parametrize(("number", "chance"), [(500, 0.0024), (40, 0.01), (600, 0.5)])
def test_chance_alone_leads_out_of_the_tolerance_less_often_than_is_said(number, chance):
    deviation = sqrt(number * chance * (1 - chance))
    expected = Expected(number * chance, deviation)

    def out_of(allows):
        at = [comb(number, k) * chance**k * (1 - chance) ** (number - k) for k in range(number + 1)]
        return sum(likely for k, likely in enumerate(at) if not allows(k))

    assert out_of(expected.allows) < 1 / LOOKS
    if expected.mean < 2:
        assert out_of(lambda happened: abs(happened - expected.mean) <= 4 * deviation) > 1 / LOOKS


def test_replaying_ends_with_the_first_final_fate():
    assert replay(CommandBehavior(fail_transient_pct=100), 1, uuid4(), 3) is Fate.TRANSIENT
    assert replay(CommandBehavior(fail_permanent_pct=100), 1, uuid4(), 3) is Fate.PERMANENT

    key = next(
        UUID(int=n)
        for n in range(1000)
        if roll(CommandBehavior(fail_transient_pct=50), 1, UUID(int=n), 1).fate is Fate.TRANSIENT
        and roll(CommandBehavior(fail_transient_pct=50), 1, UUID(int=n), 2).fate is Fate.SUCCESS
    )

    assert replay(CommandBehavior(fail_transient_pct=50), 1, key, 3) is Fate.SUCCESS
