"""Commands that wait for an operator, without a worker."""

from typing import Any
from uuid import UUID, uuid4

from mainstay import SendRequest
from mainstay.commands.store import Verb
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.commands import command_store
from mainstay.testing.contracts.commands.base import saying

TROUBLE = """
select commandbus.complete('shop', (
    select jsonb_agg(jsonb_build_object('command_id', r.command_id, 'msg_id', r.msg_id, 'lease_no', r.lease_no,
        'verb', 'TROUBLESHOOT', 'error_type', 'PERMANENT', 'error_code', 'BROKEN', 'error_message', 'on purpose'))
    from commandbus.receive('shop', 1, 60, 'nobody') as r))
"""
"""Receives one command of the domain shop, and says that it is broken."""


async def troubled(operator: Operator, count: int, data: dict[str, Any] | None = None, **names: str) -> list[UUID]:
    """Send so many commands, and let them fail alike.

    Args:
        operator: Sends them.
        count: How many; the queue is empty before.
        data: Their payload; else each its number.
        names: `domain`, `command_type` and `error_code`, if others than usual.
    """
    domain, kind = names.get("domain", "shop"), names.get("command_type", "Bad")
    ids = [uuid4() for _ in range(count)]
    await operator.send([SendRequest(domain, kind, key, data or {"n": n}) for n, key in enumerate(ids)])
    store = command_store(operator.pool)
    while received := await store.receive(domain, limit=500, lease_seconds=60, worker="w1"):
        said = {"error_code": names.get("error_code", "BROKEN"), "error_message": "it is broken"}
        await store.complete(domain, [saying(each, Verb.TROUBLESHOOT, **said) for each in received])
    return ids
