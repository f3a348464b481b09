"""What tests of a real cluster do: dial a code, pay, ask Prometheus, wait."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import httpx
import pytest
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from cluster.accounts import find_account
from cluster.calls import Caller
from cluster.config_files import SERVICE_CODE
from cluster.demo import DEMO_PIN
from cluster.ids import new_id
from cluster.layout import Layout

Customer = Callable[..., str]


def dial(layout: Layout, msisdn: str, text: str, session: str = "s1", code: str = SERVICE_CODE) -> str:
    form = {
        "sessionId": session,
        "serviceCode": code,
        "phoneNumber": f"+{msisdn}",
        "networkCode": "63902",
        "text": text,
    }
    answer = httpx.post(f"http://{layout.edge_address}/ussd/africastalking", data=form, timeout=15)
    assert answer.status_code == 200, answer.text
    return answer.text


def balance_minor(operator: Caller, msisdn: str) -> int:
    return find_account(operator, msisdn).balance_minor


def wait_for(what: Callable[[], object], timeout_s: float = 30) -> None:
    end_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.05)


def pay(
    operator: Caller, payer: str, payee: str, amount_minor: int, *, pin: str = DEMO_PIN, payment_id: bytes = b""
) -> payments_pb2.Outcome:
    payment = payments_pb2.Payment(
        payment_id=payment_id or new_id(), kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=payer, payee=payee,
        amount_minor=amount_minor, currency="KES",
    )  # fmt: skip
    request = payments_pb2.MakePaymentRequest(payment=payment, pin=pin)
    return operator.leader(lambda c: payments_pb2_grpc.PaymentsServiceStub(c).MakePayment, request).outcome


def promql(layout: Layout, query: str) -> float:
    if shutil.which("prometheus") is None:
        pytest.skip("Debian's prometheus is not here and cannot be installed")
    url = f"http://{layout.prometheus_address}/api/v1/query"
    result = httpx.get(url, params={"query": query}, timeout=10).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else -1.0
