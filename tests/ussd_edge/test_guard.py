"""Who may call as a gateway, and how often."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.ussd_edge.edge import Node, counted, running_edge, running_node
from tests.ussd_edge.wires import AfricasTalking, Airtel, Arkesel, Mtn, Safaricom, Wire
from ussd_edge.app import GatewaySettings
from ussd_edge.gateways.seam import HttpCall
from ussd_edge.guard import Access, signature
from ussd_edge.rates import RateLimit


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as node:
        yield node


async def status(client: httpx.AsyncClient, wire: Wire, **headers: str) -> int:
    method, path, content = wire.begin()
    return (await client.request(method, path, headers=headers, **content)).status_code


async def test_each_gateway_shows_its_secret_in_its_own_place(node: Node, tmp_path: Path) -> None:
    gateways = {
        name: GatewaySettings(Access(secret=secret))
        for name, secret in (("arkesel", b"one"), ("mtn", b"two"), ("airtel", b"u:p"), ("africastalking", b"four"))
    }
    registry = CollectorRegistry()
    async with running_edge(tmp_path, node, gateways=gateways, registry=registry) as (_, client):
        own = "x-kibubu-gateway-secret"
        assert await status(client, Arkesel(), **{own: "one"}) == 200
        assert await status(client, Mtn(), **{"x-api-key": "two"}) == 200
        assert await status(client, Airtel()) == 200
        assert counted(registry) == {"continue": 1.0}
        for wire, headers in (
            (Arkesel(), {}), (Arkesel(), {own: "two"}), (Arkesel(), {own: ""}), (Arkesel(), {"x-api-key": "one"}),
            (Mtn(), {own: "two"}), (Mtn(), {"x-api-key": "tw"}), (AfricasTalking(), {own: "one"}),
        ):  # fmt: skip
            assert await status(client, wire, **headers) == 403
        assert (await client.get("/ussd/airtel?userid=u&password=q&SessionID=s&MSISDN=254712000001")).status_code == 403
        assert (await client.get("/ussd/airtel?%ff")).status_code == 403
        assert await status(client, Safaricom()) == 404  # not configured, so not there


async def test_a_signature_covers_all_that_is_sent(node: Node, tmp_path: Path) -> None:
    key = b"hmac key"
    gateways = {name: GatewaySettings(Access(hmac_key=key)) for name in ("africastalking", "safaricom")}
    async with running_edge(tmp_path, node, gateways=gateways) as (_, client):

        async def send(method: str, path: str, query: bytes, body: bytes, signed: bytes) -> int:
            url = f"/ussd/{path}" + (f"?{query.decode()}" if query else "")
            headers = {"x-kibubu-signature": signed.decode()}
            return (await client.request(method, url, content=body, headers=headers)).status_code

        body = b"sessionId=s1&serviceCode=*384*100%23&phoneNumber=%2B254712000001&text="
        right = signature(key, "africastalking", HttpCall("POST", "", b"", {}, body))
        assert await send("POST", "africastalking", b"", body, right) == 200
        assert await send("POST", "africastalking", b"", body, right.upper()) == 200
        assert await send("POST", "africastalking", b"", body + b"1", right) == 403
        assert await send("POST", "africastalking/events", b"", body, right) == 403
        assert await send("POST", "africastalking", b"", body, b"") == 403
        query = b"ORIG=254712000001&DEST=384&SESSION_ID=s1&USSD_PARAMS=100"
        right = signature(key, "safaricom", HttpCall("GET", "", query, {}, b""))
        assert await send("GET", "safaricom", query, b"", right) == 200
        assert await send("GET", "safaricom", query + b"*1", b"", right) == 403


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("203.0.113.9", 200), ("203.0.114.9", 403), ("2001:db8::1", 200), ("2001:db8::2", 403),
        ("::ffff:203.0.113.9", 200), ("", 403), ("unix", 403),
    ],
)  # fmt: skip
async def test_only_addresses_of_the_list(node: Node, tmp_path: Path, address: str, code: int) -> None:
    networks = (ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8::1"))
    gateways = {"arkesel": GatewaySettings(Access(secret=b"one", networks=networks))}
    async with running_edge(tmp_path, node, gateways=gateways, address=address) as (_, client):
        assert await status(client, Arkesel(), **{"x-kibubu-gateway-secret": "one"}) == code
        assert await status(client, Arkesel()) == 403  # both must fit


async def test_each_gateway_has_its_own_rate(node: Node, tmp_path: Path) -> None:
    gateways = {name: GatewaySettings(steps_per_second_max=2) for name in ("arkesel", "mtn")}
    registry = CollectorRegistry()
    async with running_edge(tmp_path, node, gateways=gateways, registry=registry) as (app, client):
        app._gateway_rates = {name: RateLimit(2, 3_600, keys_max=1) for name in gateways}
        assert [await status(client, Arkesel()) for _ in range(3)] == [200, 200, 429]
        method, path, content = Arkesel().begin()
        assert (await client.request(method, path, **content)).headers["retry-after"] == "1"
        assert await status(client, Mtn()) == 200


@given(st.integers(1, 50), st.lists(st.integers(0, 400), max_size=200))
def test_within_any_period_a_key_gets_at_most_two_bursts(burst: int, gaps_ms: list[int]) -> None:
    """The bucket is full at the start and fills again within a period."""
    rate, now_ms, allowed = RateLimit(burst, 1.0, keys_max=10), 1_000_000, []
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        if rate.allows("a", now_ms / 1_000):
            allowed.append(now_ms)
    assert all(sum(start <= at < start + 1_000 for at in allowed) <= 2 * burst for start in allowed)
    assert len(allowed) >= min(burst, len(gaps_ms))


def test_the_longest_unseen_key_is_forgotten() -> None:
    rate = RateLimit(1, 60.0, keys_max=2)
    assert [rate.allows(key, 1.0) for key in ("a", "b", "a", "c")] == [True, True, False, True]
    assert rate.allows("a", 1.0)  # forgotten for c; it is let through, never held back
    assert not rate.allows("a", 1.0)
