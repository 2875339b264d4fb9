"""Traces and metrics of workers on PostgreSQL."""

from tests.scenarios.postgres import OnPostgres
from tests.scenarios.tracing import TracingScenarios


class TestTracing(OnPostgres, TracingScenarios):
    pass
