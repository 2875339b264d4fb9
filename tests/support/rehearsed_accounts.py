"""A registry, and a store with an inline projection, for rehearsals from the command line."""

from mainstay import DatabaseProjection, HandlerRegistry, PostgreSQLEventStore, handles
from tests.scenarios.aggregates import Account, Deposit, Deposited
from tests.scenarios.world import DOMAIN

registry = HandlerRegistry()
registry.register_decider(domain=DOMAIN, decider=Account)
registry.register(DOMAIN, "Plain", lambda command, context: None)


@registry.handler(DOMAIN, "Broken", transactional=True)
async def broken(command, context):
    raise KeyError("broken")


class Generous(Account):
    """Gives one more to whoever deposits."""

    aggregate_type = "Account"

    @staticmethod
    def decide(state, command):
        return [Deposited(amount=each.amount + 1) for each in Account.decide(state, command)]


generous = HandlerRegistry()
generous.register(Deposit, lambda account, command, context: account.execute(command.data) and None, aggregate=Generous)

other = HandlerRegistry()
other.register(DOMAIN, "Plain", lambda command, context: None)


class Totals(DatabaseProjection):
    @handles(Deposited)
    async def deposited(self, event, conn):
        await conn.execute("insert into rehearsed_total values ('all', %s)", (event.amount,))


def events(pool):
    return PostgreSQLEventStore(pool, inline=[Totals()])
