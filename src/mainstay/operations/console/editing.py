"""Payloads as operators edit them: what is personal stays hidden from them, and stays what it is.

Where something is hidden, a *stand-in* is shown: ``•••1``, ``•••2``, each for one value, in the order of the payload.
An edit that keeps a stand-in keeps the value, also when entries of a list were moved or taken out; an edit that writes
something else in its place changes the value. A stand-in is good under the name that it was shown under and nowhere
else: under another the value would be seen, or be replaced by the stand-in. That is refused, nothing is guessed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from mainstay.commands.payload import PayloadProblem
from mainstay.errors import InvalidPayloadError
from mainstay.operations.console.masking import MASK

_STAND_IN: Final = re.compile(rf"{MASK}([0-9]*)")


class Hidden(NamedTuple):
    """A value that is not shown, and its name."""

    name: str
    value: Any


def hide(value: Any, names: frozenset[str]) -> tuple[Any, list[Hidden]]:
    """A JSON value with stand-ins for what has one of these names, and what they stand for."""
    kept: list[Hidden] = []
    return _hide(value, names, kept), kept


def _hide(value: Any, names: frozenset[str], kept: list[Hidden]) -> Any:
    if isinstance(value, list):
        return [_hide(each, names, kept) for each in value]
    if not isinstance(value, dict):
        return value
    shown: dict[str, Any] = {}
    for name, each in value.items():
        if name in names and each is not None:
            kept.append(Hidden(name, each))
            shown[name] = f"{MASK}{len(kept)}"
        else:
            shown[name] = _hide(each, names, kept)
    return shown


def restore(value: Any, kept: Sequence[Hidden]) -> Any:
    """An edited value with what its stand-ins stand for.

    Raises:
        InvalidPayloadError: A stand-in is not where it may be, or is none that was shown.
    """
    return _restore(value, kept, "", None)


def _restore(value: Any, kept: Sequence[Hidden], path: str, name: str | None) -> Any:
    if isinstance(value, dict):
        return {key: _restore(each, kept, f"{path}/{key}", key) for key, each in value.items()}
    if isinstance(value, list):
        return [_restore(each, kept, f"{path}/{index}", None) for index, each in enumerate(value)]
    if not isinstance(value, str) or not (found := _STAND_IN.match(value)):
        return value
    number = int(found[1][:9] or 0)
    if found[0] != value or not 0 < number <= len(kept) or kept[number - 1].name != name:
        raise InvalidPayloadError(
            f"{path}: {value!r} stands for a hidden value, and is good only as it was shown and under the name that it "
            "was shown under; put it back, or write the new value"
        )
    return kept[number - 1].value


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a payload, and what is wrong with what stands there."""

    text: str
    problems: list[str]


def lines(payload: Any, problems: Sequence[PayloadProblem]) -> list[Line]:
    """A payload line by line, each problem at the field that it is about; at what should hold it, if it is missing."""
    written = list(_lines(payload, (), "", "", ""))
    at: dict[int, list[str]] = {}
    for problem in problems:
        number, missing = _line_of(problem.path, [path for path, _ in written])
        at.setdefault(number, []).append(f"{missing}: {problem.message}" if missing else problem.message)
    return [Line(text, at.get(number, [])) for number, (_, text) in enumerate(written)]


def _line_of(path: str, paths: Sequence[str]) -> tuple[int, str]:
    """The line of a path or of the nearest that holds it, and what of the path is not there."""
    whole = path.split(".") if path else []
    for length in range(len(whole), -1, -1):
        found = ".".join(whole[:length])
        if found in paths:
            return paths.index(found), ".".join(whole[length:])
    return 0, path


def _lines(value: Any, path: tuple[str, ...], indent: str, before: str, after: str) -> Iterator[tuple[str, str]]:
    here = ".".join(path)
    if not isinstance(value, dict | list) or not value:
        yield here, f"{indent}{before}{orjson.dumps(value).decode()}{after}"
        return
    if isinstance(value, dict):
        opens, closes = "{", "}"
        entries = [(name, f"{orjson.dumps(name).decode()}: ", each) for name, each in value.items()]
    else:
        opens, closes = "[", "]"
        entries = [(str(index), "", each) for index, each in enumerate(value)]
    yield here, f"{indent}{before}{opens}"
    for number, (name, key, each) in enumerate(entries, 1):
        yield from _lines(each, (*path, name), indent + "  ", key, "" if number == len(entries) else ",")
    yield "\n", f"{indent}{closes}{after}"
