"""What the bank shows: made of events, and made again whenever somebody likes.

Two projections, kept in two ways. What each writes and how far it has come are one COMMIT, so every event counts once.
"""

from typing import Any

from examples.bank.domain import AccountClosed, AccountOpened, MoneyDeposited, MoneyRefunded, MoneyWithdrawn
from mainstay import DatabaseProjection, ReadModel, ReadModelProjection, ReadModelRepository, handles


class AccountRow(ReadModel):
    """A line of the list of accounts. The fields make its table, and are what it is asked by."""

    __table_name__ = "bank_accounts"

    owner: str = ""
    balance: int = 0
    is_closed: bool = False


class Accounts(ReadModelProjection[AccountRow]):
    """A read model, for which nobody writes SQL."""

    name = "bank-accounts"

    @handles(AccountOpened)
    async def opened(self, event: AccountOpened, rows: ReadModelRepository[AccountRow]) -> None:
        await rows.save(AccountRow(id=event.aggregate_id, owner=event.owner))

    @handles(MoneyDeposited, MoneyRefunded, MoneyWithdrawn)
    async def moved(self, event: Any, rows: ReadModelRepository[AccountRow]) -> None:
        row = await rows.get(event.aggregate_id) or AccountRow(id=event.aggregate_id)
        row.balance += -event.amount if isinstance(event, MoneyWithdrawn) else event.amount
        await rows.save(row)

    @handles(AccountClosed)
    async def closed(self, event: AccountClosed, rows: ReadModelRepository[AccountRow]) -> None:
        row = await rows.get(event.aggregate_id) or AccountRow(id=event.aggregate_id)
        row.is_closed = True
        await rows.save(row)


TABLES = """
    create table if not exists bank_ledger (
        account text, version integer, contra text not null, amount bigint not null, what text not null,
        transfer_id uuid, booked_at timestamptz not null, primary key (account, version)
    )"""
STATEMENT = """
    select version, booked_at, what, amount, (sum(amount) over (order by version))::bigint as balance, transfer_id
      from bank_ledger where account = %s order by version"""
BOOKS = """
    select coalesce(sum(amount), 0)::bigint as on_accounts,
           -coalesce(sum(amount) filter (where contra = 'under way'), 0)::bigint as under_way,
           coalesce(sum(amount) filter (where contra = 'cash'), 0)::bigint as paid_in
      from bank_ledger"""


class Ledger(DatabaseProjection):
    """SQL of our own: each movement of an account, and where the money came from or went to.

    That is the cash desk, or what is under way between two accounts.
    """

    name = "bank-ledger"
    tables = ("bank_ledger",)

    @handles(MoneyDeposited)
    async def deposited(self, event: MoneyDeposited, conn: Any) -> None:
        await self._book(conn, event, event.amount, "transfer received" if event.transfer_id else "paid in")

    @handles(MoneyWithdrawn)
    async def withdrawn(self, event: MoneyWithdrawn, conn: Any) -> None:
        await self._book(conn, event, -event.amount, "transfer sent" if event.transfer_id else "paid out")

    @handles(MoneyRefunded)
    async def refunded(self, event: MoneyRefunded, conn: Any) -> None:
        await self._book(conn, event, event.amount, "transfer refunded")

    async def _book(self, conn: Any, event: Any, amount: int, what: str) -> None:
        contra = "under way" if event.transfer_id else "cash"
        await conn.execute(
            f"insert into {self.table('bank_ledger')} values (%s, %s, %s, %s, %s, %s, %s)",  # noqa: S608  # a name
            (event.aggregate_id, event.aggregate_version, contra, amount, what, event.transfer_id, event.occurred_at),
        )
