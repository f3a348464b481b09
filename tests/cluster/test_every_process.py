"""What every process of a real cluster must show and must never show: health, reflection, metrics; no PIN, no number,
no key."""

from __future__ import annotations

import base64
import re
import secrets
import threading
from collections.abc import Iterator

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from cluster import lifecycle, processes
from cluster.calls import CHANNEL_OPTIONS, Caller, channel_credentials
from cluster.certificates import tls_paths
from cluster.demo import DEMO_PIN
from cluster.health import find_leader
from cluster.ids import new_id
from cluster.layout import EDGE, FRAUD, NODE_IDS, REVIEW, SMS, Layout
from tests.cluster.phone import Customer, balance_minor, dial, pay, promql, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
SERVICES = {
    "node": {
        f"kibubu.{name.lower()}.v1.{name}Service"
        for name in ("Ledger", "Payments", "Admin", "Review", "Config", "Feed", "Bulk")
    }
    | {"kibubu.payments.v1.PayRequestsService"},
    "fraud": {"kibubu.fraud.v1.FraudService"},
}
OF_GRPC = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def addresses(layout: Layout) -> dict[str, set[str]]:
    return dict.fromkeys(layout.api_addresses, SERVICES["node"]) | {layout.fraud_address: SERVICES["fraud"]}


def reflected(channel: grpc.Channel, **question: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(**question)  # type: ignore[arg-type]
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    return answer


def test_reflection_describes_every_service(cluster: Layout, operator: Caller) -> None:
    for address, services in addresses(cluster).items():
        channel = operator.channel(address)
        listed = {service.name for service in reflected(channel, list_services="").list_services_response.service}
        assert listed == services | OF_GRPC
        for name in services:
            described = reflected(channel, file_containing_symbol=name)
            assert described.WhichOneof("message_response") == "file_descriptor_response"


def test_health_is_served_once_and_as_a_stream(cluster: Layout, operator: Caller) -> None:
    request = health_pb2.HealthCheckRequest()
    for address in addresses(cluster):
        stub = health_pb2_grpc.HealthStub(operator.channel(address))
        wait_for(lambda s=stub: s.Check(request, timeout=5).status == health_pb2.HealthCheckResponse.SERVING)
        watching = stub.Watch(request, timeout=5)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()


def test_an_edge_may_ask_for_health_and_not_for_the_services(cluster: Layout, operator: Caller) -> None:
    credentials = channel_credentials(tls_paths(cluster.certificates, "edge", "edge"))
    with grpc.secure_channel(cluster.api_address("n1"), credentials, options=CHANNEL_OPTIONS) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        with pytest.raises(grpc.RpcError) as caught:
            reflected(channel, list_services="")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


# --- metrics ---------------------------------------------------------------------------------------------------------

OF_A_NODE = (
    'kibubu_transfers_total{kind="single",outcome="ok"}', 'kibubu_transfers_total{kind="pending",outcome="refused"}',
    "kibubu_batch_transfers_bucket", "kibubu_queue_length", "kibubu_payment_queue_length",
    "kibubu_queue_refusals_total", "kibubu_raft_term", 'kibubu_raft_role{role="leader"}', "kibubu_raft_commit_position",
    "kibubu_raft_applied_position", "kibubu_raft_durable_position", "kibubu_fraud_call_seconds_bucket",
    'kibubu_commit_seconds_count{stage="apply"}', "process_resident_memory_bytes", "process_cpu_seconds_total",
)  # fmt: skip
OF_A_LEADER = (
    'kibubu_payments_total{kind="send_money",outcome="ok"}', "kibubu_raft_lag_entries{peer=", "kibubu_pin_wrong_total",
    'kibubu_fraud_decisions_total{decision="allow"}',
    *(f'kibubu_commit_seconds_count{{stage="{stage}"}}' for stage in ("admit", "score", "replicate", "total")),
)  # fmt: skip
OF_THE_SIDECAR = (
    'kibubu_fraud_scores_total{decision="allow"}', "kibubu_fraud_score_seconds_bucket",
    "kibubu_fraud_batch_rows_bucket", "kibubu_fraud_model_info{", "process_resident_memory_bytes",
)  # fmt: skip
OF_THE_EDGE = (
    'kibubu_ussd_steps_total{gateway="africastalking",outcome="continue"}', "kibubu_ussd_step_seconds_bucket",
    "process_resident_memory_bytes",
)  # fmt: skip
OF_THE_OUTBOX = (
    "kibubu_sms_texts_total", "kibubu_sms_queue_length", "kibubu_sms_oldest_seconds", "kibubu_sms_feed_lag_entries",
    "process_resident_memory_bytes",
)  # fmt: skip
OF_THE_REVIEW_PAGE = ("kibubu_review_answers_total{", "kibubu_fraud_matured_rows 0.0", "process_resident_memory_bytes")
UNITS = (
    "seconds", "bytes", "total", "entries", "position", "transfers", "rows", "length", "term", "role", "info",
    "connected", "accounts", "psi", "share",
)  # fmt: skip


def metrics_page(layout: Layout, name: str) -> str:
    return httpx.get(f"http://{layout.metrics_address(name)}/metrics", timeout=10).text


def test_every_process_serves_its_metrics_with_units_in_the_names(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    wait_for(
        lambda: pay(operator, customer(), customer(), 20_000).decision == 1
    )  # a sidecar's first answer may be late
    dial(cluster, "254712000001", "")
    leader = find_leader(operator, cluster)
    wanted = dict.fromkeys(NODE_IDS, OF_A_NODE) | {FRAUD: OF_THE_SIDECAR, EDGE: OF_THE_EDGE, SMS: OF_THE_OUTBOX}
    wanted[REVIEW] = OF_THE_REVIEW_PAGE
    wanted[leader] = OF_A_NODE + OF_A_LEADER
    for name, metrics in wanted.items():
        page = metrics_page(cluster, name)
        assert [metric for metric in metrics if metric not in page] == [], name
        for line in page.splitlines():
            if line.startswith("# HELP kibubu_"):
                assert len(line.split(maxsplit=3)[3]) > 5
            if line.startswith("# TYPE kibubu_") and not line.split()[2].endswith("_created"):
                assert line.split()[2].rsplit("_", 1)[1] in UNITS, line


def test_prometheus_scrapes_every_process_and_evaluates_every_rule(cluster: Layout, operator: Caller) -> None:
    wait_for(lambda: promql(cluster, "count(up == 1)") == len(NODE_IDS) + 5)
    answer = httpx.get(f"http://{cluster.prometheus_address}/api/v1/rules", timeout=10).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


# --- what must not be there ------------------------------------------------------------------------------------------


def shown(content: bytes, hidden: dict[str, re.Pattern[bytes]]) -> list[str]:
    return [what for what, pattern in hidden.items() if pattern.search(content)]


def digits(text: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![0-9])" + text.encode() + rb"(?![0-9])")


def secrets_of(layout: Layout) -> dict[str, re.Pattern[bytes]]:
    key = layout.pin_key_file.read_bytes()
    forms = {"raw": key, "hex": key.hex().encode(), "base64": base64.b64encode(key)}
    hidden = {f"PIN key, {form}": re.compile(re.escape(content)) for form, content in forms.items()}
    for path in layout.certificates.glob("*.key"):
        line = path.read_bytes().splitlines()[1]
        hidden[path.name] = re.compile(re.escape(line))
    return hidden


def pages(layout: Layout) -> Iterator[tuple[str, bytes]]:
    for path in (layout.home / "logs").iterdir():
        yield path.name, path.read_bytes()
    for name in (*NODE_IDS, FRAUD, EDGE):
        yield f"metrics of {name}", metrics_page(layout, name).encode()


def unused_pin(layout: Layout) -> str:
    """Four digits that no log holds by chance, as a port or part of a time."""
    content = b"".join(page for _, page in pages(layout))
    while True:
        pin = f"{secrets.randbelow(9_000) + 1_000}"
        if pin != DEMO_PIN and not digits(pin).search(content):
            return pin


def test_no_log_and_no_metric_holds_a_pin_a_number_or_a_key(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    wrong = unused_pin(cluster)
    payer, payee, locked = customer(), customer(), customer()
    dial(cluster, payer, f"1*{payee}*77*{wrong}*{DEMO_PIN}", "logged")
    dial(cluster, payer, f"1*0{payee[3:]}*77*{wrong}x*{DEMO_PIN}", "logged 2".replace(" ", "-"))
    dial(cluster, payer, f"5*{wrong}", "balance")
    for number in range(3):
        dial(cluster, locked, f"5*{wrong}", f"lock-{number}")
    pay(operator, payer, payee, 10_000, pin=wrong)
    broken = payments_pb2.MakePaymentRequest(
        payment=payments_pb2.Payment(payment_id=b"x", payer_msisdn=payer, payee=payee), pin=wrong
    )
    for request in (broken, payments_pb2.MakePaymentRequest(pin=wrong)):
        stub = payments_pb2_grpc.PaymentsServiceStub(
            operator.channel(cluster.api_address(find_leader(operator, cluster)))
        )
        with pytest.raises(grpc.RpcError):
            stub.MakePayment(request, timeout=5)
    hidden = {f"PIN {wrong}": digits(wrong)} | secrets_of(cluster)
    for number in (payer, payee, locked):
        hidden |= {number: digits(number), f"0{number[3:]}": digits(f"0{number[3:]}"), number[3:]: digits(number[3:])}
    found = {name: what for name, content in pages(cluster) if (what := shown(content, hidden))}
    assert found == {}


def test_a_planted_secret_is_found(cluster: Layout) -> None:
    hidden = {"PIN": digits("1357"), "number": digits("254712000001")} | secrets_of(cluster)
    assert shown(b"at 13:57 of 11357 or 254712000001x", hidden) == ["number"]
    assert shown(b"pin=1357", hidden) == ["PIN"]
    key = cluster.pin_key_file.read_bytes()
    for content in (key, key.hex().encode(), base64.b64encode(key)):
        assert len(shown(b"key " + content, hidden)) == 1
    assert shown((cluster.certificates / "node-n1.key").read_bytes(), hidden) == ["node-n1.key"]


# --- the edge and a dying leader -------------------------------------------------------------------------------------


def test_the_leader_dies_between_pin_and_answer(cluster: Layout, operator: Caller, customer: Customer) -> None:
    """Whatever the phone is told, the gateway's retry gets the outcome, and the money has moved exactly once."""
    payees = [customer(opening_minor=1) for _ in range(6)]
    payers = [customer() for _ in payees]
    killed = find_leader(operator, cluster)
    answers: dict[str, list[str]] = {payer: [] for payer in payers}

    def phone(payer: str, payee: str) -> None:
        answers[payer].append(dial(cluster, payer, f"1*{payee}*500*{DEMO_PIN}", f"dying-{payer}"))

    phones = [threading.Thread(target=phone, args=pair) for pair in zip(payers, payees, strict=True)]
    for thread in phones[:3]:
        thread.start()
    processes.kill(cluster.pid_file(killed))
    for thread in phones[3:]:
        thread.start()
    for thread in phones:
        thread.join()
    for payer, payee in zip(payers, payees, strict=True):
        (first,) = answers[payer]
        assert first.startswith("END Sent KES 500.00") or "Do NOT pay again" in first or "Nothing was paid" in first
        retry = dial(cluster, payer, f"1*{payee}*500*{DEMO_PIN}", f"dying-{payer}")
        assert retry.startswith("END Sent KES 500.00"), retry
        if first.startswith("END Sent"):
            assert retry == first
        assert (balance_minor(operator, payer), balance_minor(operator, payee)) == (949_300, 50_001)
    assert lifecycle.start_service(cluster, killed)


def test_a_payment_that_was_not_told_is_looked_up(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payment_id, payer, payee = new_id(), customer(), customer()
    stub = payments_pb2_grpc.PaymentsServiceStub
    request = payments_pb2.LookupPaymentRequest(payment_id=payment_id)
    assert not operator.leader(lambda c: stub(c).LookupPayment, request).found
    pay(operator, payer, payee, 10_000, payment_id=payment_id)
    found = operator.leader(lambda c: stub(c).LookupPayment, request)
    assert (found.found, found.payment.amount_minor, found.outcome.status_name) == (True, 10_000, "ok")
