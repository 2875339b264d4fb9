"""The account: what can be wanted of it, what happens to it, and what follows from what.

Nothing here knows a database or waits for anything. `Account` is three pure functions. mainstay reads the events, calls
`decide`, and appends and sends what comes out, in the one COMMIT that also completes the command and stores its reply.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field

from mainstay import BusinessRuleException, CommandModel, DeciderAggregate, DomainEvent

AccountId = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,39}$")]
Cents = Annotated[int, Field(gt=0, le=10**12)]


# -- what can be wanted ------------------------------------------------------------------------------------------------
class OpenAccount(CommandModel, domain="accounts"):
    account_id: AccountId
    owner: str


class Deposit(CommandModel, domain="accounts"):
    account_id: AccountId
    amount: Cents
    transfer_id: UUID | None = None  # None: in cash


class Withdraw(CommandModel, domain="accounts"):
    account_id: AccountId
    amount: Cents
    transfer_id: UUID | None = None


class Refund(CommandModel, domain="accounts"):
    account_id: AccountId
    amount: Cents
    transfer_id: UUID


class CloseAccount(CommandModel, domain="accounts"):
    account_id: AccountId


class ReportCash(CommandModel, domain="compliance"):
    account_id: AccountId
    amount: Cents


AccountCommand: TypeAlias = OpenAccount | Deposit | Withdraw | Refund | CloseAccount
LARGE = 10_000_00
"""Cents in cash, from which the law wants a report."""


# -- what happens ------------------------------------------------------------------------------------------------------
class AccountOpened(DomainEvent, event_type="bank.AccountOpened"):
    owner: str


class MoneyDeposited(DomainEvent, event_type="bank.MoneyDeposited"):
    amount: int
    transfer_id: UUID | None = None


class MoneyWithdrawn(DomainEvent, event_type="bank.MoneyWithdrawn"):
    amount: int
    transfer_id: UUID | None = None


class MoneyRefunded(DomainEvent, event_type="bank.MoneyRefunded"):
    amount: int
    transfer_id: UUID


class AccountClosed(DomainEvent, event_type="bank.AccountClosed"):
    pass


# -- what follows ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class State:
    status: Literal["unknown", "open", "closed"] = "unknown"
    balance: int = 0


class Account(DeciderAggregate[State, AccountCommand]):
    @staticmethod
    def initial_state() -> State:
        return State()

    @staticmethod
    def decide(account: State, command: AccountCommand) -> DomainEvent | list[DomainEvent | CommandModel]:
        match command:
            case OpenAccount() if account.status == "unknown":
                return AccountOpened(owner=command.owner)
            case OpenAccount():
                raise BusinessRuleException("ALREADY_OPENED", f"there is an account {command.account_id!r} already")
            case _ if account.status == "unknown":
                raise BusinessRuleException("UNKNOWN_ACCOUNT", f"there is no account {command.account_id!r}")
            case Refund():  # is never refused: it is the owner's money, also if the account was closed meanwhile
                return MoneyRefunded(amount=command.amount, transfer_id=command.transfer_id)
            case _ if account.status == "closed":
                raise BusinessRuleException("ACCOUNT_CLOSED", f"the account {command.account_id!r} is closed")
            case Deposit(transfer_id=None) if command.amount >= LARGE:  # an event, and the next command
                report = ReportCash(account_id=command.account_id, amount=command.amount)
                return [MoneyDeposited(amount=command.amount), report]
            case Deposit():
                return MoneyDeposited(amount=command.amount, transfer_id=command.transfer_id)
            case Withdraw() if command.amount > account.balance:
                raise BusinessRuleException("NOT_ENOUGH_MONEY", f"{command.amount} wanted, {account.balance} there")
            case Withdraw():
                return MoneyWithdrawn(amount=command.amount, transfer_id=command.transfer_id)
            case CloseAccount() if account.balance:
                raise BusinessRuleException("NOT_EMPTY", f"{account.balance} are left")
            case CloseAccount():
                return AccountClosed()

    @staticmethod
    def evolve(account: State, event: DomainEvent) -> State:
        match event:
            case AccountOpened():
                return State("open")
            case MoneyDeposited() | MoneyRefunded():
                return replace(account, balance=account.balance + event.amount)
            case MoneyWithdrawn():
                return replace(account, balance=account.balance - event.amount)
            case AccountClosed():
                return replace(account, status="closed")
            case _:
                return account
