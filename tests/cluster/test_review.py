"""An analyst's day on a real cluster: something is held, looked at, released or refused, and it says by whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster import lifecycle, processes
from cluster.calls import Caller
from cluster.cli import main
from cluster.layout import FRAUD, Layout
from fraud.model import SHIPPED
from tests.cluster.phone import Customer, balance_minor, pay

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def fraud(layout: Layout, *arguments: str) -> Result:
    environment = {"KIBUBU_HOME": str(layout.home), "KIBUBU_PORT_BASE": str(layout.port_base)}
    return CliRunner().invoke(main, ["fraud", *arguments], env=environment)


def waiting(layout: Layout) -> list[str]:
    shown = fraud(layout, "queue")
    assert shown.exit_code == 0, shown.output
    words = shown.output.replace("│", " ").split()
    return [word for word in words if len(word) == 32 and set(word) <= set("0123456789abcdef")]


def test_what_is_held_is_released_or_refused_once(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(opening_minor=5_000_000), customer()
    before = waiting(cluster)
    processes.kill(cluster.pid_file(FRAUD))
    for amount_minor in (2_000_000, 1_500_000):
        assert pay(operator, payer, payee, amount_minor).status_name == "held_for_review"
    assert lifecycle.start_service(cluster, FRAUD)
    first, second = [payment for payment in waiting(cluster) if payment not in before]

    shown = fraud(cluster, "show", first)
    assert shown.exit_code == 0, shown.output
    assert "20,000.00 and a fee of" in shown.output
    assert "balance, oldest to newest:" in shown.output

    released = fraud(cluster, "release", first, "--analyst", "amina")
    assert released.exit_code == 0, released.output
    assert released.output.startswith("released by amina, position ")
    assert balance_minor(operator, payee) == 1_000_000 + 2_000_000
    again = fraud(cluster, "refuse", first, "--analyst", "baraka")
    assert again.exit_code == 1
    assert "the payment is released already; nothing was changed" in again.output
    assert "released by amina" in fraud(cluster, "show", first).output

    assert fraud(cluster, "refuse", second, "--analyst", "amina").exit_code == 0
    assert balance_minor(operator, payee) == 1_000_000 + 2_000_000
    assert not set(waiting(cluster)) & {first, second}
    reported = fraud(cluster, "label", first, "fraud", "--comment", "the payer called", "--author", "desk")
    assert f"{first} counts as fraud (customer_report), position " in reported.output
    listed = fraud(cluster, "labels").output
    assert f"{first},fraud,customer_report,desk," in listed
    assert f"{second},fraud,verdict,amina," in listed
    assert first not in fraud(cluster, "labels", "--mature-days", "1").output
    assert fraud(cluster, "label", "ff" * 16, "fraud").exit_code == 1


def test_above_an_amount_a_second_analyst_must_agree(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(opening_minor=5_000_000), customer()
    wrong = fraud(cluster, "thresholds", "set", "loss_share=2")
    assert wrong.exit_code == 1
    assert "loss_share: must be at most 1" in wrong.output
    assert "one of loss_share" in fraud(cluster, "thresholds", "set", "nonsense=2").output
    changed = fraud(cluster, "thresholds", "set", "two_person_above_minor=1900000", "--author", "chief")
    assert changed.exit_code == 0, changed.output
    shown = fraud(cluster, "thresholds", "show").output
    assert " by chief" in shown
    assert "two_person_above_minor = 1900000" in shown
    try:
        before = waiting(cluster)
        processes.kill(cluster.pid_file(FRAUD))
        assert pay(operator, payer, payee, 2_000_000).status_name == "held_for_review"
        (held,) = [payment for payment in waiting(cluster) if payment not in before]
        first = fraud(cluster, "release", held, "--analyst", "amina", "--comment", "she called")
        assert first.output == "amina says release; 1 other analyst must agree\n"
        assert "- amina says release: she called" in fraud(cluster, "show", held).output
        assert balance_minor(operator, payee) == 1_000_000
        assert fraud(cluster, "release", held, "--analyst", "baraka").output.startswith("released by baraka, position ")
        assert balance_minor(operator, payee) == 3_000_000
    finally:
        assert fraud(cluster, "thresholds", "set", "two_person_above_minor=5000000").exit_code == 0
        lifecycle.start_service(cluster, FRAUD)


@pytest.mark.parametrize("payment", ["rubbish", "00" * 15, "ff" * 16])
def test_a_wrong_id_is_one_line(cluster: Layout, operator: Caller, payment: str) -> None:
    for command in ("show", "release", "refuse"):
        result = fraud(cluster, command, payment)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert "Traceback" not in result.output


def test_models_change_while_the_sidecar_runs(cluster: Layout, operator: Caller, tmp_path: Path) -> None:
    shown = fraud(cluster, "model")
    assert shown.exit_code == 0, shown.output
    first = shown.output.split()[1].rstrip(",")
    nothing = fraud(cluster, "model", "--roll-back")
    assert nothing.exit_code == 1
    assert "there is no model to roll back to" in nothing.output
    challenged = fraud(cluster, "model", "--challenge", str(SHIPPED))
    assert f"challenger {first}, in the shadow" in challenged.output
    used = fraud(cluster, "model", "--use", str(SHIPPED))
    assert f"previous {first}, for a roll-back" in used.output
    bad = fraud(cluster, "model", "--use", str(tmp_path))
    assert bad.exit_code == 1
    assert "model_dir" in bad.output
    assert fraud(cluster, "model", "--roll-back").exit_code == 0
    assert fraud(cluster, "model", "--roll-back", "--use", str(SHIPPED)).exit_code == 2
