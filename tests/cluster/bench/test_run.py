"""Short measurements of a real cluster: every kind of load, the ledger filled first, kill -9 of everything, and books
that fail the run when they are not right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import config_files, lifecycle, processes
from cluster.bench import unary
from cluster.bench.fraud_cost import ROWS, measure_fraud_cost
from cluster.bench.measured import Measured
from cluster.bench.meters import CLIENT, FOLLOWERS, LEADER
from cluster.bench.people import Size
from cluster.bench.run import Pace, Results, WrongBooksError, check_books, measure
from cluster.bench.settings import Setting
from cluster.calls import operator_caller
from cluster.health import find_leader, node_status
from cluster.layout import EDGE, PROJECT_ROOT, Layout, free_port_base
from tests.cluster.phone import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
STORED = 8_000
WANTED = [
    Setting("transfers", 1, 8),
    Setting("transfers", 1_000, 2),
    Setting("transfers", 100, 2, fraud_in_path=True),
    Setting("payments", 1, 8, fraud_in_path=True),
    Setting("unary", 1, 8),
    Setting("ussd", 1, 4, fraud_in_path=True),
]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    layout = Layout(home=tmp_path_factory.mktemp("bench"), port_base=free_port_base())
    try:
        with pytest.MonkeyPatch.context() as patch:  # scored on a busy machine, too
            patch.setattr(config_files, "FRAUD_DEADLINE_MS", 1_000)
            lifecycle.up(layout, lambda _: None, with_prometheus=False)
        yield layout
    finally:
        lifecycle.down(layout, lambda _: None)


def test_every_kind_of_load_is_measured_with_a_filled_ledger_and_after_a_kill(layout: Layout) -> None:
    said: list[str] = []
    pace = Pace(0.3, 1, warm_up_s=0.3)
    found: Results = measure(layout, WANTED, pace, said.append, size=Size(200, (STORED,), customers=60), restart=True)
    names = [row.setting.name for row in found.rows]
    expected = [one for one in WANTED if one.what != "unary" or not unary.ready()]
    assert names == [f"{one.name} stored {STORED:,}" for one in expected]
    for row in found.rows:
        _check(row)
    assert [one.stored for one in found.memory] == [one.stored for one in found.restarts] == [STORED]
    assert all(0 < one.first_transfer_s <= one.all_nodes_s for one in found.restarts)
    assert any("nodes have the same hash" in line for line in said)
    with operator_caller(layout) as caller:
        status = node_status(caller, layout.api_address(find_leader(caller, layout)))
    assert status is not None
    assert status.transfers_total >= STORED + sum(_transfers(row, pace) for row in found.rows)


def test_the_cost_of_the_fraud_check_is_measured_with_it_and_without(layout: Layout) -> None:
    before = {node_id: layout.config_file(node_id).read_text(encoding="utf-8") for node_id in layout.node_ids}
    said: list[str] = []
    calls, turns = measure_fraud_cost(layout, Pace(0.3, 1, warm_up_s=0.3), Size(200, customers=60), said.append)
    assert [one.rows for one in calls] == list(ROWS)
    assert all(0 < one.p50_ms <= one.p99_ms for one in calls)
    assert min(turns.on_per_second, turns.off_per_second, turns.on_cpu_us, turns.off_cpu_us) > 0
    assert turns.decided["decided: allow"] > 0
    assert any("payments batch 1 clients 256 fraud off" in line for line in said)
    assert any("of the throughput (target: 0.95)" in line for line in said)
    assert before == {node_id: layout.config_file(node_id).read_text(encoding="utf-8") for node_id in layout.node_ids}


def _transfers(row: Measured, pace: Pace) -> float:
    return row.per_second.median * pace.seconds if row.setting.what in ("transfers", "unary") else 0


def _check(row: Measured) -> None:
    assert row.per_second.median > 0
    assert 0 < row.p50_ms.median <= row.p99_ms.median
    decided = {name: count for name, count in row.others.items() if name.startswith("decided: ")}
    assert not {name for name in row.others if name not in decided and not name.endswith(("(done)", "unscored"))}
    assert bool(decided) == row.setting.fraud_in_path
    if row.setting.what == "transfers" and decided:
        assert decided["decided: allow"] > 0.9 * sum(decided.values())
    for role in (CLIENT, LEADER, FOLLOWERS):
        assert row.cpu_us_by_role[role] >= 0
    assert row.cpu_us_each.median == pytest.approx(sum(row.cpu_us_by_role.values()))
    if row.setting.what == "ussd":
        assert row.cpu_us_by_role[EDGE] > 0


def test_books_that_cannot_be_checked_on_every_node_fail_the_run(layout: Layout) -> None:
    with operator_caller(layout) as caller:
        check_books(layout, caller, lambda _: None)
        processes.kill(layout.pid_file("n2"))
        with pytest.raises(WrongBooksError, match="n2: does not answer"):
            check_books(layout, caller, lambda _: None)
        lifecycle.start_service(layout, "n2")


def test_without_node_or_npm_the_row_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert unary.ready() == "node and npm not found: calls from another language are left out"


def test_a_run_that_is_told_to_end_stops_what_it_started(tmp_path: Path) -> None:
    environment = {**os.environ, "KIBUBU_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "cluster", "bench", "--only", "ussd", "--seconds", "600"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        home = Path(run.stdout.readline().rsplit(maxsplit=1)[-1])
        wait_for(lambda: list(home.glob("run/n*.json")), 60)
        started = [pid for path in home.glob("run/*.json") if (pid := processes.find_process(path)) is not None]
        run.terminate()
        assert run.wait(60) != 0
    assert started
    assert not any(process.is_running() for process in started)
    assert not home.exists()
