"""The fraud sidecar as a script: honest, slow, dead or lying. The node's own client judges its answers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import numpy as np
import numpy.typing as npt
from kibubu.fraud.v1 import fraud_pb2

from node.ledger.statuses import FraudDecision
from node.service.fraud_client import REASONS_PER_ROW, Breaker, FraudClient, Scores
from node.service.fraud_thresholds import thresholds_in_force
from node.service.metrics import NodeMetrics

if TYPE_CHECKING:
    from tests.simulation.process import Process

MODES = ("honest", "slow", "dead", "lies")
DEADLINE_S = 0.005


class SidecarScript:
    """Shared by all nodes; `mode` is what a fault sets."""

    def __init__(self, rng: random.Random, faults: Counter[str]) -> None:
        self.mode = "honest"
        self._rng = rng
        self._faults = faults

    async def Score(self, request: fraud_pb2.ScoreRequest, timeout: float) -> fraud_pb2.ScoreResponse:  # noqa: N802
        if self.mode != "honest":
            self._faults[f"sidecar_{self.mode}"] += 1
        if self.mode == "dead":
            await asyncio.sleep(self._rng.uniform(0.0, 0.001))
            raise _error(grpc.StatusCode.UNAVAILABLE)
        if self.mode == "slow":
            await asyncio.sleep(timeout)
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED)
        await asyncio.sleep(self._rng.uniform(0.000_5, 0.003))
        answer = self._honest(request.rows)
        return self._lie(answer) if self.mode == "lies" else answer

    def _honest(self, rows: int) -> fraud_pb2.ScoreResponse:
        chances = [self._rng.random() for _ in range(rows)]
        decisions = [
            FraudDecision.REFUSE if chance > 0.97 else FraudDecision.HOLD if chance > 0.9 else FraudDecision.ALLOW
            for chance in chances
        ]
        return fraud_pb2.ScoreResponse(
            probabilities=np.array(chances, dtype="<f4").tobytes(),
            reasons=bytes(REASONS_PER_ROW * rows),
            decisions=bytes(int(decision) for decision in decisions),
            model_version=1,
        )

    def _lie(self, answer: fraud_pb2.ScoreResponse) -> fraud_pb2.ScoreResponse:
        match self._rng.randrange(4):
            case 0:
                answer.probabilities = answer.probabilities[:-1]
            case 1:
                answer.probabilities = np.full(len(answer.decisions), np.nan, dtype="<f4").tobytes()
            case 2:
                answer.decisions = bytes([250]) * len(answer.decisions)
            case 3:
                answer.probabilities = np.full(len(answer.decisions), 2.0, dtype="<f4").tobytes()
        return answer


def _error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


class SimFraudClient(FraudClient):
    """The production client with the script in place of its channel, and the node's clock in its breaker."""

    def __init__(self, process: Process, metrics: NodeMetrics) -> None:
        self._process = process
        self._thresholds = thresholds_in_force(process.store)
        self._stub = process.world.sidecar
        self._deadline_s = DEADLINE_S
        self._metrics = metrics
        self._breaker = Breaker(process.clock.monotonic)

    async def score(self, rows: npt.NDArray[np.float32]) -> Scores | None:
        self._process.reach_in_loop("score.asked")
        scores = await super().score(rows)
        self._process.reach_in_loop("score.answered")
        return scores
