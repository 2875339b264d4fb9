"""Stand-ins for unit tests without a server."""

from mainstay.testing.fakes import FakePgmqClient

__all__ = ["FakePgmqClient"]
