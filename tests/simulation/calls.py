"""Calls from clients to nodes: what gRPC does between them. An error says whether surely nothing was applied."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from node.service.errors import LEADER_ADDRESS_KEY, NOT_APPLIED_KEY
from tests.simulation.clock import Timeline
from tests.simulation.loop import SimLoop

DELAY_S = (0.000_2, 0.002)


class CallError(Exception):
    def __init__(self, code: str, *, definite: bool, leader: str = "") -> None:
        super().__init__(code)
        self.code, self.definite, self.leader = code, definite, leader


class AbortedError(Exception):
    """What context.abort raises inside a servicer."""


class SimContext:
    """The part of grpc.aio.ServicerContext that servicers use."""

    def __init__(self) -> None:
        self.error = CallError("UNKNOWN", definite=False)
        self._metadata: dict[str, str] = {}

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        definite = self._metadata.get(NOT_APPLIED_KEY) == "1"
        self.error = CallError(code.name, definite=definite, leader=self._metadata.get(LEADER_ADDRESS_KEY, ""))
        raise AbortedError(details)


@dataclass(eq=False)
class Exchange:
    """One call under way."""

    method: str
    request: Any
    future: asyncio.Future[Any]
    handler: asyncio.Task[Any] | None = None
    context: SimContext = field(default_factory=SimContext)


class Server(Protocol):
    @property
    def alive(self) -> bool: ...

    def call_arrived(self, exchange: Exchange) -> None: ...


class CallNetwork:
    """Between clients and nodes; `lost` is the chance that an answer never comes."""

    def __init__(self, timeline: Timeline, rng: random.Random, loop: SimLoop, faults: Counter[str]) -> None:
        self._timeline, self._rng, self._loop, self._faults = timeline, rng, loop, faults
        self.servers: Mapping[str, Server] = {}
        self.lost = 0.0
        self.unreachable: set[str] = set()  # nodes that no client reaches

    async def call(self, target: str, method: str, request: Any, deadline_s: float) -> Any:
        """The response. Raises CallError."""
        exchange = Exchange(method, request, self._loop.create_future())
        if target in self.unreachable:
            self._faults["client_cut"] += 1
        else:
            self._timeline.after(self._delay_s(), lambda: self._arrive(target, exchange))
        timer = self._timeline.after(deadline_s, lambda: self._expire(target, exchange))
        try:
            return await exchange.future
        finally:
            self._timeline.cancel(timer)

    def answer(self, node: str, exchange: Exchange, response: Any) -> None:
        if node in self.unreachable or self._rng.random() < self.lost:
            self._faults["answer_lost"] += 1
            return
        self._timeline.after(self._delay_s(), lambda: self._finish(exchange, response))

    def fail(self, exchange: Exchange, error: CallError) -> None:
        self._timeline.after(self._delay_s(), lambda: self._finish(exchange, error))

    def _arrive(self, target: str, exchange: Exchange) -> None:
        server = self.servers[target]
        if server.alive:
            server.call_arrived(exchange)
        else:
            self.fail(exchange, CallError("UNAVAILABLE", definite=True))  # refused: it was never sent

    def _expire(self, target: str, exchange: Exchange) -> None:
        """The client hears it at once; the server learns it too and cancels what is still at work."""
        self._finish(exchange, CallError("DEADLINE_EXCEEDED", definite=False))
        if exchange.handler is not None and self.servers[target].alive:
            exchange.handler.cancel()

    @staticmethod
    def _finish(exchange: Exchange, result: Any) -> None:
        if exchange.future.done():
            return
        if isinstance(result, CallError):
            exchange.future.set_exception(result)
        else:
            exchange.future.set_result(result)

    def _delay_s(self) -> float:
        return self._rng.uniform(*DELAY_S)
