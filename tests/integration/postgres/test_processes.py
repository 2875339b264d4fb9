"""Processes on PostgreSQL, also where workers are cut off between any two steps."""

from tests.scenarios.postgres import OnPostgres, run
from tests.scenarios.processes import ProcessScenarios


class TestProcesses(OnPostgres, ProcessScenarios):
    async def make_due(self, store):
        await run(store.pool, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")
