"""One suite per protocol, run on every engine, and there for the engines of users."""

from mainstay.errors import MissingDependencyError

try:
    import pytest
except ImportError as error:  # pragma: no cover - the suite that would cover this cannot run without pytest
    raise MissingDependencyError("the contract suites need: pip install pytest pytest-asyncio") from error

pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("commands", "events", "pgmq", "projections", "read_models", "snapshots"))
)
