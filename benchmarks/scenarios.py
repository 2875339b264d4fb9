"""All that is measured, and all goals."""

from dataclasses import replace

from benchmarks.command_scenarios import COMMAND_GOALS, COMMAND_SCENARIOS
from benchmarks.event_scenarios import EVENT_GOALS, EVENT_SCENARIOS
from benchmarks.scenario import Scenario

SCENARIOS = COMMAND_SCENARIOS + EVENT_SCENARIOS
GOALS = COMMAND_GOALS + EVENT_GOALS


def choose(names: list[str] | None, *, smoke: bool, seconds: float | None = None) -> tuple[Scenario, ...]:
    """The scenarios asked for, in order; all of them, or all that a smoke run needs, if none is named.

    Args:
        names: Those asked for.
        smoke: Whether it is a smoke run.
        seconds: How long those go on that go on for a while, if not as they say themselves.

    Raises:
        SystemExit: A name fits none.
    """
    if unknown := set(names or ()) - {scenario.key for scenario in SCENARIOS}:
        known = ", ".join(scenario.key for scenario in SCENARIOS)
        raise SystemExit(f"unknown scenario: {', '.join(sorted(unknown))}; known: {known}")
    usual = {scenario.key for scenario in SCENARIOS if scenario.smoke or not smoke}
    return tuple(
        replace(scenario, seconds=seconds) if seconds is not None and scenario.seconds else scenario
        for scenario in SCENARIOS
        if scenario.key in (names or usual)
    )
