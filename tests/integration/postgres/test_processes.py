"""Processes on PostgreSQL, also where workers are cut off between any two steps."""

from tests.scenarios.postgres import OnPostgres
from tests.scenarios.processes import ProcessScenarios


class TestProcesses(OnPostgres, ProcessScenarios):
    pass
