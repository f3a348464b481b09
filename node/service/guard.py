"""What every call goes through: leadership, errors to gRPC codes, counting. One place, so that no servicer guesses."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from prometheus_client import Counter

from node.consensus.contract import Consensus
from node.service.errors import NotAppliedError, ServiceError
from node.service.metrics import NodeMetrics
from node.storage.damage import STORAGE_FAILURES

_log = logging.getLogger("kibubu.service")
READY_POLL_S = 0.002
READY_POLLS_MAX = 100


class Guard:
    def __init__(self, consensus: Consensus, metrics: NodeMetrics, leader_address: Callable[[], str]) -> None:
        self._consensus = consensus
        self._metrics = metrics
        self._leader_address = leader_address
        self._answered: dict[str, Counter] = {}  # by method: looking a label up costs more than counting
        self.on_storage_failure: Callable[[BaseException], None] = lambda error: None  # ends the process

    def check_leader(self) -> None:
        """Raises NotAppliedError unless this node is a leader that has applied an entry of its own term."""
        if not self._consensus.status().ready:
            raise NotAppliedError("this node is not the leader; nothing was applied", self._leader_address())

    async def _wait_until_ready(self) -> None:
        """A leader of a moment ago may admit in a few milliseconds; refusing now would cost its callers more."""
        for _ in range(READY_POLLS_MAX):
            status = self._consensus.status()
            if status.ready or status.role != "leader":
                return
            await asyncio.sleep(READY_POLL_S)

    @asynccontextmanager
    async def call(self, method: str, context: Any, *, leader_only: bool = False) -> AsyncIterator[None]:
        try:
            if leader_only:
                await self._wait_until_ready()
                self.check_leader()
            yield
        except ServiceError as error:
            self._metrics.calls.labels(method, error.code.name).inc()
            context.set_trailing_metadata(error.trailing_metadata())
            await context.abort(error.code, str(error))
        except Exception as error:
            if isinstance(error, STORAGE_FAILURES):
                self.on_storage_failure(error)
            # Where it happened, never what the error says: that may quote the request, which holds a PIN or a number.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("call %s failed: %s, nothing is known of the outcome\n%s", method, type(error).__name__, where)
            self._metrics.calls.labels(method, "INTERNAL").inc()
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "internal error; ask again with the same id")
        else:
            answered = self._answered.get(method)
            if answered is None:
                answered = self._answered[method] = self._metrics.calls.labels(method, "OK")
            answered.inc()
