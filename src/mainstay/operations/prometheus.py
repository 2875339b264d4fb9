"""The metrics as Prometheus reads them; needs the extra ``prometheus``."""

from collections.abc import Iterable
from typing import Any

from mainstay.errors import MissingDependencyError
from mainstay.metrics import METRICS, Kind, Metric, observations

_INSTALL = 'metrics for Prometheus need prometheus-client: pip install "mainstay[prometheus]"'
_UNITS = {"s": "_seconds"}


def prometheus_name(metric: Metric) -> str:
    """The name, without the ending that Prometheus' client adds to counters and histograms."""
    return metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")


class PrometheusRecorder:
    """Takes values, and writes them in Prometheus' text format.

    Raises:
        MissingDependencyError: The client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client  # noqa: PLC0415 - an extra
            from prometheus_client import core  # noqa: PLC0415 - as above
        except ImportError as error:
            raise MissingDependencyError(_INSTALL) from error
        self._client = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(_Gauges(core))
        self._instruments: dict[Metric, Any] = {}
        for metric in METRICS:
            named = (prometheus_name(metric), metric.description, metric.labels)
            if metric.kind is Kind.COUNTER:
                self._instruments[metric] = prometheus_client.Counter(*named, registry=self._registry)
            elif metric.kind is Kind.HISTOGRAM:
                self._instruments[metric] = prometheus_client.Histogram(
                    *named, registry=self._registry, buckets=metric.buckets
                )

    @property
    def content_type(self) -> str:
        """Of what `text` gives."""
        return str(self._client.CONTENT_TYPE_LATEST)

    def record(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Add to a counter, or take one value into a histogram."""
        child = self._instruments[metric].labels(*labels)
        if metric.kind is Kind.COUNTER:
            child.inc(value)
        else:
            child.observe(value)

    def text(self) -> bytes:
        """Everything, as it stands now."""
        return bytes(self._client.generate_latest(self._registry))


class _Gauges:
    """What is read when somebody asks."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def collect(self) -> Iterable[Any]:
        """A family for each gauge that has a value."""
        found = observations()
        for metric in METRICS:
            values = [one for one in found if one.metric is metric]
            if values:
                family = self._core.GaugeMetricFamily(prometheus_name(metric), metric.description, labels=metric.labels)
                for one in values:
                    family.add_metric(one.labels, one.value)
                yield family
