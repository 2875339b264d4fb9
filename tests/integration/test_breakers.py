"""Workers and breakers, on PostgreSQL."""

from tests.scenarios.breakers import BreakerScenarios
from tests.scenarios.postgres import OnPostgres


class TestBreakers(OnPostgres, BreakerScenarios):
    pass
