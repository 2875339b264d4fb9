"""Writing what became of commands, whatever the database does meanwhile.

Outcomes that come while a flush is under way go together in the next one. A flush is repeated while the database cannot
be reached: one whose COMMIT had happened is recognized by its leases. An outcome that the database refuses (its reply
queue was dropped, say) is found by halving the flush and goes to troubleshooting; its neighbours are written. One that
sends a command whose unique key is taken by a transaction that is still open is tried again when others had their turn.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from mainstay.commands.ends import tell_operators, unwritable
from mainstay.commands.reaching import until_reached
from mainstay.commands.store import CommandStore, Lease, Outcome, Verb, Verdict, WouldWaitError
from mainstay.errors import MainstayError, StorageUnavailableError
from mainstay.joining import Joiner
from mainstay.metrics import FLUSH, record
from mainstay.service import Pulse, Service
from mainstay.telemetry import get_logger

WAIT_PAUSE = 0.5
"""Seconds until an outcome is tried again that would have had to wait for somebody's transaction."""
FOLD_PAUSE = 0.05
"""Seconds between two looks at batches while commands complete."""
FOLD_INTERVAL = 5.0
"""Seconds after which batches are looked at in any case: a worker may have died between its flush and its look."""

logger = get_logger(__name__)


class OutcomeWriter:
    """Writes the outcomes of one worker, a flush at a time.

    Args:
        store: Where commands live.
        domain: Whose commands.
        settled: Called with a lease once nothing more will be written under it.
        written: Called after every flush with its leases.
    """

    def __init__(
        self,
        store: CommandStore,
        domain: str,
        settled: Callable[[Lease], None],
        written: Callable[[Iterable[Lease]], None],
    ) -> None:
        self._store = store
        self._domain = domain
        self._settled = settled
        self._written = written
        self._joiner: Joiner[Outcome, Verdict] = Joiner(self._flush)
        self._put_off: set[asyncio.Task[None]] = set()
        self.give_up = asyncio.Event()

    def __len__(self) -> int:
        """Outcomes that wait for the flush under way, or were put off."""
        return len(self._joiner) + len(self._put_off)

    def submit(
        self, outcome: Outcome, command_type: str = "(unknown)", *, last_try: bool = False
    ) -> "asyncio.Future[Verdict]":
        """Hand an outcome over; its verdict is dealt with when it comes."""
        future = self._joiner.submit(outcome)

        def settle(done: "asyncio.Future[Verdict]") -> None:
            error = None if done.cancelled() else done.exception()
            if isinstance(error, WouldWaitError) and not self.give_up.is_set():
                self._try_later(outcome, command_type, last_try=last_try)
                return
            if error is not None and not last_try and not isinstance(error, StorageUnavailableError | WouldWaitError):
                logger.error(
                    "could not write an outcome; an operator must look", exc_info=error, extra=self._about(outcome)
                )
                self.submit(unwritable(outcome, error), command_type, last_try=True)
                return
            self._settled(outcome.lease)
            if error is not None:
                logger.error(
                    "could not write an outcome; the command runs again when its lease ends",
                    exc_info=error,
                    extra=self._about(outcome),
                )
            elif done.cancelled():
                pass
            elif done.result() is not Verdict.STALE and outcome.verb is Verb.TROUBLESHOOT:
                tell_operators(self._domain, command_type, outcome)
            elif done.result() is Verdict.STALE:
                logger.warning("an outcome was refused: another worker has the command", extra=self._about(outcome))

        future.add_done_callback(settle)
        return future

    async def finish(self, patience: float | None) -> None:
        """Wait until every outcome is written.

        Args:
            patience: Seconds after which no flush is repeated any more: a database that is gone must not keep the
                process alive. None: for ever.
        """
        loop = asyncio.get_running_loop()
        giving_up = None if patience is None else loop.call_later(patience, self.give_up.set)
        try:
            await self._joiner.idle()
            while self._put_off:
                await asyncio.wait(self._put_off)
                await self._joiner.idle()
        finally:
            if giving_up is not None:
                giving_up.cancel()

    def _try_later(self, outcome: Outcome, command_type: str, *, last_try: bool) -> None:
        async def again() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_PAUSE):
                    await self.give_up.wait()
            self.submit(outcome, command_type, last_try=last_try)

        task = asyncio.create_task(again(), name="mainstay-outcome-later")
        self._put_off.add(task)
        task.add_done_callback(self._put_off.discard)

    async def _flush(self, outcomes: Sequence[Outcome]) -> list[Verdict]:
        verdicts: list[Verdict] = []

        async def write() -> None:
            verdicts[:] = await self._store.complete(self._domain, outcomes)

        await until_reached(write, self.give_up)
        record(FLUSH, len(outcomes), self._domain)
        self._written(outcome.lease for outcome in outcomes)
        ready = [self._domain for each in outcomes if each.verb is Verb.GIVE_BACK or each.lease.is_limited]
        ready += [command.domain for outcome in outcomes if outcome.sends for command in outcome.sends]
        ready += [outcome.answers for outcome in outcomes if outcome.answers is not None]
        if ready:
            with suppress(MainstayError):
                await self._store.wake(ready)
        return verdicts

    def _about(self, outcome: Outcome) -> dict[str, str]:
        return {"domain": self._domain, "command_id": str(outcome.lease.command_id), "verb": outcome.verb}


class BatchFolder(Service):
    """Finishes batches soon after their last command, and now and then in any case.

    Args:
        store: Where batches live.
        domain: Whose batches.
    """

    def __init__(self, store: CommandStore, domain: str) -> None:
        super().__init__()
        self._store = store
        self._domain = domain
        self._touched = asyncio.Event()
        self.pulse = Pulse()

    def touch(self, leases: Iterable[Lease]) -> None:
        """Commands completed; if some belong to a batch, it is worth a look."""
        if any(lease.in_batch for lease in leases):
            self._touched.set()

    async def stop(self) -> None:
        """Look once more, and end."""
        self.stopping.set()
        self._touched.set()
        await super().stop()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLD_INTERVAL):
                    await self._touched.wait()
            self._touched.clear()
            self.pulse.turn()
            try:
                if await self._store.fold_batches(self._domain):
                    await self._store.wake([self._domain])
                self.pulse.reach()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again soon
                logger.warning("could not look at batches; will try again: %s", error)
            if self.stopping.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLD_PAUSE):
                    await self.stopping.wait()
