"""What agents, businesses and customers do on the phone besides the five journeys, on the whole platform."""

from __future__ import annotations

import re
import secrets

import pytest

from cluster.calls import Caller
from cluster.demo import DEMO_PIN
from cluster.layout import Layout
from tests.cluster.phone import Customer, balance_minor, dial

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
AGENT, SHOP = "254712000101", "254712000201"


def session() -> str:
    return secrets.token_hex(8)


def receipt_in(screen: str) -> str:
    found = re.search(r"\b[A-Z0-9]{10}\b", screen)
    assert found is not None, screen
    return found[0]


def test_cash_goes_in_and_out_at_an_agent(cluster: Layout, operator: Caller, customer: Customer) -> None:
    person = customer(name="Barasa")
    floated = balance_minor(operator, AGENT)
    asked = dial(cluster, AGENT, f"10*1*{person}*700", session())
    assert asked.startswith("CON Did you get KES 700.00 in cash from Barasa? No fee.")
    done = dial(cluster, AGENT, f"10*1*{person}*700*{DEMO_PIN}", session())
    assert done.startswith("END Deposited KES 700.00 for Barasa."), done
    assert balance_minor(operator, person) == 1_070_000
    paid_minor = balance_minor(operator, AGENT) - floated + 70_000  # the commission
    assert paid_minor > 0
    step = session()
    out = dial(cluster, person, f"7*20001*1000*{DEMO_PIN}", step)
    assert out.startswith("END Take KES 1,000.00 in cash from Duka la Juma. Fee "), out
    assert dial(cluster, person, f"7*20001*1000*{DEMO_PIN}", step) == out
    assert balance_minor(operator, person) < 970_000
    assert dial(cluster, person, f"10*1*{AGENT}*700", session()) == "END Only agents can do this."
    listed = dial(cluster, person, f"9*1*{DEMO_PIN}", session())
    assert re.search(r"\n\d\d/\d\d \+700\.00 Duka la \.\.|\n\d\d/\d\d \+700\.00 Duka", listed), listed


def test_a_business_asks_and_is_paid_and_gives_back(cluster: Layout, operator: Caller, customer: Customer) -> None:
    person = customer()
    assert dial(cluster, SHOP, f"11*3*{person}*400", session()).startswith(f"CON Ask {person} for KES 400?\n1 Yes")
    assert dial(cluster, SHOP, f"11*3*{person}*400*1", session()) == "END The customer was asked to pay."
    listed = dial(cluster, person, "9*3", session())
    assert listed.startswith("CON You are asked to pay\n1: 400.00 Mama Mboga"), listed
    paid = dial(cluster, person, f"9*3*1*{DEMO_PIN}", session())
    assert paid.startswith("END Paid KES 400.00 to Mama Mboga."), paid
    assert balance_minor(operator, person) == 960_000
    assert dial(cluster, person, "9*3", session()) == "END Nobody has asked you to pay."
    back = dial(cluster, SHOP, f"11*2*{receipt_in(paid)}*150*{DEMO_PIN}", session())
    assert back.startswith("END KES 150.00 went back to"), back
    assert balance_minor(operator, person) == 975_000
    too_much = dial(cluster, SHOP, f"11*2*{receipt_in(paid)}*300", session())
    assert too_much == "END This is more than what is left of the payment."


def test_money_for_a_wrong_number_is_reserved_and_comes_back(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, stranger = customer(), customer(name="Mgeni")
    sent = dial(cluster, payer, f"1*{stranger}*500*{DEMO_PIN}", session())
    receipt = receipt_in(sent)
    offered = dial(cluster, stranger, f"9*2*{receipt.lower()}", session())
    assert offered.startswith(f"CON Give KES 500.00 of {receipt} back to"), offered
    asked = dial(cluster, payer, f"9*2*{receipt}*{DEMO_PIN}", session())
    assert asked.startswith("END The money is reserved."), asked
    before = balance_minor(operator, payer)
    too_late = dial(cluster, stranger, f"1*{payer}*10400*{DEMO_PIN}", session())
    assert "enough money" in too_late  # what is reserved cannot be spent
    assert balance_minor(operator, payer) == before


def test_a_voucher_is_paid_out_at_an_agent(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, nobody = customer(), f"2547{secrets.randbelow(10**7):07}9"
    sent = dial(cluster, payer, f"8*{nobody}*600*{DEMO_PIN}", session())
    secret = re.search(r"Secret (\d{6}): tell only the receiver\.", sent)
    assert secret is not None, sent
    token, floated = receipt_in(sent), balance_minor(operator, AGENT)
    wrong = f"{(int(secret[1]) + 1) % 10**6:06}"
    refused = dial(cluster, AGENT, f"10*3*{token}*{wrong}*{DEMO_PIN}", session())
    assert refused == "END The secret is wrong. Do not pay it out."
    done = dial(cluster, AGENT, f"10*3*{token}*{secret[1]}*{DEMO_PIN}", session())
    assert done.startswith("END Hand out KES 600.00 in cash."), done
    assert balance_minor(operator, AGENT) >= floated + 60_000
    again = dial(cluster, AGENT, f"10*3*{token}*{secret[1]}*{DEMO_PIN}", session())
    assert again == "END This voucher was paid out before."


def test_a_pin_is_changed_and_an_account_blocked(cluster: Layout, operator: Caller, customer: Customer) -> None:
    person, friend = customer(), customer()
    assert dial(cluster, person, f"9*5*{DEMO_PIN}80518051", session()) == "END Your PIN is changed."
    assert "2 tries left" in dial(cluster, person, f"1*{friend}*100*{DEMO_PIN}", session())
    assert dial(cluster, person, f"1*{friend}*100*8051", session()).startswith("END Sent KES 100.00")
    blocked = dial(cluster, friend, f"9*6*{person}*8051", session())
    assert blocked == "END The account is blocked. Nothing can be paid from it."
    stopped = dial(cluster, person, f"1*{friend}*100*8051", session())
    assert stopped.startswith("END Your"), stopped
    assert balance_minor(operator, friend) == 1_010_000
