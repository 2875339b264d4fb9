"""Tables, columns, constraints, indexes and triggers: those that the files add up to beside those of a database.

`schema/objects.tsv` lists them, one a line: kind, owner, name and the statement that makes it. `make schema` takes it
from a database that was set up anew. What a database has beyond it is left alone: people add indexes, and tune tables.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mainstay.storage.postgres import database, queries
from mainstay.storage.postgres.database import Connection

_DISABLED: Final = " (disabled)"
_WHOLE: Final = ("table", "type", "sequence", "view")
_RESTORE: Final = "Restore it from a backup, with what it held."


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One of them.

    Attributes:
        kind: ``table``, ``type``, ``sequence``, ``view``, ``column``, ``constraint``, ``index`` or ``trigger``.
        owner: The table that it belongs to, with its schema; of a table, view, type or sequence itself.
        name: Unique among its kind and owner.
        definition: The statement that makes it; empty for what is known by its columns.
    """

    kind: str
    owner: str
    name: str
    definition: str

    def __str__(self) -> str:
        return f"{self.kind} {self.owner}" if self.kind in _WHOLE else f"{self.kind} {self.name} of {self.owner}"


@dataclass(frozen=True, slots=True)
class Alteration:
    """An object that a database lacks, or has in another form.

    Attributes:
        subject: Which one.
        seen: What is the matter with it.
        advice: What puts it back.
    """

    subject: str
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.subject} {self.seen}"


async def read(conn: Connection, schemas: Iterable[str]) -> tuple[SchemaObject, ...]:
    """The objects of a database.

    Args:
        conn: In a transaction, whose search path is the same afterwards.
        schemas: Those to look into.
    """
    ask = queries.load("schema")
    before = await database.fetch_value(conn, ask["search_path_setting"])
    await database.fetch_value(conn, ask["set_search_path"], {"value": ""})
    rows = await database.fetch_all(conn, ask["objects_in"], {"schemas": list(schemas)})
    await database.fetch_value(conn, ask["set_search_path"], {"value": before})
    return tuple(SchemaObject(**row) for row in rows)


def written(objects: Iterable[SchemaObject]) -> str:
    """The text of `schema/objects.tsv`."""
    return "".join(f"{each.kind}\t{each.owner}\t{each.name}\t{each.definition}\n" for each in objects)


def parsed(text: str) -> tuple[SchemaObject, ...]:
    """The objects that a text of `written` lists."""
    return tuple(SchemaObject(*line.split("\t")) for line in text.splitlines())


def compare(expected: Iterable[SchemaObject], found: Iterable[SchemaObject]) -> Iterator[Alteration]:
    """What is missing or different, in the order in which it can be put back.

    Args:
        expected: What the files add up to.
        found: What a database has.
    """
    there = {(each.kind, each.owner, each.name): each.definition for each in found}
    gone = set()
    for each in expected:
        definition = there.get((each.kind, each.owner, each.name))
        if definition is None:
            if each.owner not in gone:
                yield Alteration(str(each), "is missing", _replacement(each))
            if each.kind in _WHOLE:
                gone.add(each.owner)
        elif definition.endswith(_DISABLED):
            yield Alteration(str(each), "is disabled", f"Run `alter table {each.owner} enable trigger {each.name};`.")
        elif definition != each.definition:
            yield Alteration(
                str(each), f"is not what it was: here it would be made by `{definition}`", _correction(each)
            )


def _replacement(lost: SchemaObject) -> str:
    """What makes it again."""
    match lost.kind:
        case "table" | "sequence":
            return _RESTORE
        case "view" | "type":
            return f"Make it again: the statement is in what `mainstay schema print` prints, as create {lost.kind}."
        case "column":
            return f"Run `{_added(lost)}`, and bring back what it held from a backup."
        case _:
            return f"Run `{_added(lost)}`."


def _correction(altered: SchemaObject) -> str:
    """What makes it what it was."""
    match altered.kind:
        case "column":
            return f"Alter it back to what is made by `{altered.definition}`."
        case "sequence":
            return f"Run `{altered.definition.replace('create', 'alter', 1)};`."
        case "constraint":
            return f"Run `alter table {altered.owner} drop constraint {altered.name};` and `{_added(altered)}`."
        case "index":
            schema = altered.owner.partition(".")[0]
            return f"Run `drop index concurrently {schema}.{altered.name};` and `{_added(altered)}`."
        case _:
            return f"Run `drop trigger {altered.name} on {altered.owner};` and `{_added(altered)}`."


def _added(wanted: SchemaObject) -> str:
    if wanted.kind == "index":  # without a lock that would hold up everybody
        return wanted.definition.replace("INDEX", "INDEX CONCURRENTLY", 1) + ";"
    return f"{wanted.definition};"
