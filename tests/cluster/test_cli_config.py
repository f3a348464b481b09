"""Tariffs, tiers and accounts by the `kibubu` command on a real cluster: what one node was told, all price and judge
by, also after the leader was killed with -9."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster import lifecycle, processes
from cluster.calls import Caller
from cluster.cli import main
from cluster.demo import DEMO_PIN, TIERS_FILE
from cluster.health import find_leader
from cluster.layout import Layout
from node.payments.tariffs import SAMPLE_FOLDER
from tests.cluster.phone import dial, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
TIER = """
[[tier]]
number = 40
name = "test"
currency = "KES"
utc_offset_minutes = 180
payment_maximum = 800
day = 1000
"""


@pytest.fixture
def kibubu(cluster: Layout) -> Callable[..., str]:
    def run(*arguments: object, fails: bool = False) -> str:
        environment = {"KIBUBU_HOME": str(cluster.home), "KIBUBU_PORT_BASE": str(cluster.port_base)}
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return run


def test_a_tariff_is_loaded_shown_and_quoted(kibubu: Callable[..., str], operator: Caller, tmp_path: Path) -> None:
    text = (SAMPLE_FOLDER / "kenya-2023-07-29.toml").read_text(encoding="utf-8")
    text = text.replace('"KES"', '"UGX"').replace("ledger = 404", "ledger = 800")
    (tmp_path / "ugx.toml").write_text(text, encoding="utf-8")
    (tmp_path / "later.toml").write_text(text.replace("2023-07-29", "2027-01-01").replace("500, 7]", "500, 8]"))
    (tmp_path / "bad.toml").write_text(text.replace("[101, 500, 7]", "[102, 500, 7]"))
    assert "no tariff in UGX" in kibubu("tariff", "show", "--currency", "UGX", fails=True)
    assert "UGX/2023-07-29 version 1" in kibubu("tariff", "load", tmp_path / "ugx.toml", "--author", "Amina")
    kibubu("tariff", "load", tmp_path / "later.toml", "--author", "Baraka")
    refused = kibubu("tariff", "load", tmp_path / "bad.toml", fails=True)
    assert "send_money.bands[1]: must begin at 101" in refused
    quote = ("tariff", "quote", "send_money", "500", "--currency", "UGX")
    assert "payer's fee 7, of it excise 1" in kibubu(*quote)  # shillings of Uganda have no cents
    assert "payer's fee 8, of it excise 1" in kibubu(*quote, "--at", "2027-01-01")
    assert "UGX has 0 decimals" in kibubu("tariff", "quote", "send_money", "0.5", "--currency", "UGX", fails=True)
    assert "no price" in kibubu("tariff", "quote", "send_money", "250001", "--currency", "UGX", fails=True)
    shown = kibubu("tariff", "show", "--currency", "UGX")
    assert "document UGX/2023-07-29, version 1 by Amina" in shown
    assert "Baraka" in kibubu("document", "list", "tariff")
    assert kibubu("document", "show", "tariff", "UGX/2023-07-29") == text
    assert "there is no tariff UGX/2023-07-29 version 2" in kibubu(
        "document", "show", "tariff", "UGX/2023-07-29", "--version", 2, fails=True
    )


def test_limits_and_states_outlive_the_leader(
    kibubu: Callable[..., str], operator: Caller, cluster: Layout, customer: Callable[..., str], tmp_path: Path
) -> None:
    payer, payee = customer(), customer()
    (tmp_path / "tiers.toml").write_text(TIERS_FILE.read_text(encoding="utf-8") + TIER, encoding="utf-8")
    kibubu("document", "put", "tiers", tmp_path / "tiers.toml", "--author", "Amina")
    assert "accounts may have it" in kibubu("document", "put", "tiers", TIERS_FILE, fails=True)
    kibubu("account", "tier", payer, 40)
    sessions = itertools.count(1)

    def dialled(text: str) -> str:
        return dial(cluster, payer, text, f"limits-{next(sessions)}")

    assert "Sent KES 600" in dialled(f"1*{payee}*600*{DEMO_PIN}")
    assert "too large for one payment" in dialled(f"1*{payee}*900")
    assert "still pay today" in dialled(f"1*{payee}*500")
    leader = find_leader(operator, cluster)
    processes.kill(cluster.pid_file(leader))
    wait_for(lambda: "still pay today" in dialled(f"1*{payee}*500"))
    lifecycle.start_service(cluster, leader)
    shown = kibubu("account", "show", payer)
    assert "tier        40, test" in shown
    assert "left today  400.00" in shown
    kibubu("account", "block", payer)
    assert "pin locked" in kibubu("account", "show", payer)
    kibubu("account", "reset-pin", payer, "--pin", "7531")
    assert "Your PIN is temporary" in dialled(f"1*{payee}*100*7531")
    kibubu("account", "sim-swap", payer, "--at", "2026-01-02")
    assert "SIM swap    2026-01-02 00:00:00 UTC" in kibubu("account", "show", payer)
    kibubu("account", "freeze", payee)
    assert "cannot receive money now" in dialled(f"1*{payee}*100")
    kibubu("account", "thaw", payee)
    assert "account_has_balance" in kibubu("account", "close", payee, fails=True)
    assert "tier_unknown" in kibubu("account", "tier", payer, 41, fails=True)
    assert "Zawadi" in kibubu("account", "register", "254729999999", "Zawadi", "--tier", 1)
    assert "PIN         not set" in kibubu("account", "show", "254729999999")
