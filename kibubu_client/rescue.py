"""What to do while a node is silent: ask another the same. A paused machine says nothing and refuses nothing; whoever
leads by then answers at once. The ids make asking twice safe, and followers only refuse.

A leader may also just be slow, because it has much to do; so of all a client's silent calls only one goes and asks,
ever more seldom, and the others follow when it has found somebody.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

SILENCE_S = 0.4  # longer than an ordinary answer takes, and about as long as an election
BETWEEN_S_MIN, BETWEEN_S_MAX, BETWEEN_GROWTH = 0.1, 1.0, 1.3


@dataclass(slots=True)
class Leads:
    """What a client's calls know in common."""

    address: str  # who is tried first
    scout: Rescue | None = None  # the one silent call that asks other nodes


class Rescue:
    """Ends the silent call when another node has answered. `end()` must follow, however the call ended."""

    def __init__(
        self,
        leads: Leads,
        silent: Any,
        others: Sequence[str],
        ask: Callable[[str], Awaitable[Any]],
        surely_not: Callable[[grpc.aio.AioRpcError], bool],
    ) -> None:
        self.answer: Any = None
        self.address = ""  # who gave the answer
        self.maybe_happened = False
        self._leads = leads
        self._silent = silent
        self._silent_address = leads.address
        self._others = itertools.cycle(others)
        self._ask = ask
        self._surely_not = surely_not
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SILENCE_S, self._begin) if others else None

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        pause_s = BETWEEN_S_MIN
        while True:
            target = self._target()
            if target and await self._try(target):
                return
            await asyncio.sleep(pause_s)
            if target:
                pause_s = min(pause_s * BETWEEN_GROWTH, BETWEEN_S_MAX)

    def _target(self) -> str:
        """Whom another call has found; else the next one, when this call is the scout; else nobody."""
        if self._leads.address != self._silent_address:
            return self._leads.address
        if self._leads.scout is None:
            self._leads.scout = self
        return next(self._others) if self._leads.scout is self else ""

    async def _try(self, address: str) -> bool:
        self.maybe_happened, before = True, self.maybe_happened
        try:
            self.answer = await self._ask(address)
        except grpc.aio.AioRpcError as error:
            self.maybe_happened = before or not self._surely_not(error)
            return False
        self.address = self._leads.address = address
        self._silent.cancel()
        return True

    def end(self) -> None:
        """What was asked of others and not answered may happen: it is in `maybe_happened`."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._leads.scout is self:
            self._leads.scout = None
