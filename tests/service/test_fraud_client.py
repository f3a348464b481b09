"""The call to the sidecar over real gRPC: only an honest answer counts, and a silent one is not waited for again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from prometheus_client import CollectorRegistry

from cluster.certificates import TlsPaths, ensure_certificates, tls_paths
from node.ledger import features
from node.ledger.statuses import FraudDecision
from node.service.fraud_client import MISSES_TO_OPEN, OPEN_S, BadAnswerError, Breaker, FraudClient, checked_scores
from node.service.fraud_policy import decision_without_score
from node.service.fraud_thresholds import thresholds_from
from node.service.metrics import NodeMetrics
from node.service.tls import load_server_credentials

Answer = Callable[[fraud_pb2.ScoreRequest], fraud_pb2.ScoreResponse]
ROWS = np.zeros((2, features.FEATURE_COUNT), dtype=np.float32)


def good(request: fraud_pb2.ScoreRequest) -> fraud_pb2.ScoreResponse:
    n = request.rows
    return fraud_pb2.ScoreResponse(
        probabilities=np.full(n, 0.25, "<f4").tobytes(), reasons=bytes(3 * n), decisions=b"\1" * n, model_version=7
    )


class Sidecar(fraud_pb2_grpc.FraudServiceServicer):
    def __init__(self) -> None:
        self.answer: Answer = good
        self.pause_s = 0.0
        self.calls = 0
        self.first_calls: asyncio.Queue[None] = asyncio.Queue()

    async def Score(self, request: fraud_pb2.ScoreRequest, context: Any) -> fraud_pb2.ScoreResponse:  # noqa: N802
        self.calls += 1
        await asyncio.sleep(self.pause_s)
        return self.answer(request)

    async def GetModel(self, request: fraud_pb2.GetModelRequest, context: Any) -> fraud_pb2.GetModelResponse:  # noqa: N802
        self.first_calls.put_nowait(None)
        return fraud_pb2.GetModelResponse()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TlsPaths]:
    folder = tmp_path_factory.mktemp("certificates")
    ensure_certificates(folder, [("fraud", "fraud"), ("node", "n1")])
    return lambda role: tls_paths(folder, role, "fraud" if role == "fraud" else "n1")


@pytest.fixture
async def sidecar() -> Sidecar:
    return Sidecar()


async def serve(sidecar: Sidecar, paths: TlsPaths, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    fraud_pb2_grpc.add_FraudServiceServicer_to_server(sidecar, server)
    port = server.add_secure_port(f"127.0.0.1:{port}", load_server_credentials(paths.ca, paths.cert, paths.key))
    await server.start()
    return server, port


@pytest.fixture
async def client(sidecar: Sidecar, certificates: Callable[[str], TlsPaths]) -> AsyncIterator[FraudClient]:
    server, port = await serve(sidecar, certificates("fraud"))
    mine = certificates("node")
    client = FraudClient(f"127.0.0.1:{port}", mine.ca, mine.cert, mine.key, 1_000, NodeMetrics(CollectorRegistry()))
    yield client
    await client.close()
    await server.stop(None)


async def test_scores_come_back_row_by_row(client: FraudClient, sidecar: Sidecar) -> None:
    scores = await client.score(ROWS)
    assert scores is not None
    assert scores.probabilities.tolist() == [0.25, 0.25]
    assert scores.decisions.tolist() == [FraudDecision.ALLOW, FraudDecision.ALLOW]
    assert (scores.reasons.shape, scores.model_version) == ((2, 3), 7)


async def test_it_connects_before_the_first_payment_and_again_after_a_restart(
    sidecar: Sidecar, certificates: Callable[[str], TlsPaths]
) -> None:
    server, port = await serve(sidecar, certificates("fraud"))
    mine = certificates("node")
    client = FraudClient(f"127.0.0.1:{port}", mine.ca, mine.cert, mine.key, 1_000, NodeMetrics(CollectorRegistry()))
    kept = asyncio.create_task(client.keep_connected())
    await asyncio.wait_for(sidecar.first_calls.get(), 30)  # nobody has paid yet
    await server.stop(None)
    server, _ = await serve(sidecar, certificates("fraud"), port)
    await asyncio.wait_for(sidecar.first_calls.get(), 30)
    assert sidecar.calls == 0
    kept.cancel()
    await client.close()
    await server.stop(None)


async def test_costs_in_force_go_with_the_question(client: FraudClient, sidecar: Sidecar) -> None:
    asked: list[fraud_pb2.ScoreRequest] = []
    sidecar.answer = lambda request: asked.append(request) or good(request)
    first = await client.score(ROWS)
    client._thresholds = lambda: thresholds_from(b"wrong_hold_minor = 7", 3)
    second = await client.score(ROWS)
    assert first is not None
    assert second is not None
    assert (first.thresholds_version, second.thresholds_version) == (0, 3)
    assert not asked[0].HasField("costs")
    assert (asked[1].costs.wrong_hold_minor, asked[1].costs.loss_share) == (7, 0.9)


@pytest.mark.parametrize(
    "bad",
    [
        fraud_pb2.ScoreResponse(),
        fraud_pb2.ScoreResponse(probabilities=bytes(4), reasons=bytes(6), decisions=b"\1\1"),
        fraud_pb2.ScoreResponse(probabilities=bytes(8), reasons=bytes(5), decisions=b"\1\1"),
        fraud_pb2.ScoreResponse(probabilities=bytes(8), reasons=bytes(6), decisions=b"\1"),
        fraud_pb2.ScoreResponse(probabilities=bytes(8), reasons=bytes(6), decisions=b"\1\0"),
        fraud_pb2.ScoreResponse(probabilities=bytes(8), reasons=bytes(6), decisions=b"\1\4"),
        fraud_pb2.ScoreResponse(
            probabilities=np.array([0.5, np.nan], "<f4").tobytes(), reasons=bytes(6), decisions=b"\1\1"
        ),
        fraud_pb2.ScoreResponse(
            probabilities=np.array([0.5, 1.5], "<f4").tobytes(), reasons=bytes(6), decisions=b"\1\1"
        ),
    ],
)
async def test_an_answer_that_does_not_fit_is_no_answer(
    client: FraudClient, sidecar: Sidecar, bad: fraud_pb2.ScoreResponse
) -> None:
    with pytest.raises(BadAnswerError):
        checked_scores(bad, 2)
    sidecar.answer = lambda _: bad
    assert await client.score(ROWS) is None


async def test_a_slow_sidecar_is_left_alone_after_a_few_misses(client: FraudClient, sidecar: Sidecar) -> None:
    assert await client.score(ROWS) is not None
    client._deadline_s = 0.01
    sidecar.pause_s = 60.0
    for _ in range(MISSES_TO_OPEN + 5):
        assert await client.score(ROWS) is None
    assert sidecar.calls <= 1 + MISSES_TO_OPEN


def test_the_breaker_lets_one_try_through_and_closes_on_success() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(MISSES_TO_OPEN):
        assert breaker.lets_through()
        breaker.missed()
    assert not breaker.lets_through()
    now[0] += OPEN_S
    assert breaker.lets_through()
    assert not breaker.lets_through()  # the others wait for that one
    breaker.missed()
    now[0] += OPEN_S / 2
    assert not breaker.lets_through()
    now[0] += OPEN_S
    assert breaker.lets_through()
    breaker.answered()
    assert breaker.lets_through()
    assert breaker.lets_through()


@pytest.mark.parametrize(
    ("amount_minor", "decision"),
    [
        (1, FraudDecision.ALLOW_UNSCORED),
        (100_000, FraudDecision.ALLOW_UNSCORED),
        (100_001, FraudDecision.HOLD_UNSCORED),
    ],
)
def test_the_policy_without_a_score(amount_minor: int, decision: FraudDecision) -> None:
    assert decision_without_score(amount_minor, 100_000) is decision
