"""The call to the fraud sidecar: one for everything that is about to be proposed, with a deadline and a breaker.

An answer is used only when it fits the question in every respect; anything else counts as no answer, and the policy
decides. After several misses in a row the sidecar is left alone for a while, so that payments do not each wait for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc

from node.ledger import features
from node.ledger.statuses import FraudDecision
from node.service.fraud_thresholds import Thresholds
from node.service.metrics import NodeMetrics
from node.service.tls import SERVER_NAME, load_channel_credentials

MISSES_TO_OPEN = 5
OPEN_S = 1.0  # then one call tries again
ROW_S = 40e-6  # more of the deadline for each row: some forty times what it takes on a processor of its own
REASONS_PER_ROW = 3
FIRST_CALL_S = 10.0  # of the call that makes a new connection ready for payments
_NEVER_MS = 2**31 - 1
_SIDECAR_DECISIONS = (FraudDecision.ALLOW, FraudDecision.HOLD, FraudDecision.REFUSE)


@dataclass(frozen=True, slots=True)
class Scores:
    probabilities: npt.NDArray[np.float32]  # (rows,), 0 to 1
    reasons: npt.NDArray[np.uint8]  # (rows, 3), feature number + 1, 0 = none
    decisions: npt.NDArray[np.uint8]  # (rows,), FraudDecision
    model_version: int
    thresholds_version: int = 0  # of the document whose costs decided; 0 = the model's card


class BadAnswerError(Exception):
    """The sidecar's answer does not fit the question."""


class Breaker:
    """Closed: calls go out. Open: none for OPEN_S. Then one call decides."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._misses = 0
        self._closed_again_at = 0.0

    def lets_through(self) -> bool:
        if self._misses < MISSES_TO_OPEN:
            return True
        if self._monotonic() < self._closed_again_at:
            return False
        self._closed_again_at = self._monotonic() + OPEN_S  # this caller tries; the others wait for its result
        return True

    def missed(self) -> None:
        self._misses += 1
        self._closed_again_at = self._monotonic() + OPEN_S

    def answered(self) -> None:
        self._misses = 0


class FraudClient:
    """`thresholds`: what is in force; from the first document on, its costs decide, not those of the model's card."""

    def __init__(
        self, address: str, ca: Path, cert: Path, key: Path, deadline_ms: int, metrics: NodeMetrics,
        thresholds: Callable[[], Thresholds] = Thresholds,
    ) -> None:  # fmt: skip
        self._thresholds = thresholds
        options = (
            ("grpc.ssl_target_name_override", SERVER_NAME),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.enable_retries", 0),
            ("grpc.client_idle_timeout_ms", _NEVER_MS),
        )
        self._channel = grpc.aio.secure_channel(address, load_channel_credentials(ca, cert, key), options=options)
        self._stub: Any = fraud_pb2_grpc.FraudServiceStub(self._channel)
        self._deadline_s = deadline_ms / 1_000
        self._metrics = metrics
        self._breaker = Breaker()

    async def keep_connected(self) -> None:
        """Runs for as long as the node does: connects before the first payment and again whenever the connection was
        lost, so that no payment spends its deadline on a handshake."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._stub.GetModel(fraud_pb2.GetModelRequest(), timeout=FIRST_CALL_S)
            await self._channel.wait_for_state_change(state)

    async def score(self, rows: npt.NDArray[np.float32]) -> Scores | None:
        """rows: float32 (n, FEATURE_COUNT). None = no usable answer in time; the metrics say why."""
        if not self._breaker.lets_through():
            self._miss("breaker_open")
            return None
        request = fraud_pb2.ScoreRequest(
            feature_schema=features.FEATURE_SCHEMA, rows=len(rows), features=rows.astype("<f4", copy=False).tobytes()
        )
        thresholds = self._thresholds()
        if thresholds.version:
            request.costs.CopyFrom(fraud_pb2.Costs(**asdict(thresholds.costs)))
        started_at = time.perf_counter()
        try:
            answer = await self._stub.Score(request, timeout=self._deadline_s + len(rows) * ROW_S)
            scores = replace(checked_scores(answer, len(rows)), thresholds_version=thresholds.version)
        except grpc.aio.AioRpcError as error:
            self._breaker.missed()
            self._miss(error.code().name.lower())
            return None
        except BadAnswerError:
            self._breaker.missed()
            self._miss("bad_answer")
            return None
        self._breaker.answered()
        self._metrics.fraud_call.observe(time.perf_counter() - started_at)
        return scores

    def _miss(self, reason: str) -> None:
        self._metrics.fraud_misses.labels(reason).inc()

    async def close(self) -> None:
        await self._channel.close()


def checked_scores(answer: fraud_pb2.ScoreResponse, rows: int) -> Scores:
    """Raises BadAnswerError unless lengths, ranges and decisions are those of an honest answer."""
    lengths = (len(answer.probabilities), len(answer.reasons), len(answer.decisions))
    if lengths != (4 * rows, REASONS_PER_ROW * rows, rows):
        raise BadAnswerError(f"lengths {lengths} do not fit {rows} rows")
    probabilities = np.frombuffer(answer.probabilities, "<f4")
    if not bool(np.all((probabilities >= 0) & (probabilities <= 1))):  # also refuses NaN
        raise BadAnswerError("a probability is not between 0 and 1")
    decisions = np.frombuffer(answer.decisions, np.uint8)
    if not bool(np.isin(decisions, _SIDECAR_DECISIONS).all()):
        raise BadAnswerError("a decision is unknown")
    reasons = np.frombuffer(answer.reasons, np.uint8).reshape(rows, REASONS_PER_ROW)
    return Scores(probabilities, reasons, decisions, answer.model_version)
