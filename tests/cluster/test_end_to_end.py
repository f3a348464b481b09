"""The whole platform, as an operator and a phone see it."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from cluster import inspection, lifecycle, processes
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller
from cluster.cli import main
from cluster.clients import operator_client
from cluster.demo import DEMO_PIN
from cluster.health import find_leader, node_status
from cluster.ids import new_id
from cluster.layout import FRAUD, NODE_IDS, Layout
from cluster.vocabulary import CODE_OPERATOR
from kibubu_client import new_id as new_number
from kibubu_client import pack_transfer
from tests.cluster.phone import Customer, balance_minor, dial, pay, promql, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def kibubu(layout: Layout, *arguments: str) -> str:
    environment = {"KIBUBU_HOME": str(layout.home), "KIBUBU_PORT_BASE": str(layout.port_base)}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_up_a_second_time_changes_nothing(cluster: Layout, operator: Caller) -> None:
    before = {name: processes.find_process(cluster.pid_file(name)) for name in cluster.services}
    position = node_status(operator, cluster.api_address("n1"))
    lifecycle.up(cluster, lambda _: None)
    assert {name: processes.find_process(cluster.pid_file(name)) for name in cluster.services} == before
    after = node_status(operator, cluster.api_address("n1"))
    assert position is not None
    assert after is not None
    assert after.accounts_total == position.accounts_total


def test_money_moves_by_ussd_and_a_retry_moves_none(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer(name="Njeri")
    session = secrets.token_hex(8)
    assert dial(cluster, payer, "", session).startswith("CON Kibubu\n1 Send money")
    shown = dial(cluster, payer, f"1*{payee}*500", session)
    assert "Send KES 500.00 to Njeri? Fee KES 7.00." in shown
    assert "PIN" in shown
    assert balance_minor(operator, payer) == 1_000_000
    done = dial(cluster, payer, f"1*{payee}*500*{DEMO_PIN}", session)
    assert done.startswith("END Sent KES 500.00 to Njeri. Fee 7.00. Balance 9,493.00.")
    assert dial(cluster, payer, f"1*{payee}*500*{DEMO_PIN}", session) == done
    assert (balance_minor(operator, payer), balance_minor(operator, payee)) == (949_300, 1_050_000)


def test_the_other_journeys(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer = customer()
    assert "END Paid KES 300.00 to Mama Mboga." in dial(cluster, payer, f"2*123456*300*{DEMO_PIN}", "a")
    assert "END Paid KES 1,200.00 to Kibubu Power for ACC9. Fee 10.00." in dial(
        cluster, payer, f"3*888880*ACC9*1200*{DEMO_PIN}", "b"
    )
    assert f"END Airtime KES 50.00 for {payer}." in dial(cluster, payer, f"4*1*50*{DEMO_PIN}", "c")
    assert "END Airtime KES 20.00 for 254712000003." in dial(cluster, payer, f"4*2*0712000003*20*{DEMO_PIN}", "d")
    assert "END Your balance is KES 8,420.00." in dial(cluster, payer, f"5*{DEMO_PIN}", "e")
    assert balance_minor(operator, payer) == 842_000


def test_a_hundred_sessions_at_once_get_three_tries(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer()
    with ThreadPoolExecutor(20) as many:
        screens = list(many.map(lambda n: dial(cluster, payer, f"1*{payee}*100*{1000 + n}", f"thief-{n}"), range(100)))
    assert sum("2 tries left" in screen for screen in screens) == 1
    assert sum("1 try left" in screen for screen in screens) == 1
    assert sum("Your PIN is now locked" in screen for screen in screens) == 1
    assert "PIN is locked" in dial(cluster, payer, f"1*{payee}*100*{DEMO_PIN}", "owner")
    assert balance_minor(operator, payer) == 1_000_000


def test_one_payment_id_has_one_outcome(operator: Caller, customer: Customer) -> None:
    payer, payee, payment_id = customer(opening_minor=10_000), customer(), new_id()
    poor = pay(operator, payer, payee, 50_000, payment_id=payment_id)
    assert poor.status_name == "insufficient_funds"
    refill = ledger_pb2.Transfer(
        id=new_id(), debit_account=find_account(operator, payee).account_number,
        credit_account=find_account(operator, payer).account_number, amount_minor=500_000, ledger=404, code=1_001,
    )  # fmt: skip
    operator.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers,
        ledger_pb2.CreateTransfersRequest(transfers=[refill]),
    )
    again = pay(operator, payer, payee, 50_000, payment_id=payment_id)
    assert (again.status_name, again.duplicate, again.position) == ("insufficient_funds", True, poor.position)
    other = pay(operator, payer, payee, 40_000, payment_id=payment_id)
    assert other.status_name == "payment_id_used_for_another_payment"
    fresh = pay(operator, payer, payee, 50_000)
    assert (fresh.status_name, fresh.fee_minor, fresh.excise_minor) == ("ok", 700, 91)
    assert fresh.model_version
    assert fresh.decision == 1
    looked_up = operator.leader(
        lambda c: payments_pb2_grpc.PaymentsServiceStub(c).LookupPayment,
        payments_pb2.LookupPaymentRequest(payment_id=payment_id),
    )
    assert (looked_up.found, looked_up.payment.payer_msisdn, looked_up.outcome.status_name) == (
        True, payer, "insufficient_funds",
    )  # fmt: skip


def test_the_commands(cluster: Layout, customer: Customer) -> None:
    payer, payee = customer(name="Baraka"), customer(name="Zawadi")
    moved = kibubu(cluster, "transfer", payer, payee, "250.50")
    assert "KES 250.50 moved at position" in moved
    assert "Zawadi" in kibubu(cluster, "balance", payee)
    assert "10,250.50" in kibubu(cluster, "balance", payee)
    statement = kibubu(cluster, "statement", payer)
    assert "-250.50" in statement
    assert "opening balance" in statement
    table = kibubu(cluster, "status")
    for column in ("node", "role", "term", "commit", "applied", "lag", "hash", "TPS"):
        assert column in table
    assert table.count("follower") == 2
    assert "the books are right" in kibubu(cluster, "verify")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("transfer", "254712000001", "254712000002", "-5"), "No such option"),
        (("transfer", "254712000001", "254712000002", "0"), "amount"),
        (("transfer", "254712000001", "254712000002", "1.234"), "amount"),
        (("transfer", "254712000001", "254712000002", "99999999999999999999"), "amount"),
        (("transfer", "254712000001", "254712000001", "5"), "accounts_must_differ"),
        (("transfer", "254712000001", "254799999999", "5"), "there is no account 254799999999"),
        (("transfer", "254712000001", "254712000002", "5", "--id", "abc"), "32 hex digits"),
        (("balance", "shop:1"), "'shop' is no kind of handle"),
        (("kill", "n9"), "n9"),
    ],
)
def test_a_command_says_what_is_wrong(
    cluster: Layout, operator: Caller, arguments: tuple[str, ...], complaint: str
) -> None:
    environment = {"KIBUBU_HOME": str(cluster.home), "KIBUBU_PORT_BASE": str(cluster.port_base)}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code != 0
    assert complaint.lower() in result.output.lower()
    assert "Traceback" not in result.output


def test_the_leader_is_killed_while_money_moves(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer()
    debit = find_account(operator, payer).account_number
    credit = find_account(operator, payee).account_number
    killed = find_leader(operator, cluster)

    async def send() -> int:
        ok = 0
        async with operator_client(cluster, deadline_s=20) as client:
            for number in range(200):
                if number == 60:
                    processes.kill(cluster.pid_file(killed))
                packed = pack_transfer(new_number(), debit, credit, 10, ledger=LEDGER_KES, code=CODE_OPERATOR)
                replies = await client.transfer(packed)
                ok += int(replies["status"][0] == 0)
        return ok

    assert asyncio.run(send()) == 200
    assert balance_minor(operator, payee) == 1_000_000 + 200 * 10
    assert find_leader(operator, cluster) != killed
    assert lifecycle.start_service(cluster, killed)
    wait_for(lambda: _positions(cluster, operator) is not None)
    verdict = inspection.verify(cluster, operator)
    assert verdict.problems == []
    assert len(verdict.lines) == 4


def _positions(cluster: Layout, operator: Caller) -> int | None:
    """The position that all nodes have applied; None while they differ."""
    found = [node_status(operator, address) for address in cluster.api_addresses]
    positions = {status.applied_position if status else -1 for status in found}
    return positions.pop() if len(positions) == 1 and -1 not in positions else None


def test_a_paused_leader_is_replaced_and_follows_when_it_wakes(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, payee = customer(), customer()
    paused = find_leader(operator, cluster)
    kibubu(cluster, "pause", paused)
    try:
        assert pay(operator, payer, payee, 10_000).status_name == "ok"
        assert find_leader(operator, cluster) not in ("", paused)
    finally:
        kibubu(cluster, "resume", paused)
    wait_for(lambda: _positions(cluster, operator) is not None)
    assert balance_minor(operator, payee) == 1_010_000


def test_without_the_sidecar_small_payments_pass_and_large_ones_are_held(
    cluster: Layout, operator: Caller, customer: Customer
) -> None:
    payer, payee = customer(opening_minor=5_000_000), customer()
    processes.kill(cluster.pid_file(FRAUD))
    small = pay(operator, payer, payee, 50_000)
    assert (small.status_name, small.decision, small.model_version) == ("ok", 4, "")
    large = pay(operator, payer, payee, 2_000_000)
    assert (large.status_name, large.decision) == ("held_for_review", 5)
    found = find_account(operator, payer)
    assert found.balance_minor - found.available_minor == 2_000_000 + large.fee_minor
    assert lifecycle.start_service(cluster, FRAUD)
    wait_for(lambda: pay(operator, payer, payee, 5_000).decision == 1)


def test_prometheus_counts_exactly_what_was_sent(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer()
    debit, credit = find_account(operator, payer).account_number, find_account(operator, payee).account_number
    applied = {n: float(_counted(cluster, n)) for n in NODE_IDS}
    wait_for(lambda: all(promql(cluster, _count_of(cluster, n)) == applied[n] for n in NODE_IDS))

    async def send() -> None:
        async with operator_client(cluster) as client:
            for size in (1, 36, 300):
                one = [pack_transfer(new_number(), debit, credit, 1, ledger=404, code=1_001) for _ in range(size)]
                replies = await client.create_transfers(b"".join(one))
                assert (replies["status"] == 0).all()

    asyncio.run(send())
    for node_id in NODE_IDS:
        wait_for(lambda n=node_id: promql(cluster, _count_of(cluster, n)) == applied[n] + 337)
    wait_for(lambda: promql(cluster, "kibubu:transfers:rate1m") > 0)


def _count_of(layout: Layout, node_id: str) -> str:
    return f'sum(kibubu_transfers_total{{outcome="ok",node="{node_id}"}})'


def _counted(layout: Layout, node_id: str) -> float:
    text = httpx.get(f"http://{layout.metrics_address(node_id)}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if line.startswith("kibubu_transfers_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'outcome="ok"' in line)


def test_a_node_refuses_another_clusters_folder(cluster: Layout, operator: Caller, tmp_path: Path) -> None:
    processes.stop(cluster.pid_file("n3"))
    for old, new, complaint in (
        ('cluster_id = "kibubu-dev"', 'cluster_id = "other"', "cluster"),
        ('node_id = "n3"', 'node_id = "n4"', "node"),
    ):
        text = cluster.config_file("n3").read_text(encoding="utf-8")
        assert old in text
        config = tmp_path / "n3.toml"
        config.write_text(text.replace(old, new, 1), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "node", "--config", str(config)],
            env=lifecycle._environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
