"""The bank of examples/bank: its story, told to the end, killed and told again; and its interface."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from examples.bank.bank import Bank, handlers, open_bank
from examples.bank.domain import (
    LARGE,
    Account,
    AccountClosed,
    AccountOpened,
    Deposit,
    MoneyDeposited,
    MoneyRefunded,
    OpenAccount,
    Refund,
    ReportCash,
    State,
    Withdraw,
)
from examples.bank.transfers import Transfer, TransferState
from examples.bank.web import web
from mainstay import (
    AggregateRepository,
    BusinessRuleException,
    CommandBus,
    PostgreSQLEventStore,
    ProcessManager,
    ProcessStatus,
    StepReply,
    StepStatus,
    Worker,
)
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.testing.scenario import given
from tests.support.cli import read_until
from tests.support.waiting import eventually, eventually_sync

ROOT = Path(__file__).resolve().parents[2]
PAYMENTS = 24
ENDING = [
    f"payday: {PAYMENTS} of {PAYMENTS} transfers at once are COMPLETED",
    "13,500.00 were paid in, 13,500.00 are on accounts, 0.00 under way.",
]


def told(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.bank", "--payments", str(PAYMENTS), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
    )


# -- the story ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_story_is_told_and_served_on_a_server_of_its_own_and_leaves_nothing(server_directory: Path) -> None:
    data = server_directory / "data"
    process = told("--serve", "--port", "0", env={"MAINSTAY_DATA_DIR": str(data)})
    try:
        lines = [line.rstrip("\n") for line in read_until(process, lambda line: "Uvicorn running on" in line)]
        address = re.search(r"http://127.0.0.1:\d+", lines[-1])
        assert address, lines
        balances = {row["id"]: row["balance"] for row in httpx.get(f"{address.group()}/accounts").json()}
        process.terminate()
        rest, _ = process.communicate()
    finally:
        process.kill()
        process.wait()

    assert [line for line in lines if line in ENDING] == ENDING
    assert sum(balances.values()) == 13_500_00
    assert process.returncode == 0, rest
    with EmbeddedServer(data) as server, psycopg.connect(server.dsn("postgres")) as conn:
        assert conn.execute("select datname from pg_database where datname like 'bank%'").fetchall() == []


@pytest.mark.thorough
def test_a_story_that_is_killed_in_the_midst_of_transfers_goes_on_and_ends_the_same(empty_dsn: str) -> None:
    with told("--dsn", empty_dsn) as process, psycopg.connect(empty_dsn, autocommit=True) as conn:
        try:
            eventually_sync(lambda: completed(conn) >= 2)
        finally:
            process.send_signal(signal.SIGKILL)
            said, _ = process.communicate()

        assert completed(conn) < PAYMENTS, "it was killed too late to show anything"
        assert impossible(conn) == []

    again, _ = (process := told("--dsn", empty_dsn)).communicate()

    assert process.returncode == 0, again
    assert again.startswith(said)
    assert [line for line in again.splitlines() if line in ENDING] == ENDING


def completed(conn: psycopg.Connection[Any]) -> int:
    """How many transfers of payday have ended."""
    found = conn.execute("select to_regclass('commandbus.process')").fetchone()
    if found == (None,):
        return 0
    row = conn.execute("select count(*) from commandbus.process where status = 'COMPLETED'").fetchone()
    return row[0] - 1 if row else 0


def impossible(conn: psycopg.Connection[Any]) -> list[Any]:
    """Transfers whose money was taken twice, or brought twice, or brought and not taken."""
    query = """
        select payload->>'transfer_id', array_agg(event_type order by position) as moves
          from eventsource.event join eventsource.kind using (kind_no)
         where payload->>'transfer_id' is not null
         group by 1"""
    possible = [
        ["bank.MoneyWithdrawn"],
        ["bank.MoneyWithdrawn", "bank.MoneyDeposited"],
        ["bank.MoneyWithdrawn", "bank.MoneyRefunded"],
    ]
    found = conn.execute(query).fetchall()
    assert found
    return [row for row in found if row[1] not in possible]


# -- the interface -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def bank(dsn: str) -> AsyncIterator[Bank]:
    async with open_bank(dsn) as opened:
        yield opened


@pytest.fixture
async def client(bank: Bank) -> AsyncIterator[httpx.AsyncClient]:
    web.state.bank = bank
    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://bank") as opened:
        yield opened


async def opened(client: httpx.AsyncClient, account: str, cents: int = 0) -> dict[str, str]:
    """Open an account, and say which header shows what is on it."""
    answer = await client.post("/accounts", json={"account_id": account, "owner": account.title()})
    assert answer.status_code == 201, answer.text
    if cents:
        answer = await client.post(f"/accounts/{account}/deposits", json={"amount": cents})
        assert answer.status_code == 201, answer.text
    return {"Mainstay-Position": answer.headers["Mainstay-Position"]}


async def test_what_was_written_can_be_read_with_the_position_of_the_answer(client: httpx.AsyncClient) -> None:
    for cents in range(1, 10):
        seen = await opened(client, f"account-{cents}", cents)

        shown = await client.get(f"/accounts/account-{cents}", headers=seen)
        statement = await client.get(f"/accounts/account-{cents}/statement", headers=seen)

        assert shown.json()["balance"] == cents
        lines = [(line["what"], line["amount"], line["balance"]) for line in statement.json()]
        assert lines == [("paid in", cents, cents)]


async def test_a_request_that_is_sent_again_does_nothing_twice_and_gets_the_first_answer(
    client: httpx.AsyncClient,
) -> None:
    await opened(client, "ann", 100)
    key = {"Idempotency-Key": str(uuid4())}

    first, again = [await client.post("/accounts/ann/withdrawals", json={"amount": 70}, headers=key) for _ in "ab"]
    other = await client.post("/accounts/ann/withdrawals", json={"amount": 30}, headers=key)

    assert (first.status_code, first.json()["version"]) == (201, 3)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (other.status_code, other.json()["code"]) == (422, "KEY_USED")
    seen = {"Mainstay-Position": again.headers["Mainstay-Position"]}
    assert (await client.get("/accounts/ann", headers=seen)).json()["balance"] == 30


async def test_a_refusal_is_a_conflict_with_a_code_and_what_is_not_there_is_not_found(
    client: httpx.AsyncClient,
) -> None:
    await opened(client, "ann", 100)

    too_much = await client.post("/accounts/ann/withdrawals", json={"amount": 101})
    again = await client.post("/accounts", json={"account_id": "ann", "owner": "Ann"})
    unknown = await client.post("/accounts/nobody/deposits", json={"amount": 1})
    absent = [await client.get(f"{path}") for path in ("/accounts/nobody", "/accounts/nobody/statement")]
    absent += [await client.get(f"/transfers/{uuid4()}")]
    wrong = [await client.post("/accounts/ann/deposits", json={"amount": each}) for each in (0, -1, 1.5, "x", 10**13)]
    wrong += [await client.post("/accounts", json={"account_id": "A/b", "owner": ""})]
    wrong += [await client.post("/accounts", json={"account_id": "bob", "owner": "B\0b"})]
    json = {"content-type": "application/json"}
    wrong += [
        await client.post("/accounts/ann/deposits", content=f'{{"amount": {each}}}', headers=json)
        for each in ("1e400", "-1e400", "NaN")
    ]

    assert too_much.status_code == 409
    assert too_much.json() == {"code": "NOT_ENOUGH_MONEY", "detail": "101 wanted, 100 there"}
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_OPENED")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_ACCOUNT")
    assert [answer.status_code for answer in absent] == [404, 404, 404]
    assert wrong[0].json()["detail"][0]["msg"] == "Input should be greater than 0"
    assert [answer.status_code for answer in wrong] == [422] * 10


async def test_a_transfer_to_a_closed_account_is_given_back(client: httpx.AsyncClient, bank: Bank) -> None:
    await opened(client, "ann", 100)
    await opened(client, "dan")
    assert (await client.post("/accounts/ann/closing")).json()["code"] == "NOT_EMPTY"
    assert (await client.post("/accounts/dan/closing")).status_code == 201
    key = {"Idempotency-Key": str(uuid4())}
    wanted = {"source": "ann", "target": "dan", "amount": 40}

    begun, again = [await client.post("/transfers", json=wanted, headers=key) for _ in "ab"]
    other = await client.post("/transfers", json=wanted | {"amount": 41}, headers=key)
    await bank.app.processes.wait_for(UUID(begun.json()["transfer_id"]))
    ended = (await client.get(begun.headers["Location"])).json()

    assert (begun.status_code, again.status_code, begun.json()) == (202, 202, again.json())
    assert (other.status_code, other.json()["code"]) == (422, "KEY_USED")
    assert (ended["status"], ended["error_code"]) == ("COMPENSATED", "ACCOUNT_CLOSED")
    assert [step["step"] for step in ended["steps"]] == ["Withdraw", "Deposit", "Refund"]
    seen = {"Mainstay-Position": str((await PostgreSQLEventStore(bank.app.pool).horizon()).position)}
    lines = (await client.get("/accounts/ann/statement", headers=seen)).json()
    assert [(each["what"], each["balance"]) for each in lines] == [
        ("paid in", 100),
        ("transfer sent", 60),
        ("transfer refunded", 100),
    ]
    rows = (await client.get("/accounts")).json()
    assert [(row["id"], row["balance"], row["is_closed"]) for row in rows] == [("ann", 100, False), ("dan", 0, True)]


# -- the account -------------------------------------------------------------------------------------------------------


def test_a_closed_account_takes_a_refund_and_nothing_else() -> None:
    closed = given(Account, AccountOpened(owner="Dan"), AccountClosed())
    transfer = uuid4()

    closed.when(Refund(account_id="dan", amount=5, transfer_id=transfer)).then(
        MoneyRefunded(amount=5, transfer_id=transfer)
    ).then_state(State("closed", 5))
    for command in (Deposit(account_id="dan", amount=5), Withdraw(account_id="dan", amount=5)):
        closed.when(command).then_refused(BusinessRuleException, "closed")


def test_large_sums_in_cash_are_reported_and_transfers_are_not() -> None:
    ann = given(Account, AccountOpened(owner="Ann"))

    ann.when(Deposit(account_id="ann", amount=LARGE - 1)).then(MoneyDeposited).then_sent()
    ann.when(Deposit(account_id="ann", amount=LARGE)).then_sent(ReportCash(account_id="ann", amount=LARGE))
    ann.when(Deposit(account_id="ann", amount=LARGE, transfer_id=uuid4())).then(MoneyDeposited).then_sent()


# -- late, and canceled ------------------------------------------------------------------------------------------------


async def test_money_that_is_taken_too_late_is_given_back(pool: Any) -> None:
    registry = handlers(impatient := Transfer(timedelta(milliseconds=10)))
    bus, processes = CommandBus(pool), ProcessManager(pool)
    tellers, movers = Worker(pool, "accounts", registry), Worker(pool, "transfers", registry)
    state = TransferState(transfer_id=uuid4(), source="ann", target="ben", amount=40)

    async def given_back() -> bool:
        known = await processes.get(state.transfer_id)
        return known is not None and [step.status for step in known.steps] == [StepStatus.SUCCESS] * 2

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(movers.run(poll_interval=0.1))
        await processes.start(impatient, state, process_id=state.transfer_id)
        late = await processes.wait_for(state.transfer_id)
        await bus.send(OpenAccount(account_id="ann", owner="Ann"), priority=9)
        await bus.send(Deposit(account_id="ann", amount=100), priority=9)
        tasks.create_task(tellers.run(concurrency=1))
        await eventually(given_back)
        await tellers.stop()
        await movers.stop()
    await bus.close()

    assert (late.status, late.error_code) == (ProcessStatus.COMPENSATED, "DEADLINE")
    known = await processes.get(state.transfer_id)
    assert known is not None
    assert [step.name for step in known.steps] == ["Withdraw", "Refund"]
    assert known.status is ProcessStatus.COMPENSATED
    store = PostgreSQLEventStore(pool)
    account = await AggregateRepository(store, Account).load("ann")
    assert account.state.balance == 100


def test_what_was_brought_is_taken_back_when_a_transfer_is_canceled() -> None:
    state = TransferState(transfer_id=uuid4(), source="ann", target="ben", amount=40)

    undoing = Transfer().compensate(state, StepReply("Deposit", StepStatus.SUCCESS, {}))

    assert (undoing.command_type, undoing.data["account_id"]) == ("Withdraw", "ben")
