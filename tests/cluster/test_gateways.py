"""Every gateway's own wire format to the running edge, with real money behind it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import httpx
import pytest

from cluster.calls import Caller
from cluster.demo import DEMO_PIN
from cluster.layout import Layout
from tests.cluster.phone import Customer, balance_minor
from tests.ussd_edge.wires import LAST_INPUT, WIRES, Wire, replay
from ussd_edge.menu import texts
from ussd_edge.menu.texts import ENGLISH

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
NewWire = Callable[..., Wire]
RESUME = ENGLISH.resume


def connected(layout: Layout) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{layout.edge_address}", timeout=15)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.__name__)
async def test_the_last_step_five_times_at_once_and_once_more_is_one_payment(
    wire: NewWire, cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, payee = customer(), customer(name="Njeri")
    phone = wire(msisdn=payer, session=secrets.token_hex(8))
    async with connected(cluster) as client:
        shown = await phone.journey(client, "1", payee, "50")
        assert "Send KES 50.00 to Njeri? No fee." in shown.text
        last = phone.typed(DEMO_PIN)
        many = await asyncio.gather(*(replay(phone, client, last) for _ in range(5)))
        many.append(await replay(phone, client, last))
        for call in [*phone.sent, last]:
            await replay(phone, client, call)
    assert len({shown.text for shown in many}) == 1
    assert many[0].text.startswith("Sent KES 50.00 to Njeri. Balance 9,950.00.")
    once = (995_000, 1_005_000)
    if getattr(phone, "with_session", True):  # without a session id, a session that is sent again is a new one
        assert (balance_minor(operator, payer), balance_minor(operator, payee)) == once


async def test_a_dropped_session_goes_on_and_pays_once(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer(name="Njeri")
    async with connected(cluster) as client:
        for wire in WIRES:
            phone = wire(msisdn=payer, session=secrets.token_hex(8))
            await phone.journey(client, "1", payee, "10")
            again = wire(msisdn=payer, session=secrets.token_hex(8))
            assert (await again.dial(client)).text == RESUME
            await again.type(client, "1")
            assert "Sent KES 10.00" in (await again.type(client, DEMO_PIN)).text
            await replay(phone, client, phone.typed(DEMO_PIN))  # the dropped one's PIN arrives after all
    assert balance_minor(operator, payee) == 1_000_000 + 1_000 * len(WIRES)


async def test_no_pin_is_taken_from_a_dialled_code(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer()
    async with connected(cluster) as client:
        for wire in LAST_INPUT:
            phone = wire(msisdn=payer, session=secrets.token_hex(8))
            assert (await phone.dial(client, f"1*{payee}*500*{DEMO_PIN}")).text == texts.PIN_DIALLED
            shown = await wire(msisdn=payer, session=secrets.token_hex(8)).dial(client, f"1*{payee}*500")
            assert "Send KES 500.00" in shown.text
    assert balance_minor(operator, payer) == 1_000_000
