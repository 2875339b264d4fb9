"""The steps of a process as a diagram: where each box stands, and what leads to what.

Time goes from left to right. A step stands behind what it was sent after: the step whose reply, or the event whose
coming, moved the process then; both were written at the same moment as the step, which is how they are known. Steps
that were sent together stand one below the other. What undoes a step stands in a lane of its own, below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.process import ProcessMetadata, StepMetadata, StepStatus, TakenEvent

MOST: Final = 80
"""Boxes that a diagram shows at most; beyond, the table does."""
_WIDE, _HIGH = 172, 50
_BESIDE, _BELOW = 44, 18
_EDGE = 14
_LONGEST = 21
_NEAR = 6


@dataclass(frozen=True, slots=True)
class Box:
    """A step, or an event that the process was told of.

    Args:
        title: Its name, cut if it is long.
        whole: Its name.
        status: Where it stands.
        step: If it is one.
        event: If it is one.
        x: From the left.
        y: From the top.
    """

    title: str
    whole: str
    status: str
    step: StepMetadata | None
    event: TakenEvent | None
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line from one box to another, as the ``d`` of an SVG path; ``kind`` is next or undoes."""

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """All of it. ``lane`` is where the lane of what undoes begins, None if there is none; ``left_out`` counts boxes."""

    width: int
    height: int
    boxes: list[Box]
    arrows: list[Arrow]
    lane: int | None
    left_out: int
    box_width: int = _WIDE
    box_height: int = _HIGH


@dataclass(slots=True)
class _Placed:
    """Something on its way to a box."""

    at: datetime
    ended: datetime | None
    step: StepMetadata | None = None
    event: TakenEvent | None = None
    cause: "_Placed | None" = None
    column: int = 0
    row: int = 0
    is_undoing: bool = field(default=False)


def diagram(process: ProcessMetadata, waiting: dict[int, CommandStatus]) -> Diagram:
    """Draw a process.

    Args:
        process: With its steps and events.
        waiting: Where the commands of the steps under way stand, by the steps' numbers.
    """
    events = [_Placed(each.taken_at, each.taken_at, event=each) for each in process.events if each.taken_at]
    steps = [_Placed(s.sent_at, s.replied_at, step=s, is_undoing=s.undoes is not None) for s in process.steps]
    placed = sorted([*events, *steps], key=lambda each: (each.at, each.event is None, _number(each)))
    shown, left_out = placed[:MOST], max(len(placed) - MOST, 0)
    by_number = {each.step.step_no: each for each in shown if each.step is not None}
    taken: set[tuple[bool, int, int]] = set()
    for index, each in enumerate(shown):
        each.cause = _cause(each, shown[:index])
        undone = by_number.get(each.step.undoes) if each.step and each.step.undoes else None
        if undone is not None:
            each.column = undone.column
        else:
            each.is_undoing = False
            each.column = 0 if each.cause is None else each.cause.column + 1
        first = each.cause.row if each.cause and each.cause.is_undoing is each.is_undoing and not undone else 0
        each.row = next(row for row in range(first, first + MOST) if (each.is_undoing, each.column, row) not in taken)
        taken.add((each.is_undoing, each.column, each.row))
    return _drawn(shown, by_number, waiting, left_out)


def _number(each: _Placed) -> int:
    return each.step.step_no if each.step else 0


def _cause(each: _Placed, before: Sequence[_Placed]) -> _Placed | None:
    """What the process was moved by when it sent a step: known by the moment, else the last that came before."""
    if each.event is None:
        for other in reversed(before):
            if other.ended == each.at:
                return other
        together = next((other for other in before if other.at == each.at), None)
        if together is not None:
            return together.cause
    ended = [other for other in before if other.ended is not None and other.ended < each.at and not other.is_undoing]
    return max(ended, key=lambda other: (other.ended or other.at, other.column), default=None)


def _drawn(
    shown: Sequence[_Placed], by_number: dict[int, _Placed], waiting: dict[int, CommandStatus], left_out: int
) -> Diagram:
    rows = max((each.row + 1 for each in shown if not each.is_undoing), default=0)
    undoing_rows = max((each.row + 1 for each in shown if each.is_undoing), default=0)
    lane = _EDGE + rows * (_HIGH + _BELOW) + _BELOW if undoing_rows else None
    columns = max((each.column + 1 for each in shown), default=0)
    high = (lane or _EDGE) + (undoing_rows if lane else rows) * (_HIGH + _BELOW)
    arrows: list[Arrow] = []
    for each in shown:
        undone = by_number.get(each.step.undoes) if each.is_undoing and each.step and each.step.undoes else None
        if undone is not None:
            arrows.append(Arrow(_down(_place(undone, lane), _place(each, lane)), "undoes"))
        if each.cause is not None and not (undone is not None and each.cause is undone):
            arrows.append(Arrow(_line(_place(each.cause, lane), _place(each, lane)), "next"))
    boxes = [_box(each, waiting, *_place(each, lane)) for each in shown]
    return Diagram(2 * _EDGE + columns * (_WIDE + _BESIDE) - _BESIDE, high, boxes, arrows, lane, left_out)


def _place(each: _Placed, lane: int | None) -> tuple[int, int]:
    top = lane if each.is_undoing and lane is not None else _EDGE
    return _EDGE + each.column * (_WIDE + _BESIDE), top + each.row * (_HIGH + _BELOW)


def _box(each: _Placed, waiting: dict[int, CommandStatus], x: int, y: int) -> Box:
    if each.event is not None:
        whole, status = each.event.event_type, "taken" if each.event.was_taken else "ignored"
    else:
        assert each.step is not None  # noqa: S101 - it is one of the two
        step = each.step
        whole = step.name
        status = str(waiting.get(step.step_no, step.status) if step.status is StepStatus.SENT else step.status)
    title = whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"
    return Box(title, whole, status, each.step, each.event, x, y)


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the side of one box to the side of another, the nearer ones."""
    if end[0] > start[0]:
        x1, y1, x2, y2 = start[0] + _WIDE, start[1] + _HIGH // 2, end[0] - _NEAR, end[1] + _HIGH // 2
        middle = x1 + (_BESIDE - _NEAR) // 2
        return f"M{x1} {y1} H{middle} V{y2} H{x2}"
    if end[0] < start[0] and end[1] == start[1]:
        return f"M{start[0]} {start[1] + _HIGH // 2} H{end[0] + _WIDE + _NEAR}"
    middle = start[1] + _HIGH + _BELOW // 2
    return f"M{start[0] + _WIDE // 2 + 12} {start[1] + _HIGH} V{middle} H{end[0] + _WIDE // 2 + 12} V{end[1] - _NEAR}"


def _down(start: tuple[int, int], end: tuple[int, int]) -> str:
    return f"M{start[0] + _WIDE // 2 - 12} {start[1] + _HIGH} V{end[1] - _NEAR}"
