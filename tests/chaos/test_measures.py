"""Silences, goodput and latencies, on histories small enough to work out by hand."""

from __future__ import annotations

import numpy as np

from cluster.chaos.checker import NEVER_NS, OPERATION, Outcome
from cluster.chaos.events import Event
from cluster.chaos.measures import acknowledgement_times, figures_by_fault, latency_p99_ms, rate, silence_s

SECOND = 1_000_000_000


def operations(answered_s: list[float]) -> np.ndarray:
    rows = np.zeros(len(answered_s) + 1, OPERATION)
    rows["completed_ns"][:-1] = [int(at * SECOND) for at in answered_s]
    rows["invoked_ns"][:-1] = rows["completed_ns"][:-1] - SECOND // 100
    rows["outcome"][-1], rows["completed_ns"][-1] = Outcome.UNKNOWN, NEVER_NS
    return rows


def test_what_was_not_answered_is_no_acknowledgement() -> None:
    assert acknowledgement_times(operations([2, 1])).tolist() == [SECOND, 2 * SECOND]


def test_the_silence_of_a_window_reaches_beyond_its_edges() -> None:
    times = acknowledgement_times(operations([1, 2, 5, 5.5, 6]))
    assert silence_s(times, 3 * SECOND, 4 * SECOND) == 3.0
    assert silence_s(times, int(5.1 * SECOND), int(5.9 * SECOND)) == 0.5
    assert silence_s(times, 7 * SECOND, 9 * SECOND) == 2.0  # nothing afterwards: the window itself was silent


def test_rate_and_latency_count_what_lies_within() -> None:
    rows = operations([1, 2, 3, 4])
    times = acknowledgement_times(rows)
    assert rate(times, int(0.5 * SECOND), int(2.5 * SECOND)) == 1.0
    assert rate(times, 5, 5) == 0.0
    assert latency_p99_ms(rows, [(0, 10 * SECOND)]) == 10.0
    assert latency_p99_ms(rows, [(20 * SECOND, 30 * SECOND)]) == 0.0


def test_figures_are_of_all_strikes_of_a_fault_that_recovered() -> None:
    rows = operations([1, 2, 4, 5, 8, 9])
    events = [
        Event("cut", "n1", 2 * SECOND, 3 * SECOND, 5 * SECOND, leader_changes=1, notes={"packets": 3}),
        Event("cut", "n2", 6 * SECOND, 7 * SECOND, 9 * SECOND, leader_changes=2, notes={"packets": 9}),
        Event("cut", "n3", 9 * SECOND),
    ]
    (figure,) = figures_by_fault(rows, events)
    assert (figure.fault, figure.strikes, figure.silence_max_s, figure.leader_changes_max) == ("cut", 2, 3.0, 2)
    assert figure.recovery_max_s == 2.0
    assert figure.notes_max == {"packets": 9}
