"""Sending: which way commands take into the database.

Most are plain: they wait for no time and no turn, have no unique key, count in no batch and ask for no reply. One that
is sent alone takes ``commandbus.send_one``, several of one domain ``commandbus.send_many``: statements for what plain
commands have. Everything else takes ``commandbus.send``, and so do several of which one is known already: it says what
came of each. What a command leaves in the database is the same on each way.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

from mainstay.commands.command import SendResult
from mainstay.commands.store import Answer, NewCommand, Refusal, WouldWaitError
from mainstay.errors import QueueNotFoundError
from mainstay.storage.postgres.command_rows import (
    answer_from,
    commands_document,
    is_plain,
    numbers_from,
    plain_document,
    plain_fields,
    send_rows,
)
from mainstay.storage.postgres.database import judged
from mainstay.storage.postgres.passing import PassedConnection
from mainstay.storage.postgres.scripts import run_statements
from mainstay.storage.query_files import QueryFile


class PostgresSending:
    """The part of the store that sends."""

    _sql: QueryFile
    _queues: set[str]
    _sending: PassedConnection
    _run: Callable[[Any, str, dict[str, Any]], Awaitable[list[tuple[Any, ...]]]]
    wake: Callable[[Sequence[str]], Awaitable[int]]

    async def send(
        self, commands: Sequence[NewCommand], *, atomic: bool = False, patient: bool = True, conn: Any = None
    ) -> list[Answer]:
        """Put commands in; one round trip, which also wakes workers, unless it may have to wait for somebody."""
        if not commands:
            return []
        first = commands[0]
        domains = {command.domain for command in commands}
        is_own = conn is None and len(domains) == 1 and (atomic or not patient)
        if is_own and all(map(is_plain, commands)):
            known = await self._send_plain(commands, patient=patient, alone=not atomic)
            if known is not None:
                return known
        query = "send_all" if atomic else "send"
        document = commands_document(commands)
        if is_own:
            parameters = {"commands": document, "domain": first.domain, "count": len(commands)}
            rows = list(send_rows(await self._run_script(query + "_and_wake", parameters)))
        else:
            rows = await self._run(conn, query, {"commands": document})
            if conn is None:
                await self.wake([command.domain for command in commands])
        return self._send_answers(commands, rows)

    async def _send_plain(self, commands: Sequence[NewCommand], *, patient: bool, alone: bool) -> list[Answer] | None:
        """Put plain commands of one domain in; None if an id is known: none is in then, and it is to be asked which."""
        first, *others = commands
        try:
            if alone and not others:
                answer = await self._run_script("send_one", plain_fields(first))
                msg_id = answer.get_value(0, 0)
                return [Refusal.DUPLICATE if msg_id is None else SendResult(first.command_id, int(msg_id))]
            parameters = {
                "domain": first.domain,
                "commands": plain_document(commands),
                "patient": patient,
                "count": len(commands),
            }
            answer = await self._run_script("send_many_and_wake", parameters)
        except QueueNotFoundError:
            self._queues.discard(first.domain)
            return [Refusal.QUEUE_NOT_FOUND] * len(commands)
        msg_ids = numbers_from(answer.get_value(0, 0))
        if msg_ids is None:
            return None
        return [SendResult(each.command_id, msg_id) for each, msg_id in zip(commands, msg_ids, strict=True)]

    async def _run_script(self, query: str, parameters: Mapping[str, Any]) -> PGresult:
        """Run a script that begins and ends its own transactions; the answer to its first question."""
        script = self._sql[query]
        try:
            results = await self._sending.run(lambda conn: run_statements(conn, script, parameters))
        except psycopg.errors.LockNotAvailable as error:
            raise WouldWaitError from error
        except psycopg.Error as error:
            raise judged(error) from error
        return next(result for result in results if result.status == psycopg.pq.ExecStatus.TUPLES_OK)

    def _send_answers(self, commands: Sequence[NewCommand], rows: Iterable[tuple[Any, ...]]) -> list[Answer]:
        """Match rows to commands; a command without a row, or the second of one id, is a duplicate."""
        said: dict[str, tuple[Any, ...]] = {}
        for domain, command_id, msg_id, refusal, holder_id in rows:
            said[domain + command_id] = msg_id, refusal, holder_id
            if refusal == Refusal.QUEUE_NOT_FOUND:
                self._queues.discard(domain)
        return [answer_from(each.command_id, said.pop(each.domain + str(each.command_id), None)) for each in commands]
