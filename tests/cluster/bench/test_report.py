"""What a measurement leaves: a table that states its conditions, a JSON file that says the same, a plot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cluster.bench import report
from cluster.bench.reference import synced_records_per_second
from cluster.bench.run import _summary
from cluster.bench.settings import Measured, Run, Setting, settings

TRANSFERS = Setting("transfers", 1_000, 8, fraud_in_path=False)
PAYMENTS = Setting("payments", 1, 64, fraud_in_path=True)


def rows() -> list[Measured]:
    runs = [Run(rate, 9.5, [1.0, 2.0, 3.0], {"ok": 10}) for rate in (100.0, 300.0, 200.0)]
    return [_summary(setting, runs, 1_000.0) for setting in (TRANSFERS, PAYMENTS)]


def test_the_settings_are_those_that_were_promised() -> None:
    every = settings(quick=False)
    pairs = {(one.batch, one.clients) for one in every if one.what == "transfers"}
    assert pairs == {(batch, clients) for batch in (1, 10, 100, 1_000, 8_000) for clients in (1, 8, 64)}
    assert [(one.clients, one.fraud_in_path) for one in every if one.what == "payments"] == [(64, True)]
    assert {one.name for one in settings(quick=True)} <= {one.name for one in every}
    assert len({one.name for one in every}) == len(every)


def test_the_median_repeat_is_told_with_its_extremes() -> None:
    row = rows()[0]
    assert (row.per_second, row.slowest_per_second, row.fastest_per_second) == (200.0, 100.0, 300.0)
    assert (row.p50_ms, row.p99_ms, row.ratio) == (2.0, 3.0, 0.2)
    assert row.outcomes == {"ok": 30}
    assert _summary(TRANSFERS, [Run(0.0, 0.0, [], {})], 0.0).ratio == 0.0


def test_the_table_states_replicas_sync_batch_clients_and_fraud() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table(rows()))
    shown = console.export_text()
    for words in ("3 replicas", "synced to disk", "batch", "clients", "1,000", "64", "in the path", "CPU us each"):
        assert words in " ".join(shown.split()), words


def test_json_and_plot_are_written(tmp_path: Path) -> None:
    written = report.write(rows(), tmp_path / "results")
    assert [path.suffix for path in written] == [".json", ".png"]
    read = json.loads(written[0].read_text(encoding="utf-8"))
    assert "3 replicas" in read["conditions"]
    assert read["machine"]["cores"] >= 1
    first, second = read["results"]
    assert (first["setting"]["batch"], first["setting"]["clients"], first["per_second"]) == (1_000, 8, 200.0)
    assert second["setting"]["fraud_in_path"]
    assert first["cpu_us_each"] == 9.5
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert written[1].stat().st_size > 5_000


@pytest.mark.parametrize("batch", [1, 1_000])
def test_the_disk_is_asked_what_it_can_do(tmp_path: Path, batch: int) -> None:
    assert synced_records_per_second(tmp_path, batch, seconds=0.05) > 0
    assert list(tmp_path.iterdir()) == []
