"""What a measurement leaves: a table for the eye with target and ratio, JSON for later comparison, plots."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from cluster.bench.measured import Measured, Spread
from cluster.bench.meters import NOISE_CORES
from cluster.bench.settings import REPLICAS, SIZE_SHARE_MIN, Target
from cluster.layout import PROJECT_ROOT

FORMAT = 2  # of the JSON; comparison reads no other
CONDITIONS = (
    f"{REPLICAS} replicas, each synced to disk before an acknowledgement; load generator on the same machine; "
    "median (range) of the repeats; CPU of all processes including the generator; "
    "ratio to target: 1 is reached, more is better"
)
_COLUMNS = ("what", "batch", "clients", "fraud", "per second", "CPU us each", "bytes each", "p50 ms", "p99 ms")


def table(rows: list[Measured]) -> Table:
    view = Table(title="Kibubu bench", caption=CONDITIONS)
    for title in (*_COLUMNS, "of raw disk", "target", "ratio", "others' cores"):
        view.add_column(title, justify="left" if title in ("what", "fraud", "target") else "right")
    for row in rows:
        setting = row.setting
        view.add_row(
            setting.what,
            f"{setting.batch:,}",
            f"{setting.clients:,}",
            "in the path" if setting.fraud_in_path else "-",
            _ranged(row.per_second, ",.0f"),
            _ranged(row.cpu_us_each, ".2f"),
            f"{row.written_bytes_each.median:,.0f}",
            f"{row.p50_ms.median:.1f}",
            f"{row.p99_ms.median:.1f}",
            f"{row.ratio_to_reference:.2f}",
            told(setting.target),
            ", ".join(f"{ratio:.2f}" for ratio in row.ratios_to_target().values()) or "-",
            f"{row.foreign_cores.median:.2f}{' !' if row.foreign_cores.median > NOISE_CORES else ''}",
        )
    return view


def _ranged(value: Spread, form: str) -> str:
    return f"{value.median:{form}} ({value.low:{form}}..{value.high:{form}})"


def told(target: Target) -> str:
    parts = []
    if target.per_second is not None:
        parts.append(f"{target.per_second:,.0f}/s")
    if target.cpu_us_each is not None:
        parts.append(f"{target.cpu_us_each:g} us")
    if target.p50_ms is not None:
        parts.append(f"p50 {target.p50_ms:g} ms")
    if target.p99_ms is not None:
        parts.append(f"p99 {target.p99_ms:g} ms")
    return ", ".join(parts) or "-"


def commit() -> str:
    """Of the source tree, with a mark when files differ from it; empty outside one."""
    shown = _git("rev-parse", "HEAD")
    return f"{shown}+changes" if shown and _git("status", "--porcelain", "--untracked-files=no") else shown


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def about() -> dict[str, Any]:
    """Of the run as a whole: what the figures hold for."""
    return {
        "format": FORMAT,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "conditions": CONDITIONS,
        "replicas": REPLICAS,
        "sync": "before the acknowledgement, on every replica",
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
    }


def write(rows: list[Measured], folder: Path, **more: Any) -> list[Path]:
    """The JSON file first, then the plots. `more` is written beside the results."""
    from cluster.bench.plots import write_plots

    folder.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(folder)
    path = stem.with_suffix(".json")
    text = json.dumps({**about(), **more, "results": [row.as_json() for row in rows]}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return [path, *write_plots(rows, stem)]


def _free_stem(folder: Path) -> Path:
    """Two runs may end in the same second."""
    name = time.strftime("bench-%Y%m%d-%H%M%S", time.gmtime())
    stem, number = folder / name, 1
    while stem.with_suffix(".json").exists():
        number += 1
        stem = folder / f"{name}-{number}"
    return stem


def size_lines(rows: list[Measured]) -> list[str]:
    """How each setting at a larger ledger stands to the same at the smallest one that was measured."""
    smallest: dict[str, Measured] = {}
    lines = []
    for row in rows:
        name = replace(row.setting, stored=0).name
        first = smallest.setdefault(name, row)
        if first is not row:
            share = row.per_second.median / first.per_second.median
            lines.append(
                f"size, {name}: {share:.2f} of the speed with {first.setting.stored:,} transfers stored "
                f"when {row.setting.stored:,} are (target: {SIZE_SHARE_MIN:g})"
            )
    return lines
