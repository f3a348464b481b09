"""What the fraud check costs: payments with it and without, in turns on one cluster, and the sidecar's call alone."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc

from cluster import rolling
from cluster.bench.measured import Measured
from cluster.bench.people import People, Size, make_people
from cluster.bench.run import Pace, check_books, measure_one
from cluster.bench.settings import PAYMENTS, Setting
from cluster.calls import Caller, operator_caller
from cluster.layout import Layout

SHARE_MIN = 0.95  # of the throughput without the check
P99_MS_MAX, ONE_ROW_MS_MAX = 5.0, 0.5  # of a call, with a core free
ROWS = (1, 64, 256, 1_024, 8_000)
CALLS_MAX, CALL_ROWS_MAX = 2_000, 200_000  # of each size
_ON, _OFF = Setting(PAYMENTS, 1, 256, fraud_in_path=True), Setting(PAYMENTS, 1, 256)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Turns:
    """Payments a second and CPU of all processes, medians of the turns."""

    on_per_second: float
    off_per_second: float
    on_cpu_us: float
    off_cpu_us: float
    decided: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"fraud check: {self.on_per_second:,.0f} payments/s with it, {self.off_per_second:,.0f} without: "
            f"{self.on_per_second / self.off_per_second:.3f} of the throughput (target: {SHARE_MIN:g}); "
            f"{self.on_cpu_us:.1f} us CPU each against {self.off_cpu_us:.1f}; {self.decided}"
        )


@dataclass(frozen=True, slots=True)
class CallTimes:
    """One call at a time, nothing else at work."""

    rows: int
    p50_ms: float
    p99_ms: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        target = f" (target: under {ONE_ROW_MS_MAX:g} ms)" if self.rows == 1 else ""
        return (
            f"score call of {self.rows:,} rows: p50 {self.p50_ms:.2f} ms{target}, "
            f"p99 {self.p99_ms:.2f} ms (target: under {P99_MS_MAX:g})"
        )


def measure_fraud_cost(layout: Layout, pace: Pace, size: Size, say: Say) -> tuple[list[CallTimes], Turns]:
    """Leaves the cluster as it was. Raises WrongBooksError and ClusterError."""
    with operator_caller(layout, deadline_s=60) as caller:
        calls = [call_times(layout, caller, rows) for rows in ROWS]
        for one in calls:
            say(one.line())
        people = make_people(layout, caller, [_ON], size, say)
        turns = _turns(layout, caller, people, pace, say)
        say(turns.line())
        check_books(layout, caller, say)
    return calls, turns


def call_times(layout: Layout, caller: Caller, rows: int) -> CallTimes:
    stub: Any = fraud_pb2_grpc.FraudServiceStub(caller.channel(layout.fraud_address))
    request = _request(layout, stub, rows)
    count = min(CALLS_MAX, max(100, CALL_ROWS_MAX // rows))
    for _ in range(count // 10):
        stub.Score(request)
    times_ms = []
    for _ in range(count):
        started_at = time.perf_counter()
        stub.Score(request)
        times_ms.append((time.perf_counter() - started_at) * 1e3)
    return CallTimes(rows, *(float(np.quantile(times_ms, share)) for share in (0.5, 0.99)))


def _request(layout: Layout, stub: Any, rows: int) -> fraud_pb2.ScoreRequest:
    """The rows that the model's card proves it by, as often as it takes."""
    card = json.loads((layout.fraud_model_dir / "card.json").read_text(encoding="utf-8"))
    golden = np.array(card["golden"]["rows"], dtype="<f4")
    schema = stub.GetModel(fraud_pb2.GetModelRequest()).feature_schema
    features = np.resize(golden, (rows, golden.shape[1]))
    return fraud_pb2.ScoreRequest(feature_schema=schema, rows=rows, features=features.tobytes())


def _turns(layout: Layout, caller: Caller, people: People, pace: Pace, say: Say) -> Turns:
    rows: dict[bool, list[Measured]] = {True: [], False: []}
    once = Pace(pace.seconds, 1, pace.warm_up_s)
    texts = {node_id: layout.config_file(node_id).read_text(encoding="utf-8") for node_id in layout.node_ids}
    try:
        for turn in range(pace.repeats):
            for on in (True, False) if turn % 2 == 0 else (False, True):  # so that neither is always the later one
                _switch(layout, caller, texts, on=on)
                say("with the fraud check:" if on else "without it:")
                rows[on].append(measure_one(layout, caller, _ON if on else _OFF, people, once, say))
    finally:
        _switch(layout, caller, texts, on=True)
    decided: dict[str, int] = {}
    for row in rows[True]:
        for name, count in row.others.items():
            decided[name] = decided.get(name, 0) + count
    speeds = [statistics.median(row.per_second.median for row in rows[on]) for on in (True, False)]
    costs = [statistics.median(row.cpu_us_each.median for row in rows[on]) for on in (True, False)]
    return Turns(speeds[0], speeds[1], costs[0], costs[1], decided)


def _switch(layout: Layout, caller: Caller, texts: dict[str, str], *, on: bool) -> None:
    """A node without the sidecar's address does not score, which its records say. Nothing happens where nothing
    changes. `texts`: the nodes' configuration with it."""
    changed = []
    for node_id, text in texts.items():
        path = layout.config_file(node_id)
        wanted = text if on else re.sub(r"^\[fraud\]\n(?:.+\n)*", "", text, flags=re.MULTILINE)
        if path.read_text(encoding="utf-8") != wanted:
            path.write_text(wanted, encoding="utf-8")
            changed.append(node_id)
    if changed:
        rolling.restart(layout, caller, changed, lambda _: None)
