"""Where the boxes of a process's diagram stand, and what leads to what."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.process import ProcessMetadata, ProcessStatus, StepMetadata, StepStatus, TakenEvent
from mainstay.operations.console.diagram import MOST, diagram

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def step(number, sent, replied=None, *, name=None, status=StepStatus.SUCCESS, undoes=None):
    return StepMetadata(
        number, name or f"step {number}", "shop", "Do", uuid4(), {}, status if replied else StepStatus.SENT,
        BEGAN + timedelta(seconds=sent), undoes,
        replied_at=BEGAN + timedelta(seconds=replied) if replied else None,
    )  # fmt: skip


def process(*steps, events=()):
    status = ProcessStatus.WAITING_FOR_REPLY
    key = uuid4()
    known = ProcessMetadata(key, "shop", "shop", "Buy", status, {}, key, BEGAN, BEGAN)
    return replace(known, steps=steps, events=tuple(events))


def test_time_goes_right_what_was_sent_together_stands_together_and_what_undoes_stands_below_what_it_undoes():
    drawn = diagram(
        process(
            step(1, 0, 1),
            step(2, 1, 3),
            step(3, 1, 2, status=StepStatus.FAILED),
            step(4, 3, 4, undoes=2),
            step(5, 4, undoes=1),
        ),
        {5: CommandStatus.IN_TROUBLESHOOTING_QUEUE},
    )
    first, second, third, fourth, fifth = drawn.boxes
    assert first.x < second.x == third.x == fourth.x
    assert (fifth.x, first.y) == (first.x, second.y)
    assert second.y < third.y < drawn.lane <= fourth.y == fifth.y
    assert [box.status for box in drawn.boxes] == [
        "SUCCESS",
        "SUCCESS",
        "FAILED",
        "SUCCESS",
        "IN_TROUBLESHOOTING_QUEUE",
    ]
    assert sorted(arrow.kind for arrow in drawn.arrows) == ["next", "next", "next", "undoes", "undoes"]
    assert all(box.x + drawn.box_width < drawn.width and box.y + drawn.box_height < drawn.height for box in drawn.boxes)


def test_a_step_stands_behind_the_event_that_moved_its_process():
    event = TakenEvent(uuid4(), "OrderPaid", 7, taken_at=BEGAN + timedelta(seconds=5))
    drawn = diagram(process(step(1, 0, 1), step(2, 5), events=[event]), {})
    assert [(box.title, box.status) for box in drawn.boxes] == [
        ("step 1", "SUCCESS"),
        ("OrderPaid", "taken"),
        ("step 2", "SENT"),
    ]
    assert drawn.boxes[0].x < drawn.boxes[1].x < drawn.boxes[2].x
    assert (drawn.lane, len(drawn.arrows)) == (None, 2)


def test_no_two_boxes_stand_in_one_place_and_too_many_are_left_to_the_table():
    steps = [step(number, number // 7, number // 7 + 1, name="x" * 50) for number in range(1, MOST + 21)]
    drawn = diagram(process(*steps), {})
    assert (len(drawn.boxes), drawn.left_out) == (MOST, 20)
    assert len({(box.x, box.y) for box in drawn.boxes}) == MOST
    assert all(len(box.title) < 25 < len(box.whole) for box in drawn.boxes)
    assert diagram(process(), {}).boxes == []
