"""What telemetry every room shares: the fields of log records, and the context that ties traces together.

The library owns no logging and no exporter: it writes to loggers under ``mainstay`` with fields in ``extra``, and to
OpenTelemetry's API, behind which the application puts an SDK or nothing. An application that wants the correlation id
and the ids of the trace on *every* record, its own too, adds the filter to its handler::

    handler.addFilter(ContextFilter())
"""

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry import metrics, trace

from mainstay.message import correlation_id_var

NAME = "mainstay"
_API = ("opentelemetry.trace", "opentelemetry.metrics")
_UNKNOWN = object()


@cache
def library_version() -> str:
    """What telemetry says of this library; empty where it is not installed but only lies there."""
    try:
        return version(NAME)
    except PackageNotFoundError:  # pragma: no cover - the tests run on an installed package
        return ""


def is_tracing() -> bool:
    """Whether an SDK was set up that may record spans; without one, nothing else is even prepared."""
    return not _is_silent(_provider(trace, trace.get_tracer_provider, "_TRACER_PROVIDER"))


def is_metering() -> bool:
    """Whether an SDK was set up that may take values."""
    return not _is_silent(_provider(metrics._internal, metrics.get_meter_provider, "_METER_PROVIDER"))  # noqa: SLF001 - see there


def _provider(module: Any, ask: Callable[[], object], name: str) -> object:
    """The provider, for whoever asks at every send.

    Asking by the public function reads the environment each time, ten times as dear as all else together. So that is
    asked first, for it may load what the environment names; then the variable that it looks at, as long as it is there.
    """
    _loaded(ask)
    found = vars(module).get(name, _UNKNOWN)
    return ask() if found is _UNKNOWN else found


@cache
def _loaded(ask: Callable[[], object]) -> None:
    ask()


def _is_silent(provider: object) -> bool:
    """Whether it is one of those that come with OpenTelemetry's API: they wait for an SDK, or do nothing."""
    return provider is None or type(provider).__module__.startswith(_API)


def tracer() -> trace.Tracer:
    """The tracer of this library, of the provider that is set now."""
    return _tracer_of(trace.get_tracer_provider())


@lru_cache(maxsize=1)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer(NAME, library_version())


def context_fields() -> dict[str, str | None]:
    """What a log record says of where it was written: ``correlation_id``, and in a trace ``trace_id``, ``span_id``."""
    fields: dict[str, str | None] = {"correlation_id": correlation_id_var.get()}
    spot = trace.get_current_span().get_span_context()
    if spot.is_valid:
        fields["trace_id"] = trace.format_trace_id(spot.trace_id)
        fields["span_id"] = trace.format_span_id(spot.span_id)
    return fields


class ContextFilter(logging.Filter):
    """Puts ``correlation_id`` on every record, None outside a handler, and in a trace ``trace_id`` and ``span_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; let every record pass."""
        for name, value in context_fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class _CorrelatedLogger(logging.LoggerAdapter[logging.Logger]):
    """Merges the caller's ``extra`` with the fields of the context, and never raises.

    Commands must end whatever the application's filters do; `logging` itself lets their errors through. They are
    treated as it treats those of its handlers.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log; what goes wrong in that goes to standard error."""
        try:
            super().log(level, msg, *args, **kwargs | {"stacklevel": kwargs.get("stacklevel", 1) + 1})
        except Exception:  # noqa: BLE001 - a filter of the application's may raise anything
            if logging.raiseExceptions and sys.stderr is not None:
                with suppress(Exception):
                    traceback.print_exc()

    def process(self, msg: object, kwargs: "dict[str, object]") -> "tuple[object, dict[str, object]]":  # type: ignore[override]  # typeshed narrows to MutableMapping
        extra: dict[str, object] = dict(context_fields())
        given = kwargs.get("extra")
        if isinstance(given, dict):
            extra.update(given)
        kwargs["extra"] = extra
        return msg, kwargs


def get_logger(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose records carry the correlation id, and the ids of the trace, of the context.

    Args:
        name: Dotted, under ``mainstay``.
    """
    return _CorrelatedLogger(logging.getLogger(name), {})
