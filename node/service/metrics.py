"""The node's Prometheus metrics; units stand in the names."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from node.consensus.contract import EngineStatus

STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2, 5)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000, 8_190)
CALL_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)


class NodeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        stages = Histogram(
            "kibubu_commit_seconds",
            "Time of a request by stage: admit = in the queue, score = fraud check, replicate = log to applied, total",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.stage_admit = stages.labels("admit")
        self.stage_score = stages.labels("score")
        self.stage_replicate = stages.labels("replicate")
        self.stage_apply = stages.labels("apply")
        self.stage_total = stages.labels("total")
        self.batch_transfers = Histogram(
            "kibubu_batch_transfers", "Transfers in a log entry", buckets=BATCH_BUCKETS, registry=registry
        )
        self.queue_refusals = Counter(
            "kibubu_queue_refusals", "Calls refused because the queue was full", registry=registry
        )
        self.payments = Counter(
            "kibubu_payments", "Payments answered by this node", ["kind", "outcome"], registry=registry
        )
        self.pin_wrong = Counter("kibubu_pin_wrong", "Wrong PIN tries", registry=registry)
        self.fraud_decisions = Counter(
            "kibubu_fraud_decisions", "Fraud decisions made by this node", ["decision"], registry=registry
        )
        self.fraud_call = Histogram(
            "kibubu_fraud_call_seconds", "Time of a sidecar call", buckets=CALL_BUCKETS_S, registry=registry
        )
        self.fraud_misses = Counter(
            "kibubu_fraud_misses", "Sidecar calls without a usable answer", ["reason"], registry=registry
        )
        self.calls = Counter("kibubu_calls", "gRPC calls by method and code", ["method", "code"], registry=registry)


class EngineCollector:
    """Reads the engine and the ledger when scraped, so that the hot path counts nothing twice."""

    def __init__(
        self,
        status: Callable[[], EngineStatus],
        transfers: Callable[[], dict[tuple[str, str], int]],
        accounts_total: Callable[[], int],
        queue_length: Callable[[], int],
        payment_queue_length: Callable[[], int],
    ) -> None:
        self._status = status
        self._transfers = transfers
        self._accounts_total = accounts_total
        self._queue_length = queue_length
        self._payment_queue_length = payment_queue_length

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        transfers = CounterMetricFamily(
            "kibubu_transfers", "Transfers applied by this node since it started", labels=["kind", "outcome"]
        )
        for (kind, outcome), count in self._transfers().items():
            transfers.add_metric([kind, outcome], count)
        yield transfers
        role = GaugeMetricFamily("kibubu_raft_role", "1 for the role that this node has", labels=["role"])
        for name in ("leader", "follower", "candidate"):
            role.add_metric([name], float(status.role == name))
        yield role
        lag = GaugeMetricFamily("kibubu_raft_lag_entries", "Log entries that a peer lacks", labels=["peer"])
        for peer, position in status.match_position.items():
            lag.add_metric([peer], max(0, status.last_index - position))
        yield lag
        yield GaugeMetricFamily("kibubu_raft_term", "Current term", value=status.term)
        yield GaugeMetricFamily("kibubu_raft_commit_position", "Committed", value=status.commit_position)
        yield GaugeMetricFamily("kibubu_raft_applied_position", "Applied", value=status.applied_position)
        yield GaugeMetricFamily("kibubu_raft_durable_position", "In a checkpoint", value=status.durable_position)
        yield GaugeMetricFamily("kibubu_raft_peers_connected", "Peers connected", value=status.peers_connected)
        yield GaugeMetricFamily("kibubu_accounts", "Accounts", value=self._accounts_total())
        yield GaugeMetricFamily(
            "kibubu_queue_length", "Transfers and commands that wait for admission", value=self._queue_length()
        )
        yield GaugeMetricFamily(
            "kibubu_payment_queue_length", "Payments without an outcome yet", value=self._payment_queue_length()
        )


class RateMeter:
    """Transfers per second over the last ten seconds, for the status table."""

    def __init__(self, total: Callable[[], int], window_s: float = 10.0) -> None:
        self._total = total
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self) -> None:
        now = time.monotonic()
        self._samples.append((now, self._total()))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._window_s:
            self._samples.popleft()

    def per_second(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._samples[0], self._samples[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0
