"""Batches in a stream, and watching them, for code without an event loop: what `mainstay.sync` adds to plain calls."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from mainstay.app import CommandBus
from mainstay.commands.batches import BatchStream
from mainstay.commands.command import BatchCommand, BatchMetadata


class SyncBatchStream:
    """`BatchStream` for code that blocks; see `mainstay.sync.SyncCommandBus.open_batch`."""

    def __init__(self, bus: "BlockingBatches", stream: BatchStream) -> None:
        self._bus = bus
        self._stream = stream
        self.batch_id = stream.batch_id

    @property
    def sent(self) -> int:
        """Commands that are stored for certain."""
        return self._stream.sent

    def send(self, *commands: BatchCommand) -> None:
        """Send commands into the batch; errors as `BatchStream.send`."""
        self._bus._call(lambda _: self._stream.send(*commands))  # noqa: SLF001 - the bus made this object


class BlockingBatches:
    """The part of `mainstay.sync.SyncCommandBus` whose calls go on from one to the next."""

    _call: Callable[[Callable[[CommandBus], Any]], Any]

    @functools.wraps(CommandBus.watch_batch)
    def watch_batch(self, *args: Any, **options: Any) -> Iterator[BatchMetadata]:
        """`CommandBus.watch_batch` as an iterator that blocks."""

        async def begin(bus: CommandBus) -> AsyncIterator[BatchMetadata]:
            return bus.watch_batch(*args, **options)

        async def look(_: CommandBus) -> BatchMetadata | None:
            return await anext(looks, None)

        looks = self._call(begin)
        while (found := self._call(look)) is not None:
            yield found

    @functools.wraps(CommandBus.open_batch)
    @contextmanager
    def open_batch(self, *args: Any, **options: Any) -> "Iterator[SyncBatchStream]":
        """`CommandBus.open_batch` as a block that blocks."""

        async def enter(bus: CommandBus) -> tuple[AbstractAsyncContextManager[BatchStream], BatchStream]:
            block = bus.open_batch(*args, **options)
            return block, await block.__aenter__()

        block, stream = self._call(enter)
        try:
            yield SyncBatchStream(self, stream)
        except BaseException as error:
            raised = error
            self._call(lambda _: leave(block, raised))
            raise
        self._call(lambda _: leave(block, None))


async def leave(block: AbstractAsyncContextManager[Any], error: BaseException | None) -> None:
    """End a block; an error of its own body is for the caller to raise."""
    try:
        await block.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except BaseException as raised:
        if raised is not error:
            raise
