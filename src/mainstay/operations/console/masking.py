"""What is personal is not shown: fields of payloads that are marked, and names that the console is told.

A field of a typed command is marked with ``Field(json_schema_extra={"x-personal": True})``. The names of all marked
fields of a command's model, those of models within it included, are masked wherever they stand in what that command
shows: payload, result, progress and audit trail. Wherever, because a result often repeats a payload's field; too much
masked is a nuisance, too little is a leak. Messages of errors are text, and shown as they are.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from mainstay.commands.handler import HandlerRegistry

MASK: Final = "•••"
_MARK: Final = "x-personal"


class Masking:
    """Knows which names are personal in which command.

    Args:
        registry: The handlers, whose models mark fields.
        names: Masked in every command.
    """

    def __init__(self, registry: HandlerRegistry | None = None, names: Iterable[str] = ()) -> None:
        self._everywhere = frozenset(names)
        self._marked = {
            (domain, command_type): self._everywhere.union(_marked(schema))
            for domain, types in (registry.json_schemas() if registry else {}).items()
            for command_type, schema in types.items()
        }

    def masked(self, value: Any, domain: str, command_type: str) -> Any:
        """A JSON value without what is personal in commands of this type."""
        names = self._marked.get((domain, command_type), self._everywhere)
        return _masked(value, names) if names else value


def _marked(schema: Any) -> Iterator[str]:
    """Names of the marked properties of a JSON Schema, at any depth."""
    if isinstance(schema, dict):
        for name, each in (schema.get("properties") or {}).items():
            if isinstance(each, dict) and each.get(_MARK) is True:
                yield name
        for each in schema.values():
            yield from _marked(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _marked(each)


def _masked(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: (None if each is None else MASK) if name in names else _masked(each, names)
            for name, each in value.items()
        }
    return [_masked(each, names) for each in value] if isinstance(value, list) else value
