"""A table for the eye, JSON for comparison, a plot."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from cluster.bench.settings import REPLICAS, Measured

CONDITIONS = (
    f"{REPLICAS} replicas, each synced to disk before an acknowledgement; load generator on the same machine; "
    "median of the repeats; CPU of all processes including the generator"
)


def table(rows: list[Measured]) -> Table:
    view = Table(title="Kibubu bench", caption=CONDITIONS)
    for title in (
        "what",
        "batch",
        "clients",
        "per second",
        "min..max",
        "CPU us each",
        "p50 ms",
        "p99 ms",
        "of raw disk",
        "fraud",
    ):
        view.add_column(title, justify="left" if title in ("what", "fraud") else "right")
    for row in rows:
        setting = row.setting
        view.add_row(
            setting.what,
            f"{setting.batch:,}",
            str(setting.clients),
            f"{row.per_second:,.0f}",
            f"{row.slowest_per_second:,.0f}..{row.fastest_per_second:,.0f}",
            f"{row.cpu_us_each:.2f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.ratio:.2f}",
            "in the path" if setting.fraud_in_path else "-",
        )
    return view


def write(rows: list[Measured], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / time.strftime("bench-%Y%m%d-%H%M%S", time.gmtime())
    results = [{**asdict(row), "ratio_to_reference": row.ratio} for row in rows]
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    text = json.dumps({"conditions": CONDITIONS, "machine": machine, "results": results}, indent=2)
    paths = [stem.with_suffix(".json"), stem.with_suffix(".png")]
    paths[0].write_text(text + "\n", encoding="utf-8")
    _plot(rows, paths[1])
    return paths


def _plot(rows: list[Measured], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(rows) + 1.5), layout="constrained")
    names = [row.setting.name for row in rows]
    bars = axes.barh(names, [row.per_second for row in rows], color="#1f6f54")
    axes.bar_label(bars, labels=[f"{row.per_second:,.0f}" for row in rows], padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel("a second, three synced replicas")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
