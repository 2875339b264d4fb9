"""What was sent in transactions of others, and is still to be announced: by whom it was sent.

Only who sent it knows when its transaction is committed. So what one thread or task has sent waits for its own call of
`CommandBus.wake`, and is not used up by somebody else's, whose wake-up would come before the commit. What was sent by
one that has ended meanwhile, a task of a group, say, is announced by whoever comes next.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

from mainstay.portal import calling_thread

Sender: TypeAlias = "threading.Thread | asyncio.Task[object]"


class Unannounced:
    """How often domains were sent to, by sender."""

    def __init__(self) -> None:
        self._waiting: dict[Sender, Counter[str]] = {}

    def add(self, domains: Iterable[str]) -> None:
        """Whoever calls has sent to these."""
        sender = _sender()
        if sender not in self._waiting:
            self._inherit(sender)
        self._waiting.setdefault(sender, Counter()).update(domains)

    def take(self, domain: str | None = None) -> list[str]:
        """What whoever calls has to announce, of a domain or of all: once for each send. It is not asked for again."""
        sender = _sender()
        self._inherit(sender)
        mine = self._waiting.get(sender, Counter())
        taken = mine.copy() if domain is None else Counter({domain: mine[domain]})
        mine -= taken
        if not mine:
            self._waiting.pop(sender, None)
        else:
            self._waiting[sender] = mine
        return list(taken.elements())

    def _inherit(self, heir: Sender) -> None:
        """Have what those left that have ended."""
        for sender in [each for each in self._waiting if each is not heir and _has_ended(each)]:
            self._waiting.setdefault(heir, Counter()).update(self._waiting.pop(sender))


def _sender() -> Sender:
    """The thread that waits for this call; else the task that makes it."""
    task: asyncio.Task[object] | None = None
    with suppress(RuntimeError):
        task = asyncio.current_task()
    return calling_thread() or task or threading.current_thread()


def _has_ended(sender: Sender) -> bool:
    return not sender.is_alive() if isinstance(sender, threading.Thread) else sender.done()
