"""A batch in a real cluster: submitted, approved by another, its runner killed with -9, its leader killed with -9, and
every row paid once."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster import demo, lifecycle, processes
from cluster.accounts import find_account
from cluster.calls import Caller
from cluster.cli import main
from cluster.health import find_leader
from cluster.layout import PROJECT_ROOT, Layout
from cluster.vocabulary import AccountKind
from tests.cluster.phone import Customer, balance_minor, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ROWS = 3_000
FUNDS_MINOR = 100_000_000


def environment(layout: Layout) -> dict[str, str]:
    return {"KIBUBU_HOME": str(layout.home), "KIBUBU_PORT_BASE": str(layout.port_base)}


def kibubu(layout: Layout, *arguments: object, fails: bool = False) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment(layout))
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def business(operator: Caller, number: str) -> str:
    account = demo.DemoAccount("Kibubu Tea", "paybill", number, AccountKind.PAYBILL, opening_minor=FUNDS_MINOR)
    demo.create_accounts(operator, [account])
    return f"paybill:{number}"


def written(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("phone", "amount", "reference"), *rows])
    return path


def started_runner(layout: Layout, batch_id: str) -> subprocess.Popen[bytes]:
    paths = f"{PROJECT_ROOT}:{PROJECT_ROOT / 'proto' / 'gen'}"
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", "bulk", "resume", batch_id],
        cwd=PROJECT_ROOT,
        env={**os.environ, **environment(layout), "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _moved(paid: Callable[[], int], before: int, runner: subprocess.Popen[bytes]) -> bool:
    return paid() > before or runner.poll() is not None


def test_killed_runners_and_leaders_pay_nothing_twice(
    cluster: Layout, operator: Caller, customer: Customer, tmp_path: Path
) -> None:
    payer, payees = business(operator, "600001"), [customer(opening_minor=0) for _ in range(5)]
    lines = [(payees[n % 5], "20.00", f"NOV {n}") for n in range(ROWS)]
    file = written(tmp_path / "batch.csv", lines)
    kibubu(cluster, "bulk", "submit", file, "--from", payer, "--id", "tea-11", "--allow-duplicates")
    kibubu(cluster, "bulk", "approve", "tea-11", "--as", "baraka", "--no-run")
    paid = lambda: sum(balance_minor(operator, payee) for payee in payees)  # noqa: E731
    for turn in (1, 2):
        before, runner = paid(), started_runner(cluster, "tea-11")
        wait_for(partial(_moved, paid, before, runner), timeout_s=60)
        if turn == 1:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
            assert 0 < paid() < ROWS * 2_000
        else:
            processes.kill(cluster.pid_file(find_leader(operator, cluster)))
            assert runner.wait(timeout=120) == 0
    lifecycle.up(cluster, lambda _: None, seed=False)
    assert paid() == ROWS * 2_000
    assert find_account(operator, payer).balance_minor == FUNDS_MINOR - ROWS * (2_000 + 500)
    again = kibubu(cluster, "bulk", "resume", "tea-11")
    assert f"{ROWS:,} of {ROWS:,} rows paid: KES 60,000.00 and fees of 15,000.00" in again
    assert paid() == ROWS * 2_000


def test_the_commands_of_a_batch(cluster: Layout, operator: Caller, customer: Customer, tmp_path: Path) -> None:
    payer, payee = business(operator, "600002"), customer(name="Wairimu", opening_minor=0)
    file = written(tmp_path / "b.csv", [(payee, "1500", "PAY 1"), ("254799999999", "10", "PAY 2")])
    shown = kibubu(cluster, "bulk", "submit", file, "--from", payer, "--id", "small-1")
    assert "small-1: 2 rows, KES 1,510.00 from paybill:600002, waits for approval" in shown
    assert "submitted by operator" in shown
    assert "may not decide about it" in kibubu(cluster, "bulk", "approve", "small-1", fails=True)
    assert "is not approved" in kibubu(cluster, "bulk", "resume", "small-1", fails=True)
    assert balance_minor(operator, payee) == 0
    done = kibubu(cluster, "bulk", "approve", "small-1", "--as", "baraka")
    assert "approved by baraka" in done
    assert "1 of 2 rows paid: KES 1,500.00 and fees of 10.00" in done
    assert "1 payee_not_found" in done
    assert balance_minor(operator, payee) == 150_000
    shown = kibubu(cluster, "bulk", "show", "small-1", "--unpaid", tmp_path / "unpaid.csv")
    for text in ("Wairimu", "payee_not_found", "PAY 2", "1 rows in"):
        assert text in shown
    assert (tmp_path / "unpaid.csv").read_text(encoding="utf-8").splitlines()[1] == "254799999999,10.00,PAY 2"
    kibubu(cluster, "bulk", "submit", file, "--from", payer, "--id", "small-2")
    assert "rejected by baraka" in kibubu(cluster, "bulk", "reject", "small-2", "--as", "baraka")
    assert "was decided already" in kibubu(cluster, "bulk", "approve", "small-2", "--as", "baraka", fails=True)
    listed = kibubu(cluster, "bulk", "list")
    assert "small-1" in listed
    assert "rejected" in listed


def test_what_is_wrong_is_said(cluster: Layout, operator: Caller, customer: Customer, tmp_path: Path) -> None:
    file = written(tmp_path / "b.csv", [(customer(), "1500", "")])
    for arguments, said in (
        (("--from", "paybill:999999"), "payer: no account has this number"),
        (("--from", "254712000001"), "payer: must be till:NUMBER or paybill:NUMBER"),
        (("--from", "till:123456", "--id", "Big Batch"), "batch_id: 1 to 32 small letters"),
        (("--from", "till:123456", "--as", "../n1"), "--as: 1 to 20 small letters"),
    ):
        assert said in kibubu(cluster, "bulk", "submit", file, *arguments, fails=True)
    poor = kibubu(cluster, "bulk", "submit", file, "--from", "till:123456", "--id", "poor-1")
    assert "waits for approval" in poor
    stopped = kibubu(cluster, "bulk", "approve", "poor-1", "--as", "baraka", fails=True)
    assert "stopped before row 1: the account has not enough for the next rows" in stopped
    assert "kibubu bulk resume poor-1" in stopped
    assert "there is no such batch" in kibubu(cluster, "bulk", "show", "nothing", fails=True)
