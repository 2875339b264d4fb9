"""Files of named questions: `queries/<room>.sql` of a kind of storage.

A file is a list of blocks. Each opens with its name and at least one sentence that says what is asked, and ends where
the next one opens::

    -- name: list_stuck
    -- Commands whose lease ended without an outcome.
    select ...;

Parameters are written as the driver takes them.
"""

from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import LiteralString

from mainstay.errors import ConfigurationError

_NAME = "-- name:"
_COMMENT = "--"


class QueryFile(Mapping[str, LiteralString]):
    """The queries of one room by name; immutable.

    The texts come out of this package, so they are typed as literals: no data is ever spliced into them.
    """

    __slots__ = ("_queries", "_sentences", "room")

    def __init__(self, room: str, text: str) -> None:
        """Parse a file.

        Args:
            room: Name of the file without ``.sql``, for messages.
            text: What the file holds.

        Raises:
            ConfigurationError: A name is missing, malformed or used twice, or a query has no sentence or no SQL.
        """
        self.room = room
        self._queries: dict[str, LiteralString] = {}
        self._sentences: dict[str, str] = {}
        for name, sentence, sql in _blocks(room, text):
            if name in self._queries:
                raise _malformed(room, f"two queries are named {name!r}")
            self._queries[name] = sql
            self._sentences[name] = sentence

    def __getitem__(self, name: str) -> LiteralString:
        """The SQL of a query.

        Raises:
            KeyError: No query has this name.
        """
        try:
            return self._queries[name]
        except KeyError:
            message = f"no query {name!r} in queries/{self.room}.sql; there are: {', '.join(sorted(self._queries))}"
            raise KeyError(message) from None

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of the file."""
        return iter(self._queries)

    def __len__(self) -> int:
        """How many queries the file holds."""
        return len(self._queries)

    def sentence(self, name: str) -> str:
        """What a query asks, in the words of its file.

        Raises:
            KeyError: No query has this name.
        """
        return self._sentences[name]


def read(folder: Traversable, room: str) -> QueryFile:
    """The queries of a room in a folder; no cache.

    Raises:
        ConfigurationError: There is no such file, or it is malformed.
    """
    file = folder / f"{room}.sql"
    if not file.is_file():
        raise _malformed(room, "there is no such file")
    return QueryFile(room, file.read_text(encoding="utf-8"))


def _blocks(room: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Split a file into (name, sentence, SQL)."""
    head, *blocks = f"\n{text}".split(f"\n{_NAME}")
    if any(line.strip() and not line.startswith(_COMMENT) for line in head.splitlines()):
        raise _malformed(room, "SQL stands before the first '-- name:' line")
    for block in blocks:
        first, *lines = block.splitlines()
        name = first.strip()
        if not name.isidentifier():
            raise _malformed(room, f"{name!r} is no name for a query")
        sentence: list[str] = []
        while lines and lines[0].startswith(_COMMENT):
            sentence.append(lines.pop(0).removeprefix(_COMMENT).strip())
        sql = "\n".join(lines).strip().removesuffix(";").rstrip()
        if not any(sentence):
            raise _malformed(room, f"query {name!r} has no sentence that says what it asks")
        if not sql:
            raise _malformed(room, f"query {name!r} is empty")
        yield name, " ".join(sentence), sql


def _malformed(room: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"queries/{room}.sql: {what}")
