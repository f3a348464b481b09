"""The books' commands on a running cluster: spans, moments, files, the trial balance, receipts."""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from pypdf import PdfReader

from cluster import books
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller
from cluster.cli import main
from cluster.layout import Layout
from cluster.vocabulary import AccountKind
from tests.cluster.phone import Customer, pay, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def kibubu(layout: Layout, *arguments: object, fails: bool = False) -> str:
    environment = {"KIBUBU_HOME": str(layout.home), "KIBUBU_PORT_BASE": str(layout.port_base)}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture
def today() -> str:
    return f"{datetime.now(UTC) + books.LOCAL:%Y-%m-%d}"


def day_after(today: str, days: int) -> str:
    return f"{date.fromisoformat(today) + timedelta(days=days):%Y-%m-%d}"


def test_a_statement_as_a_table_and_as_files(
    cluster: Layout, operator: Caller, customer: Customer, tmp_path: Path, today: str
) -> None:
    payer, payee = customer(name="Baraka"), customer(name="Zawadi")
    for amount_minor in (10_000, 20_000, 50_000):
        pay(operator, payer, payee, amount_minor)
    span = ("--from", today, "--to", today)
    shown = kibubu(cluster, "statement", payer, *span)
    for text in ("-100.00", "-200.00", "-500.00", "Zawadi", "9,186.00", "opening balance"):
        assert text in shown, shown
    assert "-100.00" not in kibubu(cluster, "statement", payer, "--to", day_after(today, -1))
    assert kibubu(cluster, "statement", payer, "--limit", 1).count("/") < shown.count("/")
    written = kibubu(cluster, "statement", payer, *span, "--csv", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert written.startswith(f"{len(rows)} lines in")
    assert sum(int(row["amount"].replace(".", "")) for row in rows) == find_account(operator, payer).balance_minor
    kibubu(cluster, "statement", payer, "--pdf", tmp_path / "s.pdf")
    text = PdfReader(tmp_path / "s.pdf").pages[0].extract_text()
    assert "Baraka" in text
    assert "Opening balance 0.00, closing balance 9,186.00" in text


def test_what_an_account_had(cluster: Layout, operator: Caller, customer: Customer, today: str) -> None:
    payer = customer(name="Baraka")
    assert "KES 10,000.00, available 10,000.00" in kibubu(cluster, "balance", payer)
    assert kibubu(cluster, "balance", payer, "--at", day_after(today, -1)).endswith("KES 0.00\n")
    assert kibubu(cluster, "balance", payer, "--at", f"{day_after(today, 1)} 00:00").endswith("KES 10,000.00\n")


def test_the_trial_balance_balances_and_has_the_day(
    cluster: Layout, operator: Caller, customer: Customer, today: str
) -> None:
    payer, payee = customer(), customer()
    before = {row.kind: row for row in books.trial_balance(operator, None) if row.ledger == LEDGER_KES}
    pay(operator, payer, payee, 50_000)
    after = {row.kind: row for row in books.trial_balance(operator, None) if row.ledger == LEDGER_KES}
    moved = {
        kind: (
            after[kind].debits_minor - before[kind].debits_minor,
            after[kind].credits_minor - before[kind].credits_minor,
        )
        for kind in after
    }
    assert moved[AccountKind.CUSTOMER] == (50_700, 50_000)
    assert (moved[AccountKind.FEE_REVENUE], moved[AccountKind.EXCISE_DUTY]) == ((0, 609), (0, 91))
    assert sum(debits for debits, _ in moved.values()) == sum(credits_ for _, credits_ in moved.values())
    assert all(row.span_debits_minor == row.debits_minor for row in after.values())  # the cluster is of today
    shown = kibubu(cluster, "trial-balance", "--day", today)
    assert "KES, end of" in shown
    assert "UGX, end of" in shown  # each ledger by itself
    assert "fee_revenue" in shown
    yesterday = books.trial_balance(operator, date.fromisoformat(day_after(today, -1)))
    assert all(row.debits_minor == row.credits_minor == row.span_debits_minor == 0 for row in yesterday)


def test_a_receipt_leads_to_its_payment(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer(name="Zawadi")
    outcome = pay(operator, payer, payee, 50_000)
    shown = kibubu(cluster, "receipt", outcome.receipt)
    assert f"{outcome.receipt} send_money of KES 500.00 from {payer} to {payee} Zawadi on " in shown
    other = outcome.receipt[:-1] + ("A" if outcome.receipt[-1] != "A" else "B")
    assert f"no payment has the receipt {other}" in kibubu(cluster, "receipt", other, fails=True)
    assert "ten letters and digits" in kibubu(cluster, "receipt", "ABC", fails=True)


def test_the_feed_as_lines_of_json(cluster: Layout, operator: Caller, customer: Customer) -> None:
    outcome = pay(operator, customer(name="Baraka"), customer(name="Zawadi"), 50_000)
    wait_for(lambda: outcome.receipt in kibubu(cluster, "feed", "--from", outcome.position))
    lines = [json.loads(line) for line in kibubu(cluster, "feed", "--from", outcome.position).splitlines()]
    told = lines[0]["payment"]
    assert (told["payer_name"], told["outcome"]["receipt"]) == ("Baraka", outcome.receipt)
    transfers = kibubu(cluster, "feed", "--from", outcome.position, "--transfers").splitlines()
    assert [json.loads(line)["offset"] for line in transfers[:3]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("statement", "254712000001", "--from", "2026-11-24", "--to", "2026-11-23"), "--to: is before --from"),
        (("statement", "254712000001", "--from", "24.11.2026"), "--from"),
        (("statement", "254712000001", "--csv", "a", "--pdf", "b"), "not both"),
        (("balance", "254712000001", "--at", "yesterday"), "--at: must be a date"),
        (("trial-balance", "--day", "today"), "--day"),
    ],
)
def test_what_cannot_be_asked(cluster: Layout, arguments: tuple[str, ...], said: str) -> None:
    assert said in kibubu(cluster, *arguments, fails=True)
