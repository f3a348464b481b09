"""Joins what many callers want at the same moment into few calls: a full batch while others are under way, a small one
at once when none is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kibubu_client.errors import NotAppliedError

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Ask, Answer]):
    ask: Ask
    weight: int
    ends_batch: bool  # nobody else's may follow it in the same batch
    future: asyncio.Future[Answer]


class Batcher(Generic[Ask, Answer]):
    """`send` takes a list of asks and returns one answer each, or raises for all of them."""

    def __init__(
        self, send: Callable[[list[Ask]], Awaitable[list[Answer]]], *, weight_max: int, in_flight_max: int
    ) -> None:
        self._send = send
        self._weight_max = weight_max
        self._in_flight_max = in_flight_max
        self._waiting: deque[_Waiting[Ask, Answer]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_is_due = False

    async def submit(self, ask: Ask, *, weight: int = 1, ends_batch: bool = False) -> Answer:
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Ask, Answer](ask, weight, ends_batch, loop.create_future())
        self._waiting.append(waiting)
        self._wake(loop)
        return await waiting.future

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._flush_is_due and self._waiting and len(self._tasks) < self._in_flight_max:
            self._flush_is_due = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._tasks) < self._in_flight_max:
            batch = self._take()
            if batch:
                task = loop.create_task(self._run(batch))
                self._tasks.add(task)
                task.add_done_callback(self._finished)

    def _take(self) -> list[_Waiting[Ask, Answer]]:
        batch: list[_Waiting[Ask, Answer]] = []
        weight = 0
        while self._waiting and (not batch or weight + self._waiting[0].weight <= self._weight_max):
            waiting = self._waiting.popleft()
            if waiting.future.done():
                continue  # its caller went away before anything was sent
            batch.append(waiting)
            weight += waiting.weight
            if waiting.ends_batch:
                break
        return batch

    async def _run(self, batch: list[_Waiting[Ask, Answer]]) -> None:
        try:
            answers = await self._send([waiting.ask for waiting in batch])
        except Exception as error:
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(answer)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake(task.get_loop())

    async def close(self) -> None:
        """Waits for what is under way; what was not sent yet is cancelled."""
        while self._waiting:
            self._waiting.popleft().future.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class DueBatcher(Generic[Ask, Answer]):
    """A Batcher of asks that each have a time until which their caller waits. `send` also takes the seconds left to
    the first of them."""

    def __init__(
        self, send: Callable[[list[Ask], float], Awaitable[list[Answer]]], *, weight_max: int, in_flight_max: int
    ) -> None:
        self._send = send
        self._batcher = Batcher[tuple[float, Ask], Answer](
            self._send_due, weight_max=weight_max, in_flight_max=in_flight_max
        )

    async def submit(self, ask: Ask, end_s: float) -> Answer:
        """`end_s` is of time.monotonic()."""
        return await self._batcher.submit((end_s, ask))

    async def _send_due(self, batch: list[tuple[float, Ask]]) -> list[Answer]:
        left_s = min(end_s for end_s, _ in batch) - time.monotonic()
        if left_s <= 0:  # one waited too long behind other calls; the rest of the batch may ask again
            raise NotAppliedError("no call could be begun in time")
        return await self._send([ask for _, ask in batch], left_s)

    async def close(self) -> None:
        await self._batcher.close()
