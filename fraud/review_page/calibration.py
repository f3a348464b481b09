"""Does the model's probability mean what it says? Of payments whose label is old enough, the mean probability beside
the share that turned out to be fraud. Most labels are of payments that were held: both numbers are of those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kibubu.review.v1 import review_pb2, review_pb2_grpc
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kibubu_client import KibubuError
from kibubu_client.leader import LeaderCaller

MATURE_S = 7 * 86_400.0  # by then a customer who complains has complained
EVERY_S = 60.0
PAGE, LABELS_MAX = 500, 100_000  # looked at in one round
DEADLINE_S = 5.0
_log = logging.getLogger("kibubu.review")


@dataclass(frozen=True, slots=True)
class Calibration:
    rows: int = 0  # labelled payments that the model has scored
    fraud_share: float = 0.0
    score_share: float = 0.0  # mean probability


def calibration_of(labels: Iterable[review_pb2.Label]) -> Calibration:
    scored = [(label.score_ppm / 1e6, label.is_fraud) for label in labels if label.model_version]
    if not scored:
        return Calibration()
    probabilities, frauds = zip(*scored, strict=True)
    return Calibration(len(scored), sum(frauds) / len(scored), sum(probabilities) / len(scored))


class CalibrationWatch(Collector):
    """`run` asks the ledger now and then; what it said last is the metric."""

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._time_ns = time_ns
        self.now = Calibration()

    def collect(self) -> Iterator[Metric]:
        for name, told, value in (
            ("kibubu_fraud_matured_rows", "Scored payments with a label that is old enough", self.now.rows),
            ("kibubu_fraud_matured_fraud_share", "Of these, the share that was fraud", self.now.fraud_share),
            ("kibubu_fraud_matured_score_share", "Of these, the mean probability", self.now.score_share),
        ):
            metric = GaugeMetricFamily(name, told)
            metric.add_metric([], value)
            yield metric

    async def run(self, leader: LeaderCaller) -> None:
        while True:
            try:
                self.now = calibration_of(await self._labels(leader))
            except KibubuError as error:
                _log.warning("labels were not read: %s", type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def _labels(self, leader: LeaderCaller) -> list[review_pb2.Label]:
        until_ns, token = self._time_ns() - int(MATURE_S * 1e9), ""
        found: list[review_pb2.Label] = []
        while len(found) < LABELS_MAX:
            request = review_pb2.ListLabelsRequest(page_size=PAGE, page_token=token, until_ns=until_ns)
            answer = await leader.call(review_pb2_grpc.ReviewServiceStub, "ListLabels", request, DEADLINE_S)
            found += answer.labels
            token = answer.next_page_token
            if not token:
                break
        return found
