"""A registry, and a store with an inline projection, for rehearsals from the command line."""

from mainstay import DatabaseProjection, HandlerRegistry, PostgreSQLEventStore, handles
from tests.scenarios.aggregates import Account, Deposited
from tests.scenarios.world import DOMAIN

registry = HandlerRegistry()
registry.register_decider(domain=DOMAIN, decider=Account)
registry.register(DOMAIN, "Plain", lambda command, context: None)


@registry.handler(DOMAIN, "Broken", transactional=True)
async def broken(command, context):
    raise KeyError("broken")


class Totals(DatabaseProjection):
    @handles(Deposited)
    async def deposited(self, event, conn):
        await conn.execute("insert into rehearsed_total values ('all', %s)", (event.amount,))


def events(pool):
    return PostgreSQLEventStore(pool, inline=[Totals()])
