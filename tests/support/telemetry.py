"""An SDK for the length of a test: what was recorded can be looked at."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from mainstay.metrics import Metric, listening


class Spans:
    """What was recorded."""

    def __init__(self, exporter: InMemorySpanExporter, tracer: trace.Tracer) -> None:
        self._exporter = exporter
        self.tracer = tracer

    def all(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]


@contextmanager
def recorded_spans(sampler: Sampler = ALWAYS_ON) -> Iterator[Spans]:
    """The SDK as the provider of the process, which OpenTelemetry itself lets one set only once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield Spans(exporter, provider.get_tracer("test"))
    provider.shutdown()


class Values:
    """A recorder that keeps everything."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, float, tuple[str, ...]]] = []

    def record(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        self.kept.append((metric.name, value, labels))

    def of(self, metric: Metric) -> list[tuple[float, tuple[str, ...]]]:
        return [(value, labels) for name, value, labels in self.kept if name == metric.name]

    def total(self, metric: Metric, *labels: str) -> float:
        return sum(value for value, found in self.of(metric) if found[: len(labels)] == labels)


@contextmanager
def recorded_values() -> Iterator[Values]:
    values = Values()
    with listening(values):
        yield values
