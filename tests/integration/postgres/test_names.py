"""Tenant, actor and cause of commands on PostgreSQL."""

import pytest

from mainstay import PostgreSQLEventStore
from tests.scenarios.names import NameScenarios
from tests.scenarios.postgres import OnPostgres


class TestNames(OnPostgres, NameScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)
