"""An unexpected error: the caller learns that the outcome is unknown, the log learns nothing that the caller sent."""

from __future__ import annotations

import logging

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from node.service.guard import Guard
from node.service.metrics import NodeMetrics
from tests.service.hand_driven import HandDriven


class Context:
    """The part of a call's context that a guard speaks to."""

    def __init__(self) -> None:
        self.aborted: tuple[grpc.StatusCode, str] | None = None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.aborted = (code, details)


async def test_what_a_request_holds_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    sent = "pin 2468 of 254712000001"
    metrics, context = NodeMetrics(CollectorRegistry()), Context()
    with caplog.at_level(logging.DEBUG):
        async with Guard(HandDriven(), metrics, lambda: "").call("MakePayment", context):
            raise KeyError(sent)
    assert "KeyError" in caplog.text
    assert "test_guard.py" in caplog.text  # where it was is said
    assert "2468" not in caplog.text
    assert "254712000001" not in caplog.text
    assert context.aborted == (grpc.StatusCode.DEADLINE_EXCEEDED, "internal error; ask again with the same id")
    assert 'kibubu_calls_total{code="INTERNAL",method="MakePayment"} 1.0' in generate_latest(metrics.registry).decode()
