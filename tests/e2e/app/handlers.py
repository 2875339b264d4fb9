"""What the application's workers handle."""

from mainstay.operations.demo.behaviours import CommandBehavior
from mainstay.operations.demo.calculator import calculate
from mainstay.operations.demo.handlers import DOMAIN, REPORTS, registry

__all__ = ["DOMAIN", "REPORTS", "CommandBehavior", "calculate", "registry"]
