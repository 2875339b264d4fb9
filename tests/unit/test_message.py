"""Names, ids and correlation."""

import asyncio
import copy
import pickle
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.errors import InvalidDomainError, InvalidInputError, InvalidQueueError
from mainstay.message import (
    checked_domain,
    checked_id,
    checked_queue,
    checked_type,
    command_queue,
    correlated,
    correlation_id_var,
    drawn_id,
)

LONGEST_QUEUE = 47
"""Characters that PGMQ keeps of a queue's name."""

NO_NAMES = ["", " ", "Orders", "or ders", "orders\n", "órders", "\uff11", "a.b", 'a"b', "a;b", "-a", None, 7, b"orders"]


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,36}", fullmatch=True, alphabet=st.characters(codec="ascii")))
def test_a_plain_name_is_a_domain_and_its_queue_fits(domain: str) -> None:
    assert checked_domain(domain) == domain
    assert checked_queue(command_queue(domain)) == f"{domain}__commands"


@given(st.text())
def test_a_domain_is_taken_as_it_is_or_refused(text: str) -> None:
    try:
        queue = command_queue(checked_domain(text))
    except InvalidDomainError:
        return

    assert queue == queue.lower()
    assert len(queue) <= LONGEST_QUEUE


@pytest.mark.parametrize("domain", [*NO_NAMES, "a" * 38, "_a"])
def test_a_name_that_cannot_become_a_queue_is_no_domain(domain: object) -> None:
    with pytest.raises(InvalidDomainError, match="invalid domain") as caught:
        checked_domain(domain)

    assert caught.value.domain == domain


@pytest.mark.parametrize("queue", [*NO_NAMES, "a" * 48])
def test_a_name_that_pgmq_would_change_is_no_queue(queue: object) -> None:
    with pytest.raises(InvalidQueueError, match="invalid queue") as caught:
        checked_queue(queue)

    assert caught.value.queue == queue


@pytest.mark.parametrize("queue", ["_replies", "a" * 47, "process-replies_2"])
def test_a_name_that_pgmq_keeps_is_a_queue(queue: str) -> None:
    assert checked_queue(queue) == queue


@pytest.mark.parametrize("command_type", ["CreateOrder", "billing.v2:Charge Card", "注文", "x" * 200])
def test_any_printable_text_is_a_command_type(command_type: str) -> None:
    assert checked_type(command_type) == command_type


@pytest.mark.parametrize("command_type", ["", "  ", "a\nb", "a\x00b", "x" * 201, None, 5, b"x"])
def test_what_is_no_printable_text_is_no_command_type(command_type: object) -> None:
    with pytest.raises(InvalidInputError, match="command_type"):
        checked_type(command_type)


@given(st.uuids())
def test_an_id_may_be_given_as_text(value: UUID) -> None:
    assert checked_id(value, "command_id") is value
    assert checked_id(str(value), "command_id") == value


@pytest.mark.parametrize("value", ["", "abc", None, 7, b"0" * 16])
def test_what_is_no_uuid_is_refused_by_the_arguments_name(value: object) -> None:
    with pytest.raises(InvalidInputError, match="command_id must be a UUID"):
        checked_id(value, "command_id")


def test_a_correlation_holds_inside_its_block_only_and_nests() -> None:
    outer, seen = uuid4(), []

    with correlated(outer):
        seen.append(correlation_id_var.get())
        with correlated("inner"):
            seen.append(correlation_id_var.get())
        with correlated(None):
            seen.append(correlation_id_var.get())
        seen.append(correlation_id_var.get())

    assert seen == [str(outer), "inner", None, str(outer)]
    assert correlation_id_var.get() is None


def test_a_correlation_ends_with_its_block_also_when_that_raises() -> None:
    with pytest.raises(KeyError), correlated("x"):
        raise KeyError

    assert correlation_id_var.get() is None


async def test_tasks_do_not_see_each_others_correlation() -> None:
    both = asyncio.Barrier(2)

    async def task(name: str) -> str | None:
        with correlated(name):
            await both.wait()
            return correlation_id_var.get()

    assert await asyncio.gather(task("a"), task("b")) == ["a", "b"]


def test_a_drawn_id_is_one_of_the_standard_librarys() -> None:
    drawn = [drawn_id() for _ in range(1_000)]

    assert len(set(drawn)) == 1_000
    assert {(each.version, each.variant) for each in drawn} == {(4, RFC_4122)}
    for each in drawn[:10]:
        assert each == UUID(str(each)) == copy.deepcopy(each) == pickle.loads(pickle.dumps(each))
        assert each.is_safe == UUID(str(each)).is_safe
        assert hash(each) == hash(UUID(str(each)))
    fixed = [bit for bit in range(128) if len({each.int >> bit & 1 for each in drawn}) == 1]
    assert fixed == [62, 63, 76, 77, 78, 79]  # variant and version
