"""Waiting for conditions, as mainstay offers it to its users' tests."""

from mainstay.testing.waiting import Patience, eventually, eventually_sync

__all__ = ["Patience", "eventually", "eventually_sync"]
