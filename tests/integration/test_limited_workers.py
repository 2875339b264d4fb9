"""Workers before gates, on PostgreSQL."""

from tests.scenarios.limits import LimitScenarios
from tests.scenarios.postgres import OnPostgres


class TestLimits(OnPostgres, LimitScenarios):
    pass
