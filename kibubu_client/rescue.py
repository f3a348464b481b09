"""What to do while a node is silent: ask the others the same, one after the other. A paused machine says nothing and
refuses nothing; whoever leads by then answers at once. The ids make asking twice safe, and followers only refuse."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

SILENCE_S = 0.4  # longer than an ordinary answer takes, and about as long as an election
_BETWEEN_S = 0.1


class Rescue:
    """Ends the silent call when another node has answered. `end()` must follow, however the call ended."""

    def __init__(
        self,
        silent: Any,
        others: Sequence[str],
        ask: Callable[[str], Awaitable[Any]],
        surely_not: Callable[[grpc.aio.AioRpcError], bool],
    ) -> None:
        self.answer: Any = None
        self.address = ""  # who gave the answer
        self.maybe_happened = False
        self._silent = silent
        self._others = others
        self._ask = ask
        self._surely_not = surely_not
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._begin)

    def _begin(self) -> None:
        if self._others:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        for address in itertools.cycle(self._others):
            self.maybe_happened, before = True, self.maybe_happened
            try:
                self.answer = await self._ask(address)
            except grpc.aio.AioRpcError as error:
                self.maybe_happened = before or not self._surely_not(error)
            else:
                self.address = address
                self._silent.cancel()
                return
            await asyncio.sleep(_BETWEEN_S)

    def end(self) -> None:
        """What was asked of others and not answered may happen: it is in `maybe_happened`."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
