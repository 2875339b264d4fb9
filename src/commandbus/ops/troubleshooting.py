"""Commands that wait for an operator."""

from mainstay import TroubleshootingItem, TroubleshootingQueue

__all__ = ["TroubleshootingItem", "TroubleshootingQueue"]
