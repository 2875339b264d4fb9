"""What happens at the bank, told by itself.

Everything here has an id that is derived from its name. So the story can be killed at any moment and told again from
the beginning: what was done is not done twice, what was under way goes on, and the end is the same.
"""

import asyncio
import sys
from decimal import Decimal
from uuid import NAMESPACE_URL, UUID, uuid5

from rich.console import Console
from rich.table import Table

from examples.bank.bank import Bank
from examples.bank.domain import CloseAccount, Deposit, OpenAccount, Withdraw
from examples.bank.transfers import TransferState, order
from examples.bank.views import BOOKS, AccountRow
from mainstay import CommandModel, PostgreSQLEventStore, ProcessStatus, ReadModelQuery

PEOPLE = {"ann": "Ann Archer", "ben": "Ben Baker", "cleo": "Cleo Carter", "dan": "Dan Dyer"}
console = Console()


def named(name: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"bank:{name}")


def money(cents: int) -> str:
    return f"{Decimal(cents) / 100:,.2f}"


class Story:
    """Tells what happens.

    Args:
        bank: Open.
        payments: How many transfers there are on payday.
    """

    def __init__(self, bank: Bank, payments: int = 60) -> None:
        self.bank = bank
        self.payments = payments

    async def tell(self) -> None:
        """Everything, from the beginning.

        Raises:
            SystemExit: The books are wrong.
        """
        console.rule("Accounts")
        for account, owner in PEOPLE.items():
            await self.say(f"{owner} opens an account", OpenAccount(account_id=account, owner=owner))
            await self.say(f"{account} pays in 500.00", Deposit(account_id=account, amount=500_00))
        await self.say("ben takes out 600.00", Withdraw(account_id="ben", amount=600_00))
        await self.say("dan takes out 500.00", Withdraw(account_id="dan", amount=500_00))
        await self.say("dan closes his account", CloseAccount(account_id="dan"))
        await self.say("cleo pays in 12,000.00", Deposit(account_id="cleo", amount=12_000_00))

        console.rule("Transfers")
        await self.transfer("rent", "ann", "ben", 120_00)
        await self.transfer("yacht", "cleo", "ann", 90_000_00)
        await self.transfer("present", "ann", "dan", 30_00)
        await self.follow("present")
        await self.payday()

        console.rule("Books")
        await self.show()

    async def say(self, what: str, command: CommandModel) -> None:
        """One command, and how it ended."""
        reply = await self.bank.app.bus.request(command, command_id=named(what), idempotent=True)
        ended = "done" if reply.error_code is None else f"refused: {reply.error_code}, {reply.error_message}"
        console.print(f"{what}: [bold]{ended}")

    async def start(self, name: str, source: str, target: str, amount: int) -> UUID:
        """Begin a transfer, or go on waiting for it if it was begun before."""
        state = TransferState(transfer_id=named(name), source=source, target=target, amount=amount)
        await order(self.bank.app, self.bank.transfer, state)
        return state.transfer_id

    async def transfer(self, name: str, source: str, target: str, amount: int) -> None:
        """One transfer, and its steps."""
        known = await self.bank.app.processes.wait_for(await self.start(name, source, target, amount))
        why = f" because of {known.error_code}" if known.error_code else ""
        console.print(f"{name}: {source} sends {target} {money(amount)}: [bold]{known.status}[/]{why}")
        for step in known.steps:
            console.print(f"  {step.name} {step.data['account_id']}: {step.error_code or step.status}")

    async def follow(self, name: str) -> None:
        """All that followed from one order: commands and events, each below what caused it."""
        for step in (await self.bank.app.trace(named(name))).steps:
            console.print(f"{'  ' * step.depth}{step.name} {step.place} {step.status or ''}".rstrip())

    async def payday(self) -> None:
        """Many transfers at once, in all directions."""
        ring = ["ann", "ben", "cleo", "ann"]
        orders = [(f"payment {n}", ring[n % 3], ring[n % 3 + 1], 100 + n) for n in range(self.payments)]
        ids = await asyncio.gather(*(self.start(*order) for order in orders))
        ended = [await self.bank.app.processes.wait_for(each) for each in ids]
        completed = sum(process.status is ProcessStatus.COMPLETED for process in ended)
        console.print(f"payday: {completed} of {len(ended)} transfers at once are [bold]COMPLETED")

    async def show(self) -> None:
        """The views, and whether they agree."""
        views = self.bank.views
        await views.wait_until((await PostgreSQLEventStore(self.bank.app.pool).horizon()).position)
        rows = await views.read_models.of(AccountRow).find(ReadModelQuery(order_by="id"))
        table = Table("Account", "Owner", "Balance", "")
        for row in rows:
            table.add_row(str(row.id), row.owner, money(row.balance), "closed" if row.is_closed else "")
        console.print(table)
        async with self.bank.app.pool.connection() as conn:
            cursor = await conn.execute(BOOKS)
            on_accounts, under_way, paid_in = await cursor.fetchone()
        console.print(
            f"{money(paid_in)} were paid in, {money(on_accounts)} are on accounts, {money(under_way)} under way."
        )
        if not sum(row.balance for row in rows) == on_accounts == paid_in or under_way:
            sys.exit("The books are wrong.")
