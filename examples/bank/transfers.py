"""A transfer: take the money here, bring it there, and give it back if it cannot be brought.

Two accounts are two streams and two commands, and no transaction holds both. In between, the money is under way, and
this process knows it: its state, the steps that it sends and the reply that it answers are one COMMIT. So no step is
sent twice and none is lost, wherever a worker dies.
"""

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel

from examples.bank.domain import AccountId, Cents, Deposit, Refund, Withdraw
from mainstay import DuplicateProcessError, Mainstay, Process, Step, StepReply

TABLES = """
    create table if not exists bank_orders (
        transfer_id uuid primary key, wanted jsonb not null, ordered_at timestamptz not null default now()
    )"""


class TransferRequest(BaseModel):
    source: AccountId
    target: AccountId
    amount: Cents


class TransferState(TransferRequest):
    transfer_id: UUID


class Transfer(Process[TransferState]):
    process_type = "Transfer"
    domain = "transfers"  # whose worker moves it; its steps go to the domain of their commands
    state_class = TransferState

    def __init__(self, patience: timedelta = timedelta(minutes=1)) -> None:
        self.patience = patience

    def start(self, state: TransferState) -> Step:
        """Take the money, in time.

        No other step has a deadline. Money that is taken too late can be given back; money that is brought too late may
        be spent by then, so the answer is waited for, however long it takes.
        """
        return Step.of(withdrawal(state.source, state), deadline=self.patience)

    def on_reply(self, state: TransferState, reply: StepReply) -> Step | None:
        """The money is taken: bring it. If it has been brought, there is nothing more to do."""
        if reply.step == "Withdraw":
            return Step.of(Deposit(account_id=state.target, amount=state.amount, transfer_id=state.transfer_id))
        return None

    def compensate(self, state: TransferState, done: StepReply) -> Step:
        """A step has failed, and this one had succeeded; the last is undone first."""
        if done.step == "Withdraw":
            return Step.of(Refund(account_id=state.source, amount=state.amount, transfer_id=state.transfer_id))
        return Step.of(withdrawal(state.target, state))  # it was brought, and then somebody canceled the transfer


def withdrawal(account_id: str, state: TransferState) -> Withdraw:
    """Take the money of a transfer from an account."""
    return Withdraw(account_id=account_id, amount=state.amount, transfer_id=state.transfer_id)


async def order(app: Mainstay, transfer: Transfer, state: TransferState) -> None:
    """Write down what is wanted and begin to do it, in one transaction: both or neither. Repeating it does nothing.

    Raises:
        DuplicateProcessError: Another transfer has this id.
    """
    wanted = (state.transfer_id, state.model_dump_json())
    async with app.pool.connection() as conn:  # one transaction, which commits at the end of the block
        added = await conn.execute("insert into bank_orders values (%s, %s) on conflict do nothing", wanted)
        if added.rowcount:
            await app.processes.start(transfer, state, process_id=state.transfer_id, conn=conn)
        known = await conn.execute("select from bank_orders where transfer_id = %s and wanted = %s", wanted)
        if not known.rowcount:
            raise DuplicateProcessError(state.transfer_id)
    await app.processes.wake()  # after the commit: an idle worker starts now, not at its next poll
