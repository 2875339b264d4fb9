"""What runs until it is stopped, for the length of a block."""

import asyncio
from abc import abstractmethod
from types import TracebackType
from typing import Any, Self


class ForABlock:
    """``async with worker:`` lets it run beside the block, as `run()` does, and stops it at the end."""

    _beside: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether `run` is under way."""

    @abstractmethod
    async def run(self, *arguments: Any, **options: Any) -> None:
        """Work until `stop` is called or this task is canceled."""

    @abstractmethod
    async def stop(self, *arguments: Any, **options: Any) -> None:
        """Stop, and return when `run` has ended."""

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            ConfigurationError: It is running already, or nobody can load a handler's aggregate.
        """
        beside = asyncio.create_task(self.run(), name=type(self).__name__)
        await asyncio.sleep(0)  # it is under way, or has refused
        if beside.done():
            beside.result()
        self._beside = beside
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, giving running handlers the time that `stop` gives.

        Raises:
            MainstayError: What ended it before; not instead of an error of the block.
        """
        beside, self._beside = self._beside, None
        if beside is None:
            return
        try:
            await self.stop()
        finally:
            beside.cancel()  # if the stop was canceled itself
            await asyncio.wait({beside})
        if error is None and not beside.cancelled():
            beside.result()
