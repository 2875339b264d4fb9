"""Traces and logs."""

from mainstay import ContextFilter
from mainstay.extras import OTEL_AVAILABLE
from mainstay.telemetry import is_tracing as should_trace
from mainstay.telemetry import tracer as get_tracer

__all__ = [
    "OTEL_AVAILABLE",
    "ContextFilter",
    "get_tracer",
    "should_trace",
]
