"""Linearizable reads: one quorum round shared by every read that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.consensus.contract import Consensus
from node.service.errors import NotAppliedError
from node.service.limits import READ_WAIT_S


class ReadBarrier:
    """`await barrier()` returns once this node was proven leader and has applied all that was acknowledged before."""

    def __init__(self, consensus: Consensus, leader_address: Callable[[], str]) -> None:
        self._consensus = consensus
        self._leader_address = leader_address
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[int]] = []
        self._round_is_due = False

    @property
    def term(self) -> int:
        """The term in which the last reads were proven, or a later one in which nothing older can be answered."""
        return self._consensus.status().term

    async def __call__(self) -> int:
        """The position read at. Raises NotAppliedError when leadership could not be proven."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(future)
        if not self._round_is_due:
            self._round_is_due = True
            self._loop.call_soon(self._start_round)
        limit = self._loop.call_later(READ_WAIT_S, self._give_up, future)
        try:
            return await future
        finally:
            limit.cancel()

    def _give_up(self, future: asyncio.Future[int]) -> None:
        if not future.done():
            future.set_exception(NotAppliedError("no quorum answered; nothing was read", self._leader_address()))

    def _start_round(self) -> None:
        self._round_is_due = False
        waiting, self._waiting = self._waiting, []

        def on_engine_thread(position: int | None) -> None:
            self._loop.call_soon_threadsafe(self._finish_round, waiting, position)

        self._consensus.read_index(on_engine_thread)

    def _finish_round(self, waiting: list[asyncio.Future[int]], position: int | None) -> None:
        for future in waiting:
            if future.done():
                continue
            if position is None:
                future.set_exception(
                    NotAppliedError("this node is not the leader; nothing was read", self._leader_address())
                )
            else:
                future.set_result(position)
