"""Is there a pooler between, and what does it do to sessions?

A pooler invents the process id that it tells a client when it connects; a server's own differs. In transaction mode it
gives a server process back after each transaction, so two clients that are both connected are answered by one process,
or one of them by several. They ask in changing order: a pooler that takes its processes in turn
(``server_round_robin``) would else give each client its own, as in session mode.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg

from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, fetch_value
from mainstay.storage.postgres.doctor.check import Check, fault, ok, warning

_CLIENTS = 2
_ROUNDS = 5
_NAME = "pooler"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How connections of this pool behave.

    Args:
        is_pooled: Something between answers for the server.
        shares: Open connections take turns with server processes: transaction or statement mode.
        takes_transactions: A transaction of several statements is possible.
        prepares: Connections of this pool prepare statements that they repeat.
    """

    is_pooled: bool
    shares: bool
    takes_transactions: bool
    prepares: bool


async def observe(pool: Pool) -> Behaviour:
    """Connect twice, as the pool does, and look who answers."""
    question = queries.load("doctor")["server_process"]
    async with pool.connection() as conn:
        prepares = conn.prepare_threshold is not None
    conninfo, options = pool.conninfo, dict(pool.kwargs or {}) if not callable(pool.kwargs) else {}
    if callable(conninfo):
        conninfo = ""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(_CLIENTS):
            arguments = options | {"autocommit": True, "prepare_threshold": None}
            client = await psycopg.AsyncConnection.connect(str(conninfo), **arguments)
            stack.push_async_callback(client.close)
            clients.append(client)
        seen: list[set[int]] = [set() for _ in clients]
        in_turn = list(zip(clients, seen, strict=True))
        for _ in range(_ROUNDS):
            in_turn.reverse()
            for client, pids in in_turn:
                pids.add(int(await fetch_value(client, question)))
        is_pooled = any(pids != {client.info.backend_pid} for client, pids in zip(clients, seen, strict=True))
        takes_transactions = True
        if is_pooled:
            try:
                async with clients[0].transaction():
                    await fetch_value(clients[0], question)
            except psycopg.Error:
                takes_transactions = False
    shares = bool(set.intersection(*seen)) or any(len(pids) > 1 for pids in seen)
    return Behaviour(is_pooled, shares, takes_transactions, prepares)


def pooler(seen: Behaviour) -> Iterator[Check]:
    """What is between lets transactions and prepared statements be."""
    if not seen.is_pooled:
        yield ok(_NAME, "Connections go straight to the server.")
    elif not seen.takes_transactions:
        yield fault(
            _NAME,
            "A pooler in statement mode is between: it refuses transactions.",
            "Set `pool_mode = transaction` for this database in pgbouncer.ini, and reload it.",
        )
    elif not seen.shares:
        yield ok(_NAME, "A pooler in session mode is between: connections behave as without it.")
    elif seen.prepares:
        yield warning(
            _NAME,
            "A pooler in transaction mode is between, and this pool prepares statements on connections that change.",
            'Open the pool with kwargs={"prepare_threshold": None}; give workers use_notify=False, or '
            "`mainstay worker --pgbouncer`: LISTEN is not heard through it.",
        )
    else:
        yield ok(
            _NAME,
            "A pooler in transaction mode is between, and this pool prepares nothing; workers need use_notify=False "
            "(`mainstay worker --pgbouncer`), because LISTEN is not heard through it.",
        )
