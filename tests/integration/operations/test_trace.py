"""``mainstay trace``: the tree as people see it, and as programs do."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay import BatchCommand, PostgreSQLEventStore, SendRequest, StreamId
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.operations.operator import Operator
from tests.support.cli import run

CORRELATION = UUID("00000000-0000-4000-8000-00000000c0de")
TROUBLE = """
select commandbus.complete('shop', (
    select jsonb_agg(jsonb_build_object('command_id', r.command_id, 'msg_id', r.msg_id, 'lease_no', r.lease_no,
        'verb', 'TROUBLESHOOT', 'error_type', 'PERMANENT', 'error_code', 'BROKEN',
        'error_message', 'on [b]purpose[/b]'))
    from commandbus.receive('shop', 1, 60, 'nobody') as r))
"""


def request(command_type: str, cause: UUID | None = None) -> SendRequest:
    return SendRequest("shop", command_type, uuid4(), {}, correlation_id=CORRELATION, causation_id=cause)


@dataclass
class Order:
    """A command that waits for an operator; its event, with 30 commands below it, and a chain of 8 below the last."""

    root: UUID
    placed: UUID
    mails: list[UUID]
    chain: list[UUID]


@pytest.fixture
def order(dsn) -> Order:
    root = request("PlaceOrder")
    placed = NewEvent(
        uuid4(), "OrderPlaced", b"{}", datetime.now(UTC), correlation_id=CORRELATION, causation_id=root.command_id
    )
    mails = [request("SendMail", placed.event_id) for _ in range(30)]
    chain = [request("Ship", mails[-1].command_id)]
    for _ in range(7):
        chain.append(request("Ship", chain[-1].command_id))

    async def fill() -> None:
        async with Operator.connect(dsn) as operator:
            await operator.send([root])
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(TROUBLE)
            log = PostgreSQLEventStore(operator.pool).log
            await log.append([StreamAppend(StreamId("Order", uuid4()), (placed,))])
            await operator.send(mails)
            await operator.send(chain)

    asyncio.run(fill())
    return Order(root.command_id, placed.event_id, [e.command_id for e in mails], [e.command_id for e in chain])


def test_the_tree_says_what_led_to_what(dsn, order):
    shown = run("trace", order.root, "--dsn", dsn, COLUMNS="80")
    lines = shown.out.splitlines()

    assert shown.code == 0
    assert lines[0].startswith("PlaceOrder  shop  troubleshooting")
    assert lines[0].rstrip().endswith("<- asked for")
    assert str(order.root) in lines[1]
    assert lines[2] == "[BROKEN] on [b]purpose[/b]"
    assert "OrderPlaced  Order/" in shown.out
    assert max(len(line) for line in lines) <= 80
    said = " ".join(shown.err.split())
    assert said.startswith("39 commands, 1 event; ")
    assert said.endswith("from the first to the last; 1 waiting for an operator; 38 pending.")


def test_what_is_much_is_counted_and_what_is_asked_for_is_shown_all_the_same(dsn, order):
    wide = run("trace", order.root, "--dsn", dsn, "--below", 3)
    flat = run("trace", order.root, "--dsn", dsn, "--depth", 1)
    deep = run("trace", order.chain[-1], "--dsn", dsn, "--below", 1, "--depth", 1)
    few = run("trace", order.root, "--dsn", dsn, "--limit", 5)

    assert wide.out.count("SendMail") == 3
    assert "… 35 commands more" in wide.out
    assert flat.out.count("SendMail") == 0
    assert "… 38 commands more" in flat.out
    assert deep.out.count("Ship") == 8
    assert deep.out.count("SendMail") == 1
    assert str(order.chain[-1]) in deep.out
    assert "… 29 commands more" in deep.out
    assert "There is more than 5 commands or event: --limit reads more." not in few.err
    assert "There is more: --limit reads further than 5 commands and 5 events." in " ".join(few.err.split())


def test_programs_get_all_steps_in_the_order_of_the_tree(dsn, order):
    whole = run("trace", CORRELATION, "--dsn", dsn, "--json").json
    steps = whole["steps"]
    root, placed = steps[:2]

    assert (whole["asked"], whole["correlation_ids"], whole["more"]) == (str(CORRELATION), [str(CORRELATION)], False)
    assert [step["depth"] for step in steps] == [0, 1, *[2] * 30, *range(3, 11)] or sorted(
        step["depth"] for step in steps
    ) == [0, 1, *[2] * 30, *range(3, 11)]
    assert (root["kind"], root["type"], root["status"], root["attempts"]) == (
        "COMMAND",
        "PlaceOrder",
        "IN_TROUBLESHOOTING_QUEUE",
        1,
    )
    assert (root["error_code"], root["cause"], root["took_seconds"]) == ("BROKEN", None, None)
    assert root["waited_seconds"] >= 0
    assert (placed["kind"], placed["id"], placed["cause"]) == ("EVENT", str(order.placed), str(order.root))
    assert (placed["category"], placed["version"], placed["position"]) == ("Order", 1, 1)


def test_processes_and_batches_are_shown_with_what_they_sent(dsn):
    async def fill() -> UUID:
        async with Operator.connect(dsn) as operator:
            batch = await operator.bus.create_batch("shop", [BatchCommand("Bill", uuid4(), {})], name="the bills")
            return batch.batch_id

    batch_id = asyncio.run(fill())
    shown = run("trace", batch_id, "--dsn", dsn)

    assert shown.out.startswith("batch the bills  shop  pending  <- asked for")
    assert "Bill  shop  pending" in shown.out
    assert shown.err.startswith("1 command, 1 batch; ") or shown.err.startswith("1 batch, 1 command; ")


def test_what_nothing_is_called_is_an_error_that_says_so(dsn):
    unknown = run("trace", CORRELATION, "--dsn", dsn)
    as_json = run("trace", CORRELATION, "--dsn", dsn, "--json")
    wrong = run("trace", "order-7", "--dsn", dsn)

    assert (unknown.code, as_json.code, wrong.code) == (5, 5, 2)
    assert f"nothing here is called {CORRELATION}: no command, event, batch or process" in " ".join(unknown.err.split())
    assert as_json.json["error"]["type"] == "ConversationNotFoundError"
    assert "Invalid value for 'ID': it must be a UUID. See" in wrong.err
