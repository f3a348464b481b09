"""From the phone's keys to the text on both phones, in a real cluster, with the outbox killed at the worst moments."""

from __future__ import annotations

import json
import re
import secrets

import httpx
import pytest

from cluster import lifecycle, processes
from cluster.calls import Caller
from cluster.demo import DEMO_PIN
from cluster.layout import SMS, Layout
from tests.cluster.phone import Customer, dial, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def texts_to(layout: Layout, *msisdns: str) -> list[tuple[str, str]]:
    """(number, text) of every whole line of the file sink, in order."""
    if not layout.sms_file.exists():
        return []
    lines = layout.sms_file.read_text(encoding="utf-8").split("\n")[:-1]
    found = [(line["msisdn"], line["text"]) for line in map(json.loads, lines)]
    return [one for one in found if one[0] in msisdns]


def pay(layout: Layout, payer: str, payee: str, amount: str) -> str:
    """The receipt on the screen."""
    shown = dial(layout, payer, f"1*{payee}*{amount}*{DEMO_PIN}", secrets.token_hex(8))
    found = re.search(r" ([A-Z0-9]{10})$", shown)
    assert found, shown
    return found[1]


def killed(layout: Layout) -> None:
    assert processes.kill(layout.pid_file(SMS))


def test_both_phones_get_each_text_once_whatever_becomes_of_the_outbox(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, payee = customer(name="Njeri"), customer(name="Kamau")
    both = (payer, payee)
    receipts = [pay(cluster, payer, payee, "500")]
    wait_for(lambda: len(texts_to(cluster, *both)) >= 1)
    killed(cluster)  # perhaps between the text and the note that it was sent
    receipts.append(pay(cluster, payer, payee, "300"))
    lifecycle.start_service(cluster, SMS)
    wait_for(lambda: len(texts_to(cluster, *both)) >= 3)
    killed(cluster)
    lifecycle.start_service(cluster, SMS)
    receipts.append(pay(cluster, payer, payee, "200"))
    wait_for(lambda: len(texts_to(cluster, *both)) >= 6)
    texts = texts_to(cluster, *both)
    for receipt, amount in zip(receipts, ("500", "300", "200"), strict=True):
        (sent,) = [text for number, text in texts if number == payer and text.startswith(receipt)]
        (received,) = [text for number, text in texts if number == payee and text.startswith(receipt)]
        assert f"{receipt} Confirmed. Ksh{amount}.00 sent to Kamau 0{payee[3:]} on " in sent
        assert "Transaction cost, Ksh7.00." in sent
        assert f"You have received Ksh{amount}.00 from Njeri 0{payer[3:]} on " in received
    assert len(texts) == 6


def test_a_text_comes_in_the_language_that_the_phone_chose(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, payee = customer(name="Njeri"), customer(name="Kamau")
    assert "Tuma pesa" in dial(cluster, payee, "6*2", secrets.token_hex(8))
    pay(cluster, payer, payee, "150")
    wait_for(lambda: len(texts_to(cluster, payer, payee)) == 2)
    assert "Umepokea Ksh150.00 kutoka kwa Njeri" in dict(texts_to(cluster, payer, payee))[payee]
    assert "Ksh150.00 sent to Kamau" in dict(texts_to(cluster, payer, payee))[payer]


def test_the_browser_s_phone_sees_its_texts(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(name="Njeri"), customer(name="Kamau")
    receipt = pay(cluster, payer, payee, "120")
    url = f"http://{cluster.edge_address}/phone/sms.json"
    wait_for(lambda: httpx.get(url, params={"msisdn": payee}, timeout=10).json())
    (shown,) = httpx.get(url, params={"msisdn": payee}, timeout=10).json()
    assert shown["text"].startswith(f"{receipt} Confirmed. You have received Ksh120.00")
    assert httpx.get(url, params={"msisdn": "254700000000"}, timeout=10).json() == []
