"""What a measurement leaves: a table with targets and conditions, a JSON file that says the same, plots."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from cluster.bench import report
from cluster.bench.measured import Measured, spread, summary, target_ratios
from cluster.bench.meters import ROLES
from cluster.bench.plots import curves
from cluster.bench.reference import synced_records_per_second
from cluster.bench.run import line_of
from cluster.bench.settings import GRID, QUICK, TABLE, Setting, Target, settings
from tests.cluster.bench.conftest import Make, a_run

TRANSFERS = Setting("transfers", 1_000, 8, target=Target(per_second=400, cpu_us_each=4.5))
PAYMENTS = Setting("payments", 1, 256, fraud_in_path=True, target=Target(p99_ms=100))


def rows(measured: Make) -> list[Measured]:
    return [measured(TRANSFERS), measured(PAYMENTS), measured(Setting("transfers", 1, 8))]


def test_the_table_has_a_target_in_each_row_and_the_grid_every_pair() -> None:
    assert settings() == list(TABLE)
    assert settings(quick=True) == list(QUICK)
    assert set(QUICK) < set(TABLE)
    assert all(row.target != Target() for row in TABLE)
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert {(row.batch, row.clients) for row in settings(grid=True)} == {
        (batch, clients) for batch in (1, 10, 100, 1_000, 8_000) for clients in (1, 8, 64)
    }
    assert [row.what for row in settings(only="ussd")] == ["ussd"]
    assert settings(only="nonsense") == []
    assert len(GRID) == 16


def test_each_figure_has_its_median_and_range(measured: Make) -> None:
    row = measured(TRANSFERS)
    assert (row.per_second.median, row.per_second.low, row.per_second.high) == (200.0, 100.0, 300.0)
    assert row.cpu_us_each.median == pytest.approx(37.5)
    assert row.cpu_us_by_role == pytest.approx({role: 2.5 * n for n, role in enumerate(ROLES, start=1)})
    assert row.written_bytes_each == spread([384.0])
    assert 2.0 <= row.p50_ms.median <= row.p99_ms.median <= 2.0 * 129 / 128
    assert row.ratio_to_reference == 0.2


def test_a_target_that_is_reached_has_a_ratio_of_one_and_a_better_figure_more() -> None:
    target = Target(per_second=100, cpu_us_each=5, p99_ms=10)
    assert target_ratios(target, {"per_second": 50, "cpu_us_each": 10, "p50_ms": 1, "p99_ms": 5}) == {
        "per_second": 0.5, "cpu_us_each": 0.5, "p99_ms": 2.0,
    }  # fmt: skip
    assert target_ratios(Target(p50_ms=1.5), {"p50_ms": 0.0}) == {"p50_ms": 0.0}


def test_a_repeat_that_did_nothing_is_an_error_with_its_answers() -> None:
    runs = [a_run(10), a_run(0, others={"refused": 7})]
    with pytest.raises(ValueError, match=r"transfers batch 1,000 clients 8: nothing was done.*'refused': 7"):
        summary(TRANSFERS, runs, 1.0, 0.0)


def test_a_disturbed_run_says_so(measured: Make) -> None:
    assert "disturbed: other programs took 0.40 cores" in line_of(measured(TRANSFERS, foreign_cores=0.4))
    assert "disturbed" not in line_of(measured(TRANSFERS, foreign_cores=0.05))


def test_the_table_states_its_conditions_targets_and_ratios(measured: Make) -> None:
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(report.table(rows(measured)))
    shown = " ".join(console.export_text().split())
    for words in (
        "3 replicas",
        "synced to disk",
        "1,000",
        "256",
        "in the path",
        "400/s, 4.5 us",
        "p99 100 ms",
        "0.50, 0.12",
    ):
        assert words in shown, words


def test_json_and_plots_are_written(tmp_path: Path, measured: Make) -> None:
    written = report.write(rows(measured), tmp_path / "results", ledger={"accounts": 5})
    assert [path.suffix for path in written] == [".json", ".png", ".png"]
    assert written[2].stem.endswith("-batch")
    read = json.loads(written[0].read_text(encoding="utf-8"))
    assert "3 replicas" in read["conditions"]
    assert read["machine"]["cores"] >= 1
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|", read["commit"])
    assert read["ledger"] == {"accounts": 5}
    first, second, _ = read["results"]
    assert (first["setting"]["batch"], first["per_second"]["median"]) == (1_000, 200.0)
    assert first["ratios_to_target"] == {"per_second": 0.5, "cpu_us_each": pytest.approx(0.12)}
    assert second["setting"]["fraud_in_path"]
    for path in written[1:]:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000
    assert report.write(rows(measured), tmp_path / "results")[0] != written[0]


def test_an_axis_is_drawn_where_the_run_covers_it(measured: Make) -> None:
    three = rows(measured)
    assert list(curves(three, "batch")) == ["transfers, clients 8"]
    assert [batch for batch, _ in curves(three, "batch")["transfers, clients 8"]] == [1, 1_000]
    assert curves(three, "clients") == {}


@pytest.mark.parametrize("batch", [1, 1_000])
def test_the_disk_is_asked_what_it_can_do(tmp_path: Path, batch: int) -> None:
    assert synced_records_per_second(tmp_path, batch, seconds=0.05) > 0
    assert list(tmp_path.iterdir()) == []
