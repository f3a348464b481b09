"""The HTTP side, with real calls to a node that is scripted: what a gateway gets when things go wrong, what is counted,
and what is never written down."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from kibubu.payments.v1 import payments_pb2
from prometheus_client import CollectorRegistry, generate_latest

from tests.kibubu_client.scripted import BREAKS, LATE, NOT_LEADER, OK
from tests.ussd_edge.edge import PAYER, PIN, Node, counted, running_edge, running_node
from tests.ussd_edge.wires import CODE
from ussd_edge.app import GatewaySettings, UssdApp
from ussd_edge.guard import Access
from ussd_edge.limits import BODY_BYTES_MAX

SECRET = "s3cret"
URL = "/ussd/africastalking"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as node:
        yield node


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def edge(
    node: Node, tmp_path: Path, registry: CollectorRegistry
) -> AsyncIterator[tuple[UssdApp, httpx.AsyncClient]]:
    gateways = {"africastalking": GatewaySettings(Access(secret=SECRET.encode()))}
    async with running_edge(tmp_path, node, gateways=gateways, registry=registry, deadline_s=0.5) as (app, client):
        client.headers["x-kibubu-gateway-secret"] = SECRET
        yield app, client


@pytest.fixture
def app(edge: tuple[UssdApp, httpx.AsyncClient]) -> UssdApp:
    return edge[0]


@pytest.fixture
def gateway(edge: tuple[UssdApp, httpx.AsyncClient]) -> httpx.AsyncClient:
    return edge[1]


def form(text: str) -> dict[str, str]:
    return {"sessionId": "s1", "serviceCode": CODE, "phoneNumber": f"+{PAYER}", "text": text}


async def test_the_last_step_again_is_the_same_payment_and_not_a_second(gateway: httpx.AsyncClient, node: Node) -> None:
    first = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    again = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert first.text == again.text
    assert first.text.startswith("END Sent KES 500.00")
    assert node.batches[0] == node.batches[1]
    other_pin = await gateway.post(URL, data=form("1*0712000002*500*1357"))  # a mistyped retry is no second payment
    assert other_pin.text == first.text
    assert node.batches[2] == node.batches[0]
    await gateway.post(URL, data=form("1*0712000002*501*2468"))
    assert node.batches[3] != node.batches[0]


@pytest.mark.parametrize(
    ("word", "words", "outcome"),
    [
        (NOT_LEADER, "Nothing was paid. Please try again.", "not_applied"),
        (BREAKS, "Do NOT pay again now", "unknown"),
        (LATE, "Do NOT pay again now", "unknown"),
    ],
)
async def test_an_answer_that_does_not_come_is_an_honest_screen(
    gateway: httpx.AsyncClient, node: Node, registry: CollectorRegistry, word: str, words: str, outcome: str
) -> None:
    node.script = deque([word])
    answer = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert answer.status_code == 200
    assert answer.text.startswith("END ")
    assert words in answer.text
    assert counted(registry) == {outcome: 1.0}


async def test_before_the_pin_nothing_can_have_happened(gateway: httpx.AsyncClient, node: Node) -> None:
    node.script = deque([BREAKS])
    assert "Nothing was paid" in (await gateway.post(URL, data=form("1*0712000002*500"))).text


async def test_a_leader_that_dies_between_pin_and_answer_is_asked_again(gateway: httpx.AsyncClient, node: Node) -> None:
    node.script = deque([BREAKS, NOT_LEADER, OK])
    assert (await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))).text.startswith("END Sent KES 500.00")
    assert len(node.batches) == 3
    assert node.batches[0] == node.batches[1] == node.batches[2]


async def test_an_error_shows_a_screen_and_logs_no_content(
    gateway: httpx.AsyncClient, app: UssdApp, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    class BrokenError(Exception):
        pass

    async def pay(request: payments_pb2.MakePaymentRequest) -> None:
        raise BrokenError(f"cannot use {request.pin} of {request.payment.payer_msisdn}")

    app._open[0].pay = pay  # type: ignore[index,method-assign,assignment]
    with caplog.at_level(logging.DEBUG):
        answer = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert "check your balance before you pay again" in answer.text
    assert counted(registry) == {"error": 1.0}
    mine = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("kibubu"))
    assert "BrokenError" in mine
    assert PIN not in caplog.text
    assert PAYER not in caplog.text


async def test_only_the_gateway_is_served(gateway: httpx.AsyncClient, node: Node, registry: CollectorRegistry) -> None:
    for headers in ({"x-kibubu-gateway-secret": "guess"}, {"x-kibubu-gateway-secret": ""}):
        assert (await gateway.post(URL, data=form(""), headers=headers)).status_code == 403
    assert counted(registry) == {"forbidden": 2.0}
    assert node.batches == []


async def test_bodies_have_a_limit(gateway: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    assert (await gateway.post(URL, content=b"x" * BODY_BYTES_MAX)).status_code == 400
    assert (await gateway.post(URL, content=b"x" * (BODY_BYTES_MAX + 1))).status_code == 413
    assert counted(registry) == {"bad_request": 2.0}


async def test_only_what_a_gateway_speaks_is_heard(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get(URL)).headers["allow"] == "POST"
    for path in ("/", "/ussd", "/ussd/", "/ussd/hubtel", "/ussd/africastalking/", "/ussd/africastalking/event", "/x"):
        assert (await gateway.post(path, data=form(""))).status_code == 404, path
    assert (await gateway.get("/livez")).text == "ok"
    assert (await gateway.post("/livez")).status_code == 404


async def test_health_is_that_a_leader_answers(
    gateway: httpx.AsyncClient, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer must not send customers to an edge that can only say that it cannot."""
    monkeypatch.setattr("ussd_edge.readiness.GOOD_FOR_S", 0.0)
    assert ((await gateway.get("/healthz")).status_code, (await gateway.get("/healthz")).text) == (200, "ok")
    node.leads = False
    answer = await gateway.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "no leader is reachable")
    assert (await gateway.get("/livez")).status_code == 200
    node.leads = True
    assert (await gateway.get("/healthz")).status_code == 200


async def test_asking_often_does_not_load_the_nodes(gateway: httpx.AsyncClient, node: Node) -> None:
    for _ in range(20):
        assert (await gateway.get("/healthz")).status_code == 200
    assert node.lookups <= 2


async def test_the_end_of_a_session_is_counted(gateway: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    event = {
        "date": "2026-11-24 10:00:00", "sessionId": "s1", "serviceCode": CODE, "networkCode": "63902",
        "phoneNumber": f"+{PAYER}", "status": "Incomplete", "cost": "KES 0.2000", "durationInMillis": "12000",
        "hopsCount": "3", "input": "1*0712000002", "lastAppResponse": "CON Enter amount in KES",
        "errorMessage": "Session timed out", "retryCount": "0",
    }  # fmt: skip
    answer = await gateway.post(f"{URL}/events", data=event)
    assert (answer.status_code, answer.text) == (200, "")
    assert (await gateway.post(f"{URL}/events", data=event | {"status": "Lost"})).status_code == 400
    page = generate_latest(registry).decode()
    assert 'kibubu_ussd_sessions_ended_total{ending="incomplete",gateway="africastalking"} 1.0' in page


async def test_steps_are_counted_by_gateway_and_outcome(
    gateway: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    for text in ("", "1", "0", f"1*0712000002*500*{PIN}", "9" * 5_000):
        await gateway.post(URL, data=form(text))
    await gateway.post(URL, data=form("") | {"serviceCode": "*999#"})
    assert counted(registry) == {"continue": 2.0, "exit": 1.0, "ok": 1.0, "too_long": 1.0, "unknown_service_code": 1.0}
    page = generate_latest(registry).decode()
    assert 'kibubu_ussd_step_seconds_count{gateway="africastalking"} 6.0' in page
    assert PIN not in page
    assert PAYER not in page
