"""Plots of a measurement: all rows, and throughput and p99 along an axis wherever the run has at least two points."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from cluster.bench.measured import Measured

AXES = ("batch", "clients", "stored")  # the last: the size of the ledger
_COLOUR = "#1f6f54"
Curve = list[tuple[int, Measured]]


def write_plots(rows: list[Measured], stem: Path) -> list[Path]:
    import matplotlib as mpl

    mpl.use("Agg")
    paths = [_bars(rows, stem.with_suffix(".png"))] if rows else []
    for axis in AXES:
        found = curves(rows, axis)
        if found:
            paths.append(_axis(found, axis, stem.with_name(f"{stem.name}-{axis}.png")))
    return paths


def curves(rows: list[Measured], axis: str) -> dict[str, Curve]:
    """Rows that differ in this axis alone, by what they have in common; only those with two points or more."""
    found: dict[str, Curve] = defaultdict(list)
    for row in rows:
        setting = row.setting
        held = {"batch": setting.batch, "clients": setting.clients, "stored": setting.stored}
        at = held.pop(axis)
        name = ", ".join(
            [setting.what, *(f"{part} {value:,}" for part, value in held.items() if part != "stored" or value)]
        )
        found[name].append((at, row))
    return {name: sorted(curve, key=lambda point: point[0]) for name, curve in found.items() if len(curve) > 1}


def _bars(rows: list[Measured], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(rows) + 1.5), layout="constrained")
    names = [row.setting.name for row in rows]
    bars = axes.barh(names, [row.per_second.median for row in rows], color=_COLOUR)
    axes.bar_label(bars, labels=[f"{row.per_second.median:,.0f}" for row in rows], padding=3)
    for at, row in enumerate(rows):
        if row.setting.target.per_second is not None:
            axes.plot([row.setting.target.per_second] * 2, [at - 0.4, at + 0.4], color="black", linewidth=2)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel("a second, three synced replicas (black: target)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _axis(found: dict[str, Curve], axis: str, path: Path) -> Path:
    from matplotlib import pyplot

    figure, (rate, delay) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, curve in found.items():
        at = [point for point, _ in curve]
        medians = [row.per_second.median for _, row in curve]
        below = [row.per_second.median - row.per_second.low for _, row in curve]
        above = [row.per_second.high - row.per_second.median for _, row in curve]
        rate.errorbar(at, medians, yerr=[below, above], marker="o", capsize=3, label=name)
        delay.plot(at, [row.p99_ms.median for _, row in curve], marker="o", label=name)
    for axes, title in ((rate, "a second"), (delay, "p99 ms")):
        axes.set(xscale="symlog" if axis == "stored" else "log", yscale="log", xlabel=axis, ylabel=title)
        axes.grid(visible=True, alpha=0.3)
    rate.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
