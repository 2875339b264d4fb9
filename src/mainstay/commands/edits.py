"""What an edit of a payload changes, place by place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.payload import PayloadProblem
from mainstay.errors import InvalidPayloadError


@dataclass(frozen=True, slots=True)
class Edit:
    """What another payload would do to a command that waits.

    Args:
        diff: What it changes, place by place.
        problems: What its handler's model refuses in it, field by field; empty if it fits, or no registry was given.
    """

    diff: list[dict[str, Any]]
    problems: list[PayloadProblem]


def refuse_misfit(
    registry: HandlerRegistry | None,
    domain: str,
    command_type: str,
    data: dict[str, Any],
    headers: Mapping[str, Any] | None,
) -> None:
    """Let a payload pass that the handler of a command would take.

    Args:
        registry: Of the handlers; None lets everything pass.
        domain: Whose command.
        command_type: Which.
        data: The payload.
        headers: Of the command, which say the payload's version.

    Raises:
        InvalidPayloadError: The model refuses it; holds the problems.
        HandlerNotFoundError: The registry does not know the command.
    """
    if registry is None:
        return
    found = registry.problems(domain, command_type, data, headers or {})
    if found:
        told = "; ".join(f"{each.path or 'payload'}: {each.message}" for each in found)
        raise InvalidPayloadError(f"{domain}.{command_type} would not take this payload: {told}", found)


def diff(before: Any, after: Any) -> list[dict[str, Any]]:
    """The places where two JSON values differ, in the order of their paths.

    Each is ``{"path": "/customer/name", "before": ..., "after": ...}``; what was not there, or is not there any more,
    has no such key. Paths are JSON pointers (RFC 6901).

    Args:
        before: A JSON value.
        after: Another.
    """
    return list(_places("", before, after))


def _places(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"path": place, "before": before[key]}
            elif key not in before:
                yield {"path": place, "after": after[key]}
            else:
                yield from _places(place, before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _places(f"{path}/{index}", one, other)
    elif before != after or type(before) is not type(after):
        yield {"path": path, "before": before, "after": after}
