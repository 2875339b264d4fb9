"""The files under `schema/`, read and checked, and the SQL that each of them becomes.

The folder holds::

    ledger.sql                          the runner's own tables
    pgmq.sql                            PGMQ where the database lacks it
    migrations/NNNN_name.sql            what holds data: append-only, numbered from 0001 without a gap
    functions/<room>/<verb>.sql         what decides: one function each, named after its file
    objects.tsv                         the tables, columns, indexes and so on that they add up to, generated

A migration opens with the line ``-- breaking: yes`` or ``-- breaking: no``: may code that does not know this migration
still run on a database that has it? Nobody else can say, so a migration without the line is refused.

`migrate` sends these texts to a server one by one; `get_schema_sql` joins the same texts into a script. There is no
second way to install.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from mainstay.errors import ConfigurationError
from mainstay.storage.postgres import queries, schema_objects
from mainstay.storage.postgres.schema_objects import SchemaObject

_MIGRATION_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_BREAKING = re.compile(r"^-- breaking: (yes|no)$", re.MULTILINE)
_MAKES_SCHEMA = re.compile(r"^\s*create schema (?:if not exists )?(\w+)", re.MULTILINE | re.IGNORECASE)
_MAKES_FUNCTION = re.compile(
    r"^\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(\w+)\.(\w+)\s*\(", re.MULTILINE | re.IGNORECASE
)
_DROPS_FUNCTION = re.compile(
    r"^\s*drop\s+(?:function|procedure)\s+(if\s+exists\s+)?(\w+)\.(\w+)", re.MULTILINE | re.IGNORECASE
)
_BODY = re.compile(r"\bas\s+(\$\w*\$)(.*?)\1", re.DOTALL | re.IGNORECASE)
_RELEASE = re.compile(r"(\d+(?:\.\d+)*)[._-]?([a-z]*)[._-]?(\d*)", re.IGNORECASE)
_STAGES = {"dev": -4, "a": -3, "b": -2, "rc": -1, "": 0, "post": 1}


@dataclass(frozen=True, slots=True)
class Function:
    """A function as its file states it.

    Attributes:
        schema: Where it lives.
        name: Unique in its schema: we make no overloads.
        body: What stands between the dollar quotes, None if there are none.
    """

    schema: str
    name: str
    body: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered file that is applied once."""

    number: int
    name: str
    text: str = field(repr=False)
    hash: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"

    def script(self) -> str:
        """The migration and the line in the ledger that says so."""
        record = _filled("record_migration", number=self.number, name=self.name, hash=self.hash, breaking=self.breaking)
        return f"-- migrations/{self}.sql\n{self.text.rstrip()}\n\n{record}\n"


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """A file that is applied again whenever it has changed."""

    path: str
    text: str = field(repr=False)
    hash: str
    function: Function

    def __str__(self) -> str:
        return self.path

    def script(self, release: str) -> str:
        """The function and the line in the ledger that says so.

        Args:
            release: The release of mainstay that applies it.
        """
        record = _filled("record_function_file", path=self.path, hash=self.hash, release=release)
        return f"-- functions/{self.path}\n{self.text.rstrip()}\n\n{record}\n"


@dataclass(frozen=True, slots=True)
class SchemaFiles:
    """Everything under one schema folder.

    Attributes:
        ledger: Text of ``ledger.sql``.
        pgmq: Text of ``pgmq.sql``, with PGMQ's own SQL filled in.
        migrations: By number.
        functions: By path.
        objects: What a database that has all of it holds; empty if nobody has written it down.
        release: The release of mainstay that they belong to.
    """

    ledger: str = field(repr=False)
    pgmq: str = field(repr=False)
    migrations: tuple[Migration, ...]
    functions: tuple[FunctionFile, ...]
    objects: tuple[SchemaObject, ...] = field(repr=False)
    release: str

    @property
    def version(self) -> int:
        """Number of the last migration; 0 if there is none."""
        return len(self.migrations)

    @property
    def schemas(self) -> tuple[str, ...]:
        """Schemas that the migrations make: ours alone."""
        return tuple(dict.fromkeys(name for each in self.migrations for name in _MAKES_SCHEMA.findall(each.text)))

    @property
    def all_schemas(self) -> tuple[str, ...]:
        """The same, and that of the ledger."""
        return ("mainstay", *self.schemas)

    def expected_functions(self) -> dict[tuple[str, str], Function]:
        """Every function that a current database has, by schema and name.

        A function file is the truth about its function. What a table itself needs (a default, a check, an index)
        comes out of a migration instead, and stays as the last one left it.
        """
        found: dict[tuple[str, str], Function] = {}
        for migration in self.migrations:
            for _, schema, name in _DROPS_FUNCTION.findall(migration.text):
                found.pop((schema, name), None)
            found |= {(each.schema, each.name): each for each in _functions(migration.text)}
        return found | {(each.function.schema, each.function.name): each.function for each in self.functions}

    def guard_script(self) -> str:
        """Refuse a database in which one of our schemas exists and holds something."""
        return _filled("refuse_occupied_schemas", schemas=list(self.all_schemas)) + "\n"

    def forget_script(self) -> str:
        """Remove files from the ledger that are no longer in the folder."""
        return _filled("forget_function_files", paths=[each.path for each in self.functions]) + "\n"


def load(folder: Traversable | None = None, *, release: str | None = None) -> SchemaFiles:
    """Read and check a schema folder.

    Args:
        folder: Laid out as this module says; None for the one in this package.
        release: The release they belong to; None for that of this package.

    Raises:
        ConfigurationError: A file breaks a rule of the folder; the message names it.
    """
    root = folder if folder is not None else files("mainstay.storage.postgres") / "schema"
    return SchemaFiles(
        ledger=_text(root / "ledger.sql"),
        pgmq=_with_pgmq(_text(root / "pgmq.sql")),
        migrations=tuple(_migrations(root / "migrations")),
        functions=tuple(_function_files(root / "functions")),
        objects=schema_objects.parsed(_text(listed)) if (listed := root / "objects.tsv").is_file() else (),
        release=release if release is not None else _own_release(),
    )


def release_key(release: str) -> tuple[tuple[int, ...], int, int]:
    """Order of releases: ``0.9 < 0.10.dev1 < 0.10rc1 < 0.10 < 0.10.1``.

    Args:
        release: As in the metadata of a distribution; an unreadable one comes before all others.
    """
    match = _RELEASE.match(release)
    if match is None:
        return (), min(_STAGES.values()) - 1, 0
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), _STAGES.get(match[2].lower(), 0), int(match[3] or 0)


def _migrations(folder: Traversable) -> Iterator[Migration]:
    made: set[tuple[str, str]] = set()
    for position, file in enumerate(_sql_files(folder), start=1):
        named = _MIGRATION_FILE.fullmatch(file.name)
        if named is None:
            raise ConfigurationError(f"schema/migrations/{file.name}: the name must look like 0001_what_it_does.sql")
        if int(named[1]) != position:
            raise ConfigurationError(
                f"schema/migrations/{file.name}: number {position:04} expected here; numbers run without a gap and "
                "no two files share one"
            )
        text = _text(file)
        breaking = _BREAKING.findall(text)
        if len(breaking) != 1:
            raise ConfigurationError(
                f"schema/migrations/{file.name}: one line '-- breaking: yes' or '-- breaking: no' must say whether "
                "code of the release before may go on running"
            )
        for if_exists, schema, name in _DROPS_FUNCTION.findall(text):
            if not if_exists and (schema, name) not in made:
                raise ConfigurationError(
                    f"schema/migrations/{file.name}: {schema}.{name} comes from a function file, which a fresh "
                    "database never had: drop it 'if exists'"
                )
        made |= {(each.schema, each.name) for each in _functions(text)}
        yield Migration(position, named[2], text, _hash(text), breaking[0] == "yes")


def _function_files(folder: Traversable) -> Iterator[FunctionFile]:
    rooms = sorted((each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.name)
    owners: dict[tuple[str, str], str] = {}
    for room in rooms:
        for file in _sql_files(room):
            path = f"{room.name}/{file.name}"
            text = _text(file)
            functions = _functions(text)
            if [each.name for each in functions] != [file.name.removesuffix(".sql")]:
                raise ConfigurationError(
                    f"schema/functions/{path}: must define exactly one function, named after the file; "
                    f"it defines {', '.join(each.name for each in functions) or 'none'}"
                )
            key = functions[0].schema, functions[0].name
            if key in owners:
                raise ConfigurationError(f"schema/functions/{path}: {'.'.join(key)} is defined in {owners[key]} too")
            owners[key] = path
            yield FunctionFile(path, text, _hash(text), functions[0])


def _functions(text: str) -> list[Function]:
    heads = list(_MAKES_FUNCTION.finditer(text))
    found = []
    for head, following in zip_longest(heads, heads[1:]):
        body = _BODY.search(text, head.end(), following.start() if following else len(text))
        found.append(Function(head[1], head[2], body[2] if body else None))
    return found


def _sql_files(folder: Traversable) -> Iterable[Traversable]:
    return sorted((each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)


def _text(file: Traversable) -> str:
    # A checkout with CRLF line ends must not look like an edited migration.
    return file.read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _with_pgmq(text: str) -> str:
    return text.replace("<version>", _of_pgmq("VERSION")).replace("<install_sql>", _of_pgmq("pgmq.sql"))


def _of_pgmq(name: str) -> str:
    """An SQL file of the pgmq wheel, which is not imported: that would import SQLAlchemy and cost half a second."""
    wheel = find_spec("pgmq")
    if wheel is None or not wheel.submodule_search_locations:
        raise ConfigurationError("the package pgmq is missing: pip install pgmq")
    return Path(wheel.submodule_search_locations[0], "sql", name).read_text(encoding="utf-8").strip()


def _own_release() -> str:
    try:
        return version("mainstay")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def _filled(query: str, /, **values: object) -> str:
    """A statement with its values in it: the same text for the runner and for the printed script."""
    template: LiteralString = queries.load("schema")[query]
    return sql.SQL(template).format(**{key: sql.Literal(value) for key, value in values.items()}).as_string() + ";"
