"""The fraud sidecar: scores everything that a leader is about to propose, in one call. It keeps no state at all."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Histogram,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fraud.config import ConfigError, FraudConfig, load_config
from fraud.model import Model, ModelError, load_model
from fraud.slots import Slots, disagreements
from node.ledger import features
from node.ledger.fraud_costs import Costs, CostsError, costs_from, hold_probability
from node.ledger.statuses import FraudDecision

ROWS_MAX = 8_190  # the largest batch of transfers
MESSAGE_BYTES_MAX = ROWS_MAX * features.FEATURE_COUNT * 4 + 4_096
STREAMS_MAX = 64
ROLES = frozenset({"node", "operator"})
OPERATORS = frozenset({"operator"})
SPIFFE_PREFIX = "spiffe://kibubu/"
_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_190)
_log = logging.getLogger("kibubu.fraud")


class BadRequestError(Exception):
    """The message names the field and the rule."""


class Metrics:
    def __init__(self, registry: CollectorRegistry, slots: Slots) -> None:
        self.scores = Counter("kibubu_fraud_scores", "Payments scored", ["decision"], registry=registry)
        self.seconds = Histogram("kibubu_fraud_score_seconds", "Time to score", buckets=_SECONDS, registry=registry)
        self.rows = Histogram("kibubu_fraud_batch_rows", "Payments in a call", buckets=_ROWS, registry=registry)
        self.refused = Counter("kibubu_fraud_refused_calls", "Calls refused", ["reason"], registry=registry)
        self.shadow = Counter(
            "kibubu_fraud_shadow", "Payments by the challenger's view of the decision", ["view"], registry=registry
        )
        registry.register(ModelCollector(slots))


class ModelCollector(Collector):
    """Which models are loaded, and how far the world is from what the champion was trained on; computed when asked."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("kibubu_fraud_model_info", "1 for each loaded model", labels=["version", "slot"])
        for slot in ("champion", "challenger", "previous"):
            model = getattr(self._slots, slot)
            if model is not None:
                info.add_metric([model.sha256[:8], slot], 1)
        yield info
        psi = GaugeMetricFamily("kibubu_fraud_psi", "Distance from training, last 20,000 payments", labels=["feature"])
        for name, value in self._slots.drift.psi().items():
            psi.add_metric([name], value)
        yield psi
        missing = GaugeMetricFamily(
            "kibubu_fraud_missing_share", "Share of payments where a feature says never", labels=["feature"]
        )
        for name, value in self._slots.drift.missing_shares().items():
            missing.add_metric([name], value)
        yield missing
        held = GaugeMetricFamily(
            "kibubu_fraud_trained_alert_share", "Share of honest payments that the card expects held"
        )
        held.add_metric([], float(self._slots.champion.card["report"]["honest_held_share"]))
        yield held


def rows_of(request: fraud_pb2.ScoreRequest) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (rows, FEATURE_COUNT). Raises BadRequestError."""
    if request.feature_schema != features.FEATURE_SCHEMA:
        raise BadRequestError(f"feature_schema: must be {features.FEATURE_SCHEMA}, is {request.feature_schema}")
    if not 1 <= request.rows <= ROWS_MAX:
        raise BadRequestError(f"rows: must be 1 to {ROWS_MAX}, is {request.rows}")
    expected = request.rows * features.FEATURE_COUNT * 4
    if len(request.features) != expected:
        raise BadRequestError(f"features: must be {expected} bytes for {request.rows} rows, is {len(request.features)}")
    rows = np.frombuffer(request.features, "<f4").reshape(request.rows, features.FEATURE_COUNT)
    if not bool(np.isfinite(rows).all()):
        raise BadRequestError("features: must be finite numbers")
    return rows


def costs_of(request: fraud_pb2.ScoreRequest) -> Costs | None:
    """None = the card's. Raises BadRequestError."""
    if not request.HasField("costs"):
        return None
    try:
        return costs_from({name: getattr(request.costs, name) for name in request.costs.DESCRIPTOR.fields_by_name})
    except CostsError as error:
        raise BadRequestError(str(error)) from error


def may_call(auth_context: Mapping[str, Iterable[bytes]], roles: frozenset[str] = ROLES) -> bool:
    uris = [uri.decode(errors="replace") for uri in auth_context.get("peer_uri", ())]
    return len(uris) == 1 and uris[0].startswith(SPIFFE_PREFIX) and uris[0][len(SPIFFE_PREFIX) :].split("/")[0] in roles


class FraudServicer(fraud_pb2_grpc.FraudServiceServicer):
    def __init__(self, slots: Slots, metrics: Metrics) -> None:
        self._slots = slots
        self._metrics = metrics

    async def Score(self, request: fraud_pb2.ScoreRequest, context: Any) -> fraud_pb2.ScoreResponse:  # noqa: N802
        await self._check_role(context)
        started_at = time.perf_counter()
        try:
            rows, costs = rows_of(request), costs_of(request)
        except BadRequestError as error:
            self._metrics.refused.labels("bad_request").inc()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        version = self._slots.champion.version
        scored, shadow = self._slots.score(rows, costs)
        self._metrics.seconds.observe(time.perf_counter() - started_at)
        self._metrics.rows.observe(len(rows))
        for decision in (FraudDecision.ALLOW, FraudDecision.HOLD, FraudDecision.REFUSE):
            count = int(np.count_nonzero(scored.decisions == decision))
            if count:
                self._metrics.scores.labels(decision.name.lower()).inc(count)
        if shadow is not None:
            for view, count in disagreements(scored, shadow).items():
                self._metrics.shadow.labels(view).inc(count)
        return fraud_pb2.ScoreResponse(
            probabilities=scored.probabilities.astype("<f4", copy=False).tobytes(),
            reasons=scored.reasons.tobytes(),
            decisions=scored.decisions.tobytes(),
            model_version=version,
        )

    async def GetModel(self, request: fraud_pb2.GetModelRequest, context: Any) -> fraud_pb2.GetModelResponse:  # noqa: N802
        await self._check_role(context)
        champion, challenger, previous = self._slots.champion, self._slots.challenger, self._slots.previous
        return fraud_pb2.GetModelResponse(
            model_version=champion.version,
            feature_schema=features.FEATURE_SCHEMA,
            feature_names=features.FEATURE_NAMES,
            model_sha256=champion.sha256,
            hold_threshold=hold_probability(100_000, champion.costs),
            challenger_sha256=challenger.sha256 if challenger else "",
            previous_sha256=previous.sha256 if previous else "",
        )

    async def LoadModel(self, request: fraud_pb2.LoadModelRequest, context: Any) -> fraud_pb2.LoadModelResponse:  # noqa: N802
        await self._check_role(context, OPERATORS)
        load = self._slots.challenge if request.as_challenger else self._slots.promote
        try:
            model = load(Path(request.model_dir))
        except ModelError as error:
            self._metrics.refused.labels("model").inc()
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"model_dir: {error}")
        _log.info("model %s is %s", model.sha256[:8], "challenger" if request.as_challenger else "champion")
        return fraud_pb2.LoadModelResponse(model_sha256=model.sha256)

    async def RollBackModel(  # noqa: N802
        self, request: fraud_pb2.RollBackModelRequest, context: Any
    ) -> fraud_pb2.RollBackModelResponse:
        await self._check_role(context, OPERATORS)
        try:
            model = self._slots.roll_back()
        except ModelError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        _log.info("rolled back to model %s", model.sha256[:8])
        return fraud_pb2.RollBackModelResponse(model_sha256=model.sha256)

    async def _check_role(self, context: Any, roles: frozenset[str] = ROLES) -> None:
        if not may_call(context.auth_context(), roles):
            self._metrics.refused.labels("role").inc()
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"only {' and '.join(sorted(roles))} may call this")


def build_server(
    config: FraudConfig, model: Model, registry: CollectorRegistry
) -> tuple[grpc.aio.Server, health.aio.HealthServicer, int]:
    """The server, its health and its port. Raises OSError when the address cannot be listened on."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.http2.lookahead_bytes", MESSAGE_BYTES_MAX),  # a whole batch in one go, without asking for more
        ("grpc.so_reuseport", 0),
    ]
    server, slots = grpc.aio.server(options=options), Slots(model)
    fraud_pb2_grpc.add_FraudServiceServicer_to_server(FraudServicer(slots, Metrics(registry, slots)), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    service = fraud_pb2.DESCRIPTOR.services_by_name["FraudService"].full_name
    names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    credentials = grpc.ssl_server_credentials(
        [(config.key.read_bytes(), config.cert.read_bytes())],
        root_certificates=config.ca.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port(config.grpc_address, credentials)
    if port == 0:
        raise OSError(f"listen.grpc: cannot listen on {config.grpc_address}")
    return server, health_servicer, port


def warm_up(model: Model) -> int:
    """Compiles and loads all that a call runs, for the first one is on somebody's payment. Returns up to how many rows
    the compiled trees are the quicker engine."""
    rows = model.calibrate()
    unused = Slots(model)  # its counts are nobody's drift
    unused.score(np.zeros((1, features.FEATURE_COUNT), dtype=np.float32))
    unused.score(np.array(model.card["golden"]["rows"][-1:], dtype=np.float32))  # the riskiest: its reasons too
    return rows


async def serve(config: FraudConfig, model: Model) -> None:
    """Runs until SIGTERM."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    server, server_health, _ = build_server(config, model, registry)
    host, _, port = config.metrics_address.rpartition(":")
    start_http_server(int(port), host, registry=registry)
    rows = warm_up(model)
    _log.info("up to %d rows are scored by the compiled trees, more by CatBoost", rows)
    await server.start()
    await server_health.set("", health_pb2.HealthCheckResponse.SERVING)
    _log.info("fraud sidecar serves model %s on %s", model.sha256[:8], config.grpc_address)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await server.stop(1.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fraud.serve", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the sidecar's TOML file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(arguments.config)
        asyncio.run(serve(config, load_model(config.model_dir)))
    except (ConfigError, ModelError, OSError) as error:
        print(f"kibubu fraud: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
