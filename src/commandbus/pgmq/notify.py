"""LISTEN and NOTIFY."""

from mainstay.storage.postgres.notifications import Listener, notify

__all__ = ["Listener", "notify"]
