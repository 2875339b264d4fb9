"""The bank's interface: what is wanted goes in as commands, what is shown comes from the views.

A client may give a POST an ``Idempotency-Key``, a UUID: it becomes the id of the command, so the same request, sent
again after whatever went wrong, does nothing twice and gets the first one's answer. The answer says in the header
``Mainstay-Position`` how far the views must have come to show it; a request that carries it waits until they have.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg.rows import dict_row

from examples.bank.bank import Bank, open_bank
from examples.bank.domain import AccountId, Cents, CloseAccount, Deposit, OpenAccount, Withdraw
from examples.bank.transfers import TransferRequest, TransferState, order
from examples.bank.views import STATEMENT, AccountRow, Accounts, Ledger
from mainstay import (
    CommandFailedError,
    CommandModel,
    DuplicateCommandError,
    DuplicateProcessError,
    InvalidPayloadError,
    ProcessMetadata,
    ReadModelQuery,
    ReadYourWrites,
    StorageUnavailableError,
)

Amount = Annotated[Cents, Body(embed=True)]


@asynccontextmanager
async def open_while_served(web: FastAPI) -> AsyncIterator[None]:
    async with open_bank(os.environ["DATABASE_URL"]) as web.state.bank:
        yield


web = FastAPI(title="A bank", lifespan=open_while_served)
web.add_middleware(ReadYourWrites, lambda: web.state.bank.app, projections=[Accounts.name, Ledger.name])


def the_bank(request: Request) -> Bank:
    bank: Bank = request.app.state.bank
    return bank


def key(idempotency_key: Annotated[UUID | None, Header()] = None) -> UUID:
    return idempotency_key or uuid4()


Wanted = Annotated[Bank, Depends(the_bank)]
Key = Annotated[UUID, Depends(key)]
Reply = dict[str, int]  # where the account's stream and the feed of all events are now


async def carry_out(bank: Bank, command: CommandModel, command_id: UUID) -> Reply:
    """Send a command, wait until it has ended, and say what came of it."""
    reply = await bank.app.bus.request(command, command_id=command_id, idempotent=True, timeout=10)
    done: Reply = reply.unwrap()
    return done


# -- what is wanted ----------------------------------------------------------------------------------------------------
@web.post("/accounts", status_code=201)
async def open_account(bank: Wanted, command: OpenAccount, key: Key) -> Reply:
    return await carry_out(bank, command, key)


@web.post("/accounts/{account_id}/deposits", status_code=201)
async def deposit(bank: Wanted, account_id: AccountId, amount: Amount, key: Key) -> Reply:
    return await carry_out(bank, Deposit(account_id=account_id, amount=amount), key)


@web.post("/accounts/{account_id}/withdrawals", status_code=201)
async def withdraw(bank: Wanted, account_id: AccountId, amount: Amount, key: Key) -> Reply:
    return await carry_out(bank, Withdraw(account_id=account_id, amount=amount), key)


@web.post("/accounts/{account_id}/closing", status_code=201)
async def close_account(bank: Wanted, account_id: AccountId, key: Key) -> Reply:
    return await carry_out(bank, CloseAccount(account_id=account_id), key)


@web.post("/transfers", status_code=202)
async def transfer(bank: Wanted, request: TransferRequest, key: Key, response: Response) -> dict[str, Any]:
    """Begin a transfer; how it goes on is told under its address."""
    state = TransferState(transfer_id=key, **request.model_dump())
    await order(bank.app, bank.transfer, state)
    response.headers["Location"] = f"/transfers/{key}"
    return {"transfer_id": key}


# -- what is shown -----------------------------------------------------------------------------------------------------
@web.get("/accounts")
async def accounts(bank: Wanted) -> list[dict[str, Any]]:
    return [shown(row) for row in await bank.views.read_models.of(AccountRow).find(ReadModelQuery(order_by="id"))]


@web.get("/accounts/{account_id}")
async def account(bank: Wanted, account_id: AccountId) -> dict[str, Any]:
    row = await bank.views.read_models.of(AccountRow).get(account_id)
    if row is None:
        raise HTTPException(404, f"there is no account {account_id!r}")
    return shown(row)


@web.get("/accounts/{account_id}/statement")
async def statement(bank: Wanted, account_id: AccountId) -> list[dict[str, Any]]:
    await account(bank, account_id)
    async with bank.app.pool.connection() as conn:
        cursor = await conn.cursor(row_factory=dict_row).execute(STATEMENT, (account_id,))
        rows: list[dict[str, Any]] = await cursor.fetchall()
    return rows


@web.get("/transfers/{transfer_id}")
async def transfer_status(bank: Wanted, transfer_id: UUID) -> dict[str, Any]:
    known = await bank.app.processes.get(transfer_id)
    if known is None:
        raise HTTPException(404, f"there is no transfer {transfer_id}")
    return told(known)


def shown(row: AccountRow) -> dict[str, Any]:
    return row.model_dump(include={"id", "owner", "balance", "is_closed"})


def told(process: ProcessMetadata) -> dict[str, Any]:
    steps = [{"step": step.name, "status": step.status, "error_code": step.error_code} for step in process.steps]
    return {**process.state, "status": process.status, "error_code": process.error_code, "steps": steps}


# -- what goes wrong ---------------------------------------------------------------------------------------------------
@web.exception_handler(CommandFailedError)
def refused(_: Request, error: CommandFailedError) -> Response:
    """The business said no, and why."""
    status = 404 if error.error_code == "UNKNOWN_ACCOUNT" else 409
    return JSONResponse({"code": error.error_code, "detail": error.error_message}, status)


@web.exception_handler(DuplicateCommandError)
@web.exception_handler(DuplicateProcessError)
def another_request(_: Request, __: Exception) -> Response:
    return JSONResponse({"code": "KEY_USED", "detail": "this Idempotency-Key was used for another request"}, 422)


@web.exception_handler(RequestValidationError)
def not_understood(_: Request, error: RequestValidationError) -> Response:
    """What is wrong, and where. What was sent is not repeated: 1e400 is a number that JSON cannot say back."""
    wrong = [{name: each[name] for name in ("loc", "msg", "type")} for each in error.errors()]
    return JSONResponse({"code": "INVALID", "detail": wrong}, 422)


@web.exception_handler(InvalidPayloadError)
def not_kept(_: Request, error: InvalidPayloadError) -> Response:
    """A text with characters that no database holds, such as NUL."""
    return JSONResponse({"code": "INVALID", "detail": str(error)}, 422)


@web.exception_handler(TimeoutError)
@web.exception_handler(StorageUnavailableError)
def not_yet(_: Request, error: Exception) -> Response:
    """Nothing is lost: who asks again, with the same Idempotency-Key, gets the answer."""
    return JSONResponse({"code": "NOT_YET", "detail": str(error)}, 503, headers={"Retry-After": "1"})
