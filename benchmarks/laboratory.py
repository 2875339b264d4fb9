"""Databases to measure in: each measurement starts from a copy of a database prepared once per peer and filling.

A copy is exact, so that every round of every scenario meets the same tables, the same indexes and the same statistics,
however much the rounds before it wrote. A CHECKPOINT follows each copy: none of it is left to be written while the
clock runs.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

SETTINGS = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"]
_LARGE = 64 * 2**20  # bytes: above this a copy of files is cheaper than a copy through the log


class Laboratory:
    """Makes and drops databases on one server.

    Args:
        dsn: A database on the server, whose user may create databases.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._admin = psycopg.connect(dsn, autocommit=True)
        self._prefix = f"mainstay_bench_{uuid.uuid4().hex[:8]}"
        self._templates: dict[str, str] = {}
        self._count = 0

    def close(self) -> None:
        """Drop every database made here."""
        for name in self._templates.values():
            self._drop(name)
        self._admin.close()

    def server(self) -> dict[str, str]:
        """The settings that speed depends on."""
        rows = self._admin.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)", (SETTINGS,)
        )
        return dict(rows.fetchall())

    def template(self, key: str, prepare: Callable[[str], object], source: str | None = None) -> str:
        """The key of a database prepared once, by copying another and calling ``prepare`` with its DSN.

        Args:
            key: Names it for later calls.
            prepare: Fills it; all its connections must be closed when it returns.
            source: Key of the template to start from, or None for an empty database.
        """
        if key not in self._templates:
            name = self._create(source)
            try:
                prepare(self.dsn(name))
                with psycopg.connect(self.dsn(name), autocommit=True) as conn:
                    conn.execute("vacuum analyze")
            except BaseException:
                self._drop(name)
                raise
            self._templates[key] = name
        return key

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """A copy of a template as a DSN, dropped afterwards."""
        name = self._create(template)
        try:
            self._admin.execute("checkpoint")
            yield self.dsn(name)
        finally:
            self._drop(name)

    def dsn(self, database: str) -> str:
        """The server's DSN for another database, as a URI: asyncpg reads no other form."""
        return uri({**conninfo_to_dict(self._dsn), "dbname": database})

    def _create(self, template: str | None) -> str:
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            source = self._templates[template]
            size = self._admin.execute("select pg_database_size(%s)", (source,)).fetchone()
            strategy = "file_copy" if size and size[0] > _LARGE else "wal_log"
            statement += sql.SQL(" template {} strategy {}").format(sql.Identifier(source), sql.Identifier(strategy))
        self._admin.execute(statement)
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def uri(parameters: Mapping[str, object]) -> str:
    """A DSN made from libpq's parameters."""
    rest = {name: value for name, value in parameters.items() if name not in {"user", "password", "dbname"}}
    user, password = (quote(str(parameters.get(name) or ""), safe="") for name in ("user", "password"))
    login = f"{user}{f':{password}' if password else ''}@" if user else ""
    return f"postgresql://{login}/{quote(str(parameters.get('dbname') or ''), safe='')}?{urlencode(rest)}"


def without_password(dsn: str) -> str:
    """A DSN that may be printed."""
    return uri({name: value for name, value in conninfo_to_dict(dsn).items() if name != "password"})
