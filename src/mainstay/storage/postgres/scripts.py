"""Several statements as one text: one round trip, and libpq's answers read straight, at half of what a cursor costs.

A script is a named query whose parameters are written into it, so nothing is prepared and it works behind any pooler.
An error ends it: the statements after it are not run.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import generators, pq, sql
from psycopg.abc import PQGen
from psycopg.pq.abc import PGresult

from mainstay.storage.postgres.database import Connection

UTF8 = "utf-8"


async def run_statements(
    conn: Connection, script: LiteralString, parameters: Mapping[str, UUID | int | str | bytes | None]
) -> Sequence[PGresult]:
    """Run a script; the answer of each of its statements, as libpq has it.

    Args:
        conn: Nobody else may begin to use it meanwhile.
        script: With ``%(name)s`` for each parameter.
        parameters: UUIDs, whole numbers, truth values, texts, texts in UTF-8 and None.

    Raises:
        psycopg.Error: A statement failed, or the connection broke.
    """
    written = {name.encode(): _written(conn, value) for name, value in parameters.items()}
    results: Sequence[PGresult]
    async with conn.lock:
        results = await conn.wait(_run(conn, script.encode() % written))
    return results


def _run(conn: Connection, script: bytes) -> PQGen[list[PGresult]]:
    conn.pgconn.send_query(script)
    results: list[PGresult] = yield from generators.execute(conn.pgconn)
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result, encoding=conn.info.encoding)
    return results


def _written(conn: Connection, value: UUID | int | str | bytes | None) -> bytes:
    """A value as SQL."""
    if value is None:
        return b"null"
    if isinstance(value, UUID):
        return f"'{value.hex}'".encode()
    if isinstance(value, int):
        return str(value).encode()
    if conn.info.encoding == UTF8:
        text = value.encode() if isinstance(value, str) else value
        if b"'" not in text and b"\\" not in text:
            return b"'%b'" % text
        return bytes(pq.Escaping(conn.pgconn).escape_literal(text))
    return sql.Literal(value.decode() if isinstance(value, bytes) else value).as_bytes(conn)
