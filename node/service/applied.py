"""Waiting until a position is applied: the engine's thread tells the loop, and only while somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class AppliedSignal:
    def __init__(self, applied_position: Callable[[], int]) -> None:
        self._applied_position = applied_position
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        self._is_watched = False

    def notify(self) -> None:
        """On the engine's thread, after entries were applied."""
        if self._is_watched:
            self._is_watched = False
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """Whoever waits looks again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _end(future)

    async def wait(self, position: int, wait_s: float) -> None:
        """Returns once more may have been applied, or after wait_s."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        self._is_watched = True
        if self._applied_position() >= position:  # it came between the caller's look and the line above
            return
        limit = self._loop.call_later(wait_s, _end, future)
        try:
            await future
        finally:
            limit.cancel()
            if future in self._waiting:
                self._waiting.remove(future)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
