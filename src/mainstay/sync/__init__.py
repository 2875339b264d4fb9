"""The same calls, blocking, for code without an event loop: Django, Flask, scripts.

A bridge, never a second implementation: every method is the asynchronous one, carried to an event loop in a thread and
waited for. Objects may be shared by any number of threads, and made before a server forks (gunicorn with
``preload_app``): each process opens a pool of its own when it first needs one.

With ``conn=`` a command is sent, or events are appended, on the caller's connection, in its transaction, and on its
thread.
"""

from mainstay.sync.application import SyncMainstay
from mainstay.sync.events import SyncAggregateRepository, SyncEventStoreAdapter
from mainstay.sync.read_models import SyncReadModelRepository, SyncReadModels
from mainstay.sync.rehearsing import SyncRehearsal
from mainstay.sync.rooms import SyncBreakers, SyncCommandBus, SyncLimits, SyncSchedules, SyncTroubleshootingQueue
from mainstay.sync.subscriptions import SyncSubscriptionManager
from mainstay.sync.worker import SyncWorker

__all__ = [
    "SyncAggregateRepository",
    "SyncBreakers",
    "SyncCommandBus",
    "SyncEventStoreAdapter",
    "SyncLimits",
    "SyncMainstay",
    "SyncReadModelRepository",
    "SyncReadModels",
    "SyncRehearsal",
    "SyncSchedules",
    "SyncSubscriptionManager",
    "SyncTroubleshootingQueue",
    "SyncWorker",
]
