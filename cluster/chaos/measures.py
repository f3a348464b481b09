"""Figures from a history and the events beside it: silences, goodput, leader changes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.chaos.checker import Outcome
from cluster.chaos.checker.records import Records
from cluster.chaos.events import Event

Times = npt.NDArray[np.int64]
_NS = 1e9


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """Of all strikes of one fault. Silence: the longest time without an acknowledgement, once a strike."""

    fault: str
    strikes: int
    silence_p50_s: float
    silence_p99_s: float
    silence_max_s: float
    latency_p99_ms: float  # of what was answered meanwhile
    leader_changes_max: int
    recovery_max_s: float
    notes_max: dict[str, float]


def acknowledgement_times(operations: Records) -> Times:
    told = operations["outcome"] == Outcome.ACKNOWLEDGED
    return np.sort(operations["completed_ns"][told])


def silence_s(times: Times, started_ns: int, ended_ns: int) -> float:
    """The longest time without an acknowledgement that touches this window."""
    first = max(int(np.searchsorted(times, started_ns, side="right")) - 1, 0)
    last = int(np.searchsorted(times, ended_ns, side="left"))
    within = times[first : last + 1]
    if len(within) < 2:
        return (ended_ns - started_ns) / _NS
    return float(np.diff(within).max()) / _NS


def latency_p99_ms(operations: Records, spans_ns: Sequence[tuple[int, int]]) -> float:
    """From a client's attempt to its answer, of all that were answered within these spans."""
    told = operations[operations["outcome"] == Outcome.ACKNOWLEDGED]
    within = np.zeros(len(told), dtype=bool)
    for started_ns, ended_ns in spans_ns:
        within |= (told["completed_ns"] >= started_ns) & (told["completed_ns"] <= ended_ns)
    if not within.any():
        return 0.0
    return float(np.percentile((told["completed_ns"] - told["invoked_ns"])[within], 99)) / 1e6


def rate(times: Times, started_ns: int, ended_ns: int) -> float:
    """Acknowledged transfers a second."""
    if ended_ns <= started_ns:
        return 0.0
    count = int(np.searchsorted(times, ended_ns)) - int(np.searchsorted(times, started_ns))
    return count * _NS / (ended_ns - started_ns)


def figures_by_fault(operations: Records, events: Sequence[Event]) -> list[FaultFigures]:
    figures = []
    times = acknowledgement_times(operations)
    for fault in dict.fromkeys(event.fault for event in events):
        mine = [event for event in events if event.fault == fault and event.recovered_ns]
        if not mine:
            continue
        silences = [silence_s(times, event.started_ns, event.recovered_ns) for event in mine]
        notes = {name for event in mine for name in event.notes}
        figures.append(
            FaultFigures(
                fault,
                len(mine),
                float(np.percentile(silences, 50)),
                float(np.percentile(silences, 99)),
                max(silences),
                latency_p99_ms(operations, [(event.started_ns, event.healed_ns) for event in mine]),
                max(event.leader_changes for event in mine),
                max((event.recovered_ns - event.healed_ns) / _NS for event in mine),
                {name: max(event.notes.get(name, 0.0) for event in mine) for name in sorted(notes)},
            )
        )
    return figures
