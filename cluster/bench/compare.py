"""Two runs beside each other: what became better or worse by more than the repeats differ among themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from cluster.bench.report import FORMAT

FIGURES = {"per_second": "per second", "cpu_us_each": "CPU us each", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}
_MORE_IS_BETTER = frozenset({"per_second"})
_NEWEST = {"last": 1, "previous": 2}
_EDGE = 1e-9


class ComparisonError(Exception):
    """There is no such file, or it is not the result of a run that this version can read."""


@dataclass(frozen=True, slots=True)
class Change:
    name: str  # of the setting
    figure: str
    before: float
    after: float
    verdict: str  # better | worse | within the noise

    @property
    def ratio(self) -> float:
        return self.after / self.before if self.before else 0.0


def read(name: str, folder: Path) -> dict[str, Any]:
    """`last` and `previous` are the newest runs in the folder; anything else is a file."""
    path = _newest(folder, name) if name in _NEWEST else Path(name)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path}: cannot be read: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or not isinstance(raw.get("results"), list):
        raise ComparisonError(f"{path}: is not a result of `kibubu bench` in format {FORMAT}")
    return {**raw, "path": str(path)}


def _newest(folder: Path, name: str) -> Path:
    found = sorted(folder.glob("bench-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if len(found) < _NEWEST[name]:
        raise ComparisonError(f"{name}: {folder} holds {len(found)} results of `kibubu bench`")
    return found[-_NEWEST[name]]


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Of the settings that both have. Raises ComparisonError when there is none, or a figure is missing."""
    old = {row["name"]: row for row in before["results"]}
    both = [(old[row["name"]], row) for row in after["results"] if row["name"] in old]
    if not both:
        raise ComparisonError(f"{before['path']} and {after['path']} have no setting in common")
    try:
        return [_change(name, was, now) for was, now in both for name in FIGURES]
    except (KeyError, TypeError) as error:
        raise ComparisonError(f"{before['path']}, {after['path']}: a figure is missing: {error}") from error


def _change(name: str, was: dict[str, Any], now: dict[str, Any]) -> Change:
    before, after = was[name], now[name]
    verdict = "within the noise"
    if after["low"] > before["high"] + _EDGE or after["high"] < before["low"] - _EDGE:
        grew = after["median"] > before["median"]
        verdict = "better" if grew == (name in _MORE_IS_BETTER) else "worse"
    return Change(now["name"], name, float(before["median"]), float(after["median"]), verdict)


def table(before: dict[str, Any], after: dict[str, Any], found: list[Change]) -> Table:
    caption = "; ".join(
        f"{which}: {run['path']}, commit {str(run.get('commit', ''))[:12] or 'unknown'}"
        for which, run in (("before", before), ("after", after))
    )
    view = Table(title="Kibubu bench: after / before", caption=f"{caption}; better or worse: the ranges do not overlap")
    for title in ("setting", "figure", "before", "after", "ratio", ""):
        view.add_column(title, justify="left" if title in ("setting", "figure", "") else "right")
    for one in found:
        view.add_row(
            one.name, FIGURES[one.figure], f"{one.before:,.2f}", f"{one.after:,.2f}", f"{one.ratio:.2f}", one.verdict
        )
    return view
