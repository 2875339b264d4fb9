"""The tree of a conversation: whatever is said of causes, everything found stands in it once."""

from collections import Counter
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay import InMemoryEventStore, MemoryCommandStore
from mainstay.commands.store import CommandFilter
from mainstay.conversations import Conversations, Kind
from tests.scenarios.world import DOMAIN, World

CORRELATION = UUID(int=1)


def command_id(number: int) -> UUID:
    return uuid5(CORRELATION, str(number))


@settings(max_examples=100, deadline=None)
@given(causes=st.lists(st.none() | st.integers(0, 7), min_size=1, max_size=6), asked=st.integers(0, 5))
async def test_every_command_stands_in_the_tree_once_below_its_cause(causes, asked) -> None:
    world = World(MemoryCommandStore())
    await world.store.ensure_queue(DOMAIN)
    for number, cause in enumerate(causes):
        said = None if cause is None else command_id(cause)
        await world.send(command_id=command_id(number), causation_id=said, correlation_id=CORRELATION)

    found = await Conversations(world.store, InMemoryEventStore().log).find(command_id(asked % len(causes)))

    sent = await world.store.query(CommandFilter(), limit=100, offset=0)
    steps = [step for step in found.steps if step.kind is Kind.COMMAND]
    assert Counter(step.id for step in steps) == Counter(each.command_id for each in sent)
    above: list[UUID] = []
    cut = 0
    for step in found.steps:
        assert step.depth <= len(above), "a step is one level below the one above it at most"
        del above[step.depth :]
        assert step.depth == 0 or step.cause == above[-1]
        cut += step.depth == 0 and step.cause is not None
        above.append(step.id)
    assert cut == _circles(causes)


def _circles(causes: list[int | None]) -> int:
    """How many circles the causes go in."""
    ends = set()
    for number in range(len(causes)):
        seen: list[int] = []
        at: int | None = number
        while at is not None and at < len(causes) and at not in seen:
            seen.append(at)
            at = causes[at]
        if at is not None and at in seen:
            ends.add(frozenset(seen[seen.index(at) :]))
    return len(ends)
