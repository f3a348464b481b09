"""The commands that bring a cluster of their own, in their shortest form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster import lifecycle
from cluster.layout import free_port_base

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def kibubu(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = lifecycle._environment() | {"KIBUBU_HOME": str(home), "KIBUBU_PORT_BASE": str(free_port_base())}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments], env=environment, cwd=home, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip


def left_over(home: Path) -> list[str]:
    """Command lines of processes that still speak of this folder."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if str(home) in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
    ]


def test_bench_measures_writes_and_cleans_up(tmp_path: Path) -> None:
    done = kibubu(tmp_path, "bench", "--only", "transfers batch 1,000", "--seconds", "0.3", "--repeats", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 nodes have the same hash" in done.stdout
    assert "3 replicas" in done.stdout
    (written,) = (tmp_path / "bench-results").glob("*.json")
    rows = json.loads(written.read_text(encoding="utf-8"))["results"]
    assert [row["setting"]["fraud_in_path"] for row in rows] == [False, True]
    for row in rows:
        assert row["per_second"]["median"] > 0
        assert row["cpu_us_each"]["median"] > 0
    assert rows[0]["others"] == {}
    assert rows[1]["others"]["decided: allow"] > 0
    assert list((tmp_path / "bench-results").glob("*.png")) != []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert left_over(tmp_path) == []


def test_bench_pays_with_fraud_fees_and_pin_in_the_path(tmp_path: Path) -> None:
    done = kibubu(tmp_path, "bench", "--only", "payments", "--seconds", "0.5", "--repeats", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = (tmp_path / "bench-results").glob("*.json")
    (row,) = json.loads(written.read_text(encoding="utf-8"))["results"]
    assert row["setting"]["fraud_in_path"]
    # Scored and allowed, but for what a busy machine leaves to the stated policy; nothing is held or refused.
    assert row["others"]["decided: allow"] > 9 * row["others"].get("decided: allow_unscored", 0)
    assert set(row["others"]) <= {"decided: allow", "decided: allow_unscored", "sidecar: deadline_exceeded"}
    assert row["per_second"]["median"] > 0, row["others"]


def test_bench_says_when_nothing_is_called_so(tmp_path: Path) -> None:
    done = kibubu(tmp_path, "bench", "--only", "nonsense")
    assert done.returncode == 1
    assert "--only 'nonsense': no setting has this in its name" in done.stderr


def test_chaos_kills_the_leader_and_nothing_is_lost(tmp_path: Path) -> None:
    done = kibubu(tmp_path, "chaos", "--kills", "2", "--seconds", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without an acknowledgement" in done.stdout
    assert left_over(tmp_path) == []
