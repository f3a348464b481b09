"""The sidecar over real gRPC with real certificates: good batches, bad ones, wrong callers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from prometheus_client import CollectorRegistry, generate_latest

from cluster.certificates import ensure_certificates, tls_paths
from fraud.config import ConfigError, FraudConfig, load_config
from fraud.fitting import QUICK
from fraud.model import SHIPPED, Model, load_model
from fraud.serve import ROWS_MAX, build_server
from fraud.simulate import simulate
from fraud.train import train
from node.ledger import features

SCHEMA, COUNT = features.FEATURE_SCHEMA, features.FEATURE_COUNT
Stub = Callable[[str], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ensure_certificates(folder, [("fraud", "fraud"), ("node", "n1"), ("operator", "operator"), ("edge", "edge")])
    return folder


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(SHIPPED)


@pytest.fixture
async def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def stub(folder: Path, model: Model, registry: CollectorRegistry) -> AsyncIterator[Stub]:
    own = tls_paths(folder, "fraud", "fraud")
    config = FraudConfig("127.0.0.1:0", "127.0.0.1:0", own.ca, own.cert, own.key, SHIPPED)
    server, _, port = build_server(config, model, registry)
    await server.start()
    channels = []

    def connect(role: str) -> Any:
        mine = tls_paths(folder, role, "n1" if role == "node" else role)
        credentials = grpc.ssl_channel_credentials(mine.ca.read_bytes(), mine.key.read_bytes(), mine.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", "kibubu"), ("grpc.max_send_message_length", 64 << 20))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
        channels.append(channel)
        return fraud_pb2_grpc.FraudServiceStub(channel)

    yield connect
    for channel in channels:
        await channel.close()
    await server.stop(None)


def request(matrix: np.ndarray, **changes: Any) -> fraud_pb2.ScoreRequest:
    fields = {"feature_schema": SCHEMA, "rows": len(matrix), "features": matrix.astype("<f4").tobytes()}
    return fraud_pb2.ScoreRequest(**(fields | changes))


async def test_a_batch_is_scored_as_the_model_scores_it(stub: Stub, model: Model, registry: CollectorRegistry) -> None:
    rows = simulate(300, 20, 4).features[:900]
    answer = await stub("node").Score(request(rows), timeout=10)
    expected = model.score(rows)
    assert np.array_equal(np.frombuffer(answer.probabilities, "<f4"), expected.probabilities)
    assert answer.decisions == expected.decisions.tobytes()
    assert answer.reasons == expected.reasons.tobytes()
    assert answer.model_version == model.version
    assert b'kibubu_fraud_scores_total{decision="allow"}' in generate_latest(registry)


async def test_one_row_and_the_largest_batch(stub: Stub) -> None:
    for n in (1, ROWS_MAX):
        answer = await stub("operator").Score(request(np.zeros((n, COUNT), np.float32)), timeout=10)
        assert len(answer.decisions) == n


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (request(np.zeros((2, COUNT)), feature_schema=1), "feature_schema: must be"),
        (request(np.zeros((0, COUNT))), "rows: must be 1 to"),
        (request(np.zeros((ROWS_MAX + 1, COUNT))), "rows: must be 1 to"),
        (request(np.zeros((2, COUNT)), rows=3), "features: must be"),
        (request(np.zeros((2, COUNT)), features=b"x"), "features: must be"),
        (request(np.full((2, COUNT), np.nan)), "features: must be finite"),
        (request(np.full((2, COUNT), np.inf)), "features: must be finite"),
    ],
)
async def test_a_bad_request_names_its_field(stub: Stub, bad: fraud_pb2.ScoreRequest, complaint: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub("node").Score(bad, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in str(caught.value.details())


async def test_an_oversized_message_is_refused(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub("node").Score(fraud_pb2.ScoreRequest(features=bytes(2_000_000)), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_edge_gets_nothing(stub: Stub) -> None:
    for call in (
        stub("edge").Score(request(np.zeros((1, COUNT))), timeout=10),
        stub("edge").GetModel(fraud_pb2.GetModelRequest(), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_model_introduces_itself(stub: Stub, model: Model) -> None:
    answer = await stub("operator").GetModel(fraud_pb2.GetModelRequest(), timeout=10)
    assert (answer.model_sha256, answer.feature_schema) == (model.sha256, SCHEMA)
    assert tuple(answer.feature_names) == features.FEATURE_NAMES
    assert 0 < answer.hold_threshold < 1
    assert (answer.challenger_sha256, answer.previous_sha256) == ("", "")


async def test_models_change_places_and_a_bad_one_changes_nothing(
    stub: Stub, model: Model, registry: CollectorRegistry, tmp_path: Path
) -> None:
    other = another_model(tmp_path / "other")
    operator = stub("operator")
    rows = simulate(300, 20, 4).features[:1_000]

    async def load(folder: Path, **options: bool) -> str:
        answer = await operator.LoadModel(fraud_pb2.LoadModelRequest(model_dir=str(folder), **options), timeout=20)
        return str(answer.model_sha256)

    async def version() -> int:
        return int((await operator.Score(request(rows), timeout=10)).model_version)

    sha256 = await load(other, as_challenger=True)
    assert await version() == model.version
    shown = generate_latest(registry).decode()
    assert 'kibubu_fraud_shadow_total{view="agrees"}' in shown
    assert f'kibubu_fraud_model_info{{slot="challenger",version="{sha256[:8]}"}} 1.0' in shown
    assert 'kibubu_fraud_psi{feature="score"}' in shown
    assert await load(other) == sha256
    assert await version() == int(sha256[:8], 16)
    assert (await operator.GetModel(fraud_pb2.GetModelRequest(), timeout=10)).previous_sha256 == model.sha256

    card = json.loads((other / "card.json").read_text(encoding="utf-8"))
    (other / "card.json").write_text(json.dumps(card | {"feature_schema": 1}), encoding="utf-8")
    for folder in (other, tmp_path / "none"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await load(folder)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await version() == int(sha256[:8], 16)

    back = await operator.RollBackModel(fraud_pb2.RollBackModelRequest(), timeout=10)
    assert back.model_sha256 == model.sha256
    assert await version() == model.version


async def test_only_an_operator_changes_models(stub: Stub) -> None:
    for call in (
        stub("node").LoadModel(fraud_pb2.LoadModelRequest(model_dir=str(SHIPPED)), timeout=10),
        stub("node").RollBackModel(fraud_pb2.RollBackModelRequest(), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub("operator").RollBackModel(fraud_pb2.RollBackModelRequest(), timeout=10)
    assert "no model to roll back to" in str(caught.value.details())


def another_model(folder: Path) -> Path:
    source = {"source": "test", "customers": 800, "days": 25, "seed": 2}
    train(simulate(800, 25, 2), source, 2, folder, QUICK, lambda _: None)
    return folder


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('model_dir = "m"', "", "model_dir: must be a text"),
        ('grpc = "h:1"', 'grpc = "h"', "listen.grpc: must be host:port"),
        ('metrics = "h:2"', "", "listen.metrics: must be a text"),
        ('key = "k"', "key = 5", "tls.key: must be a text"),
        ("[tls]", "[tls", "f.toml"),
    ],
)
def test_a_configuration_mistake_names_its_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    good = 'model_dir = "m"\n[listen]\ngrpc = "h:1"\nmetrics = "h:2"\n[tls]\nca = "a"\ncert = "c"\nkey = "k"\n'
    path = tmp_path / "f.toml"
    path.write_text(good, encoding="utf-8")
    assert load_config(path).model_dir == tmp_path / "m"
    path.write_text(good.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert complaint in str(caught.value)


async def test_costs_that_come_with_the_question_decide(stub: Stub, model: Model) -> None:
    row = np.array(model.card["golden"]["rows"][-1:], dtype="<f4")
    row[0, features.FEATURE_NAMES.index("amount_minor")] = 1e6
    request = fraud_pb2.ScoreRequest(feature_schema=SCHEMA, rows=1, features=row.tobytes())
    assert (await stub("node").Score(request)).decisions != b"\1"
    costs = fraud_pb2.Costs(loss_share=0.9, wrong_hold_minor=1e14, wrong_refusal_minor=1e14, alert_from=0.5)
    request.costs.CopyFrom(costs)
    mild = await stub("node").Score(request)
    assert (mild.decisions, mild.reasons) == (b"\1", bytes(3))
    request.costs.loss_share = 2.0
    with pytest.raises(grpc.aio.AioRpcError, match="loss_share: must be at most 1"):
        await stub("node").Score(request)
    request.costs.loss_share = float("nan")
    with pytest.raises(grpc.aio.AioRpcError, match="loss_share: must be a number from 0"):
        await stub("node").Score(request)


def test_after_the_warm_up_a_call_compiles_nothing() -> None:
    """In a process of its own, where no other test has compiled anything."""
    program = """
import numpy as np
from fraud import drift, trees
from fraud.model import SHIPPED, load_model
from fraud.serve import warm_up
from fraud.slots import Slots
model = load_model(SHIPPED)
warm_up(model)
kernels = (drift._count, trees._evaluate, trees._explain)
before = [len(kernel.signatures) for kernel in kernels]
assert all(before), before
Slots(model).score(np.array(model.card["golden"]["rows"], dtype=np.float32))
assert [len(kernel.signatures) for kernel in kernels] == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
