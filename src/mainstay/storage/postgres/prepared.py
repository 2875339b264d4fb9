"""Prepared scripts: statements of ours that go to the server together, are answered together, and are planned once.

Promise: one round trip. An error ends the script: what follows it has not happened, be it a COMMIT. The statements are
prepared on the server, by the connection's own settings: with ``prepare_threshold`` None, as behind a pooler that knows
no prepared statements, they are sent as text (`mainstay.storage.postgres.scripts`). Nobody else is let in between two.

A statement that psycopg has prepared may be gone at any time: it forgets them all after a rollback, and the oldest when
there are many. So ours are kept where it keeps its own (`psycopg._preparing`), and are prepared again in the same round
trip. To run one that is gone would cost a handler its transaction. That is what DEALLOCATE by hand does, to psycopg's
own as to ours: it goes with ``prepare_threshold`` None only.

How it fails. A connection that breaks raises; whether a COMMIT in the script happened is unknown. Who is
canceled waits for the end of the script, see `mainstay.storage.postgres.reading`.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, PipelineStatus
from psycopg.pq.abc import PGresult

from mainstay.storage.postgres.database import Connection
from mainstay.storage.postgres.scripts import UTF8, run_statements

Values: TypeAlias = Mapping[str, bytes | None]
"""Of a script's parameters, by name; in UTF-8."""
_Steps: TypeAlias = PQGen[list[PGresult]]

_PARAMETER = re.compile(r"%\((\w+)\)s")
_FEWEST = 20
"""A connection that keeps fewer prepared statements than this has no room for ours."""


class _Statement:
    """One statement, as psycopg's manager of prepared statements asks for it."""

    __slots__ = ("names", "query", "types")

    def __init__(self, text: str) -> None:
        self.names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(self.names, 1)}
        self.query = _PARAMETER.sub(lambda found: numbers[found[1]], text).encode()
        self.types: tuple[int, ...] = ()


class PreparedScript:
    """Statements to run together.

    Args:
        text: As it stands in a file of queries: with ``%(name)s`` for each parameter, and a line for each end of a
            statement.
    """

    __slots__ = ("statements", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.statements = [_Statement(part) for part in text.split(";\n")]

    async def run(self, conn: Connection, values: Values) -> Sequence[PGresult]:
        """Run it; what each statement answered.

        Args:
            conn: Not in a pipeline.
            values: Of all parameters.

        Raises:
            psycopg.Error: Of the first statement that failed.
        """
        if not keeps_statements(conn):
            return await run_statements(conn, self.text, values)
        results, _ = await self._run(conn, values)
        return results

    async def run_before(
        self, conn: Connection, values: Values, last: "PreparedScript", its_values: Values
    ) -> tuple[Sequence[PGresult], PGresult | None]:
        """Run it, and one statement more in the same round trip, which comes last and may fail.

        Args:
            conn: As for `run`; it keeps prepared statements.
            values: Of all parameters of this one.
            last: The statement.
            its_values: Of the last one's parameters.

        Returns:
            As `run`, and what the last one answered; None if it failed, which leaves a transaction that has failed.

        Raises:
            psycopg.Error: Of the first statement of this one that failed.
        """
        results, further = await self._run(conn, values, (last, its_values))
        return results, further[0] if further[0].status == ExecStatus.TUPLES_OK else None

    async def _run(
        self, conn: Connection, values: Values, *further: "tuple[PreparedScript, Values]"
    ) -> tuple[Sequence[PGresult], Sequence[PGresult]]:
        """What its statements answered, and what those of other scripts did."""
        steps = [(self, values), *further]
        asked = [(statement, given) for script, given in steps for statement in script.statements]
        async with conn.lock:
            results = await conn.wait(_prepared(conn, asked))
        answers = results[-len(asked) :]
        mine = len(self.statements)
        for result in (*results[: -len(asked)], *answers[:mine]):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=conn.info.encoding)
        return answers[:mine], answers[mine:]


def keeps_statements(conn: Connection) -> bool:
    """Whether a connection may prepare statements, and has room for ours."""
    most = conn.prepared_max
    return conn.prepare_threshold is not None and (most is None or most >= _FEWEST)


def _prepared(conn: Connection, asked: Sequence[tuple[_Statement, Values]]) -> _Steps:
    pgconn, manager = conn.pgconn, conn._prepared  # noqa: SLF001 - to be forgotten when it forgets; see above
    found = [manager.get(statement, True) for statement, _ in asked]  # type: ignore[arg-type]  # all it reads
    missing: list[tuple[_Statement, Any, bytes]] = []
    if any(prepare.name != "YES" for prepare, _ in found):
        for (statement, _), (prepare, name) in zip(asked, found, strict=True):
            manager.maybe_add_to_cache(statement, prepare, name)  # type: ignore[arg-type]  # as above
            if prepare.name != "YES":
                missing.append((statement, prepare, name))
    pgconn.enter_pipeline_mode()
    try:
        for statement, _, name in missing:
            pgconn.send_prepare(name, statement.query)
        for (statement, values), (_, name) in zip(asked, found, strict=True):
            pgconn.send_query_prepared(name, [_encoded(conn, values[each]) for each in statement.names])
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        results: list[PGresult] = []
        while len(results) < len(missing) + len(found):
            results += yield from generators.fetch_many(pgconn)
        yield from generators.fetch_many(pgconn)  # that of the sync
    finally:
        if pgconn.pipeline_status != PipelineStatus.OFF:
            with suppress(psycopg.Error):  # the connection is lost
                pgconn.exit_pipeline_mode()
    for (statement, prepare, _), result in zip(missing, results, strict=False):
        manager.validate((statement.query, statement.types), prepare, b"", [result])
    return results


def _encoded(conn: Connection, value: bytes | None) -> bytes | None:
    """A value in the connection's encoding."""
    if value is None or value.isascii() or (encoding := conn.info.encoding) == UTF8:
        return value
    return value.decode().encode(encoding)


def encoded(values: Mapping[str, Any]) -> Values:
    """What a script takes: texts and whole numbers in UTF-8."""
    return {name: None if value is None else str(value).encode() for name, value in values.items()}


def rows_from(conn: Connection, result: PGresult) -> list[tuple[Any, ...]]:
    """The rows that a statement of a script answered.

    Args:
        conn: On which it was run.
        result: What it answered.
    """
    loader = Transformer.from_context(conn)
    loader.set_pgresult(result)
    return list(loader.load_rows(0, result.ntuples, tuple))


def first_answer(results: Sequence[PGresult]) -> bytes | None:
    """The value that the only statement of a script with rows answered."""
    return next(result.get_value(0, 0) for result in results if result.status == ExecStatus.TUPLES_OK)
