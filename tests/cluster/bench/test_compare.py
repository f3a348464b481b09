"""Two results beside each other: a change counts when the ranges do not overlap, and bad files are named."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.bench import compare, report
from cluster.bench.settings import Setting
from tests.cluster.bench.conftest import Make

FEW, MANY = Setting("transfers", 1, 64), Setting("transfers", 1_000, 4)


def run_of(*rows: Any) -> dict[str, Any]:
    text = json.dumps({**report.about(), "results": [row.as_json() for row in rows]})
    return {**json.loads(text), "path": "a.json"}


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    return {one.figure: one.verdict for one in compare.changes(before, after)}


def test_more_work_a_second_at_less_cost_is_better_and_the_opposite_worse(measured: Make) -> None:
    slow, fast = run_of(measured(FEW, 200, 210, 220)), run_of(measured(FEW, 400, 410, 420, latency_ms=1.0))
    assert set(verdicts(slow, fast).values()) == {"better"}
    assert set(verdicts(fast, slow).values()) == {"worse"}
    ratio = {one.figure: one.ratio for one in compare.changes(slow, fast)}
    assert ratio["per_second"] == pytest.approx(410 / 210)
    assert ratio["p50_ms"] == pytest.approx(0.5, rel=0.01)


def test_ranges_that_overlap_are_noise(measured: Make) -> None:
    one, other = run_of(measured(FEW, 200, 300, 400)), run_of(measured(FEW, 390, 500, 600))
    assert set(verdicts(one, other).values()) == {"within the noise"}
    assert set(verdicts(one, one).values()) == {"within the noise"}


def test_only_settings_of_both_are_compared(measured: Make) -> None:
    found = compare.changes(run_of(measured(FEW)), run_of(measured(MANY), measured(FEW)))
    assert {one.name for one in found} == {FEW.name}
    with pytest.raises(compare.ComparisonError, match="no setting in common"):
        compare.changes(run_of(measured(FEW)), run_of(measured(MANY)))


def test_a_figure_that_is_missing_is_named(measured: Make) -> None:
    broken = run_of(measured(FEW))
    del broken["results"][0]["p99_ms"]
    with pytest.raises(compare.ComparisonError, match=r"a figure is missing: 'p99_ms'"):
        compare.changes(run_of(measured(FEW)), broken)


def test_the_newest_runs_have_names(tmp_path: Path, measured: Make) -> None:
    with pytest.raises(compare.ComparisonError, match="holds 0 results"):
        compare.read("last", tmp_path)
    older, newer = (report.write([measured(one)], tmp_path)[0] for one in (FEW, MANY))
    os.utime(older, (1, 1))
    assert compare.read("last", tmp_path)["path"] == str(newer)
    assert compare.read("previous", tmp_path)["path"] == str(older)
    assert compare.read(str(older), tmp_path)["results"][0]["name"] == FEW.name


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "results": []}', '{"format": 2}'])
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(compare.ComparisonError, match=r"odd\.json: "):
        compare.read(str(path), tmp_path)


def test_the_table_shows_files_commits_and_verdicts(measured: Make) -> None:
    before, after = run_of(measured(FEW, 200, 210, 220)), run_of(measured(FEW, 400, 410, 420))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(compare.table(before, after, compare.changes(before, after)))
    shown = " ".join(console.export_text().split())
    for words in ("before: a.json", "commit", "CPU us each", "1.95", "better", "within the noise"):
        assert words in shown, words
