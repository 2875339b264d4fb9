"""Typed commands on PostgreSQL."""

from tests.scenarios.postgres import OnPostgres
from tests.scenarios.typed import TypedScenarios


class TestTypedOnPostgres(OnPostgres, TypedScenarios):
    pass
