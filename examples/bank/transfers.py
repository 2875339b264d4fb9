"""A transfer: take the money here, bring it there, and give it back if it cannot be brought.

Two accounts are two streams and two commands, and no transaction holds both. In between, the money is under way, and
this process knows it: its state, the steps that it sends and the reply that it answers are one COMMIT. So no step is
sent twice and none is lost, wherever a worker dies.
"""

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel

from examples.bank.domain import AccountId, Cents, Deposit, Refund, Withdraw
from mainstay import Process, Step, StepReply


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
