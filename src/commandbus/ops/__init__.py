"""What operators do."""

from mainstay import TroubleshootingQueue

__all__ = ["TroubleshootingQueue"]
