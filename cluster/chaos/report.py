"""What an ordeal leaves behind: text, JSON, the whole history, and a plot of throughput over time with the faults."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluster.chaos.checker import Evidence, Verdict
from cluster.chaos.checker.records import Records
from cluster.chaos.events import Event
from cluster.chaos.measures import FaultFigures
from cluster.chaos.people import Paid

PROBLEMS_SHOWN_MAX = 50
_BUCKET_NS = 250_000_000


@dataclass(slots=True)
class Report:
    scenario: str
    seed: int
    started_at: str
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    figures: list[FaultFigures] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # fault: why this machine forbids it
    sent: int = 0
    acknowledged: int = 0
    surely_not: int = 0
    unknown: int = 0  # attempts
    resolved_s: float = 0.0  # after the end: until the outcome of every open transfer was known
    unanswered_but_applied: int = 0
    unanswered_never_applied: int = 0
    reads: int = 0
    states_compared: int = 0  # positions at which running nodes told each other's state hash
    payments: dict[str, int] = field(default_factory=dict)  # by way and outcome
    calm_rate: float = 0.0
    faulted_rate: float = 0.0
    calm_latency_p99_ms: float = 0.0
    silence_max_s: float = 0.0
    memory_mib: dict[str, tuple[int, int]] = field(default_factory=dict)  # of each node: before, at the end
    checked_per_second: float = 0.0
    verify_lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        return self.faulted_rate / self.calm_rate if self.calm_rate else 0.0

    def note_verdict(self, verdict: Verdict) -> None:
        self.unanswered_but_applied = verdict.resolved_applied
        self.unanswered_never_applied = verdict.resolved_absent
        self.problems += [str(problem) for problem in verdict.problems]
        hidden = sum(verdict.counts.values()) - len(verdict.problems)
        if hidden:
            self.problems.append(f"and {hidden:,} more: {dict(verdict.counts)}")

    def note_people(self, paid: Sequence[Paid], problems: list[str]) -> None:
        self.payments = dict(Counter(f"{one.way} {one.ended()}" for one in paid))
        self.problems += problems

    def lines(self) -> list[str]:
        lines = [f"scenario {self.scenario}, seed {self.seed}, {self.seconds:.0f} s, {len(self.events)} strikes"]
        for fault, reason in self.skipped.items():
            lines.append(f"SKIPPED {fault}: {reason}")
        lines += [_figure_line(figure) for figure in self.figures]
        lines += [
            f"transfers sent: {self.sent:,}; acknowledged: {self.acknowledged:,}; surely not applied: "
            f"{self.surely_not:,}; unknown: {self.unknown:,}; reads: {self.reads:,}",
            "payments: " + "; ".join(f"{name} {count:,}" for name, count in sorted(self.payments.items())),
            f"unanswered but applied: {self.unanswered_but_applied:,}; unanswered and never applied: "
            f"{self.unanswered_never_applied:,}; all known {self.resolved_s:.2f} s after the end",
            f"longest time without an acknowledgement: {self.silence_max_s:.2f} s",
            f"acknowledged a second: {self.calm_rate:,.0f} without faults, {self.faulted_rate:,.0f} under them: "
            f"goodput {self.goodput:.2f}; answers without faults p99 {self.calm_latency_p99_ms:.0f} ms",
            "memory of nodes, MiB, in the beginning and at the end: "
            + "; ".join(f"{name} {first:,} {last:,}" for name, (first, last) in self.memory_mib.items()),
            f"states of running nodes compared at {self.states_compared:,} positions",
            *self.verify_lines,
            f"checked at {self.checked_per_second:,.0f} operations a second",
        ]
        return lines


def _figure_line(figure: FaultFigures) -> str:
    notes = "".join(f", {name} {value:.2f}" for name, value in figure.notes_max.items())
    p50_s, p99_s, max_s = figure.silence_p50_s, figure.silence_p99_s, figure.silence_max_s
    return (
        f"{figure.fault}: {figure.strikes} times, silence p50 {p50_s:.2f} s, p99 {p99_s:.2f} s, longest {max_s:.2f} s, "
        f"answers p99 {figure.latency_p99_ms:.0f} ms, leader changes at most {figure.leader_changes_max}, "
        f"all serving {figure.recovery_max_s:.1f} s after it{notes}"
    )


def write(report: Report, evidence: Evidence, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    text, data, history, plot = (folder / name for name in ("report.txt", "report.json", "history.npz", "timeline.png"))
    text.write_text("\n".join([*report.lines(), *report.problems]) + "\n", encoding="utf-8")
    machine = {"python": platform.python_version(), "kernel": platform.release(), "machine": platform.machine()}
    data.write_text(json.dumps({**asdict(report), "machine": machine}, indent=1), encoding="utf-8")
    save(evidence, history)
    draw(report, evidence.operations, plot)
    return [text, data, history, plot]


def save(evidence: Evidence, path: Path) -> None:
    """Everything that the judgement rests on, so that it can be made again: `kibubu chaos --check FILE`."""
    arrays: dict[str, Any] = {f"log_{node}": log for node, log in evidence.logs.items()}
    arrays |= {f"repeats_{node}": repeats for node, repeats in evidence.repeats.items()}
    arrays |= {f"expired_{node}": expired for node, expired in evidence.expired.items()}
    for name in ("opening_minor", "final_balances_minor"):
        arrays[name] = np.array(list(getattr(evidence, name).items()), np.int64).reshape(-1, 2)
    arrays["aside_minor"] = np.array([evidence.aside_minor], np.int64)
    for name in ("guarded", "own_accounts"):
        arrays[name] = np.array(sorted(getattr(evidence, name)), np.int64)
    np.savez_compressed(path, operations=evidence.operations, reads=evidence.reads, **arrays)


def load(path: Path) -> Evidence:
    with np.load(path, allow_pickle=False) as saved:
        return Evidence(
            saved["operations"],
            saved["reads"],
            {name.removeprefix("log_"): saved[name] for name in saved.files if name.startswith("log_")},
            {name.removeprefix("repeats_"): saved[name] for name in saved.files if name.startswith("repeats_")},
            {name.removeprefix("expired_"): saved[name] for name in saved.files if name.startswith("expired_")},
            dict(saved["opening_minor"].tolist()),
            dict(saved["final_balances_minor"].tolist()),
            int(saved["aside_minor"].sum()) if "aside_minor" in saved.files else 0,
            frozenset(saved["guarded"].tolist()),
            frozenset(saved["own_accounts"].tolist()),
        )


def draw(report: Report, operations: Records, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from cluster.chaos.measures import acknowledgement_times

    times = acknowledgement_times(operations)
    start_ns = int(operations["invoked_ns"].min())
    buckets = np.arange(start_ns, int(times.max()) + _BUCKET_NS, _BUCKET_NS)
    counts, _ = np.histogram(times, buckets)
    figure, axes = plt.subplots(figsize=(14, 5))
    axes.plot((buckets[:-1] - start_ns) / 1e9, counts * 1e9 / _BUCKET_NS, linewidth=0.8, color="black")
    faults = list(dict.fromkeys(event.fault for event in report.events))
    colours = plt.get_cmap("tab20")
    for number, fault in enumerate(faults):
        label: str | None = fault
        for event in (event for event in report.events if event.fault == fault):
            span = ((event.started_ns - start_ns) / 1e9, (event.healed_ns - start_ns) / 1e9)
            axes.axvspan(*span, alpha=0.35, color=colours(number % 20), label=label)
            label = None
    axes.set_xlabel("seconds")
    axes.set_ylabel("acknowledged transfers a second")
    axes.set_title(f"kibubu chaos {report.scenario}, seed {report.seed}")
    if faults:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
