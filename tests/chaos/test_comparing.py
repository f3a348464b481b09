"""A node that went another way is found while it runs."""

from __future__ import annotations

from pathlib import Path

from cluster.chaos.comparing import Comparison
from cluster.layout import Layout


def test_another_state_at_a_shared_position_is_a_problem() -> None:
    comparison = Comparison(Layout(Path("nowhere"), 1_024), None)  # type: ignore[arg-type]  # nobody is asked
    comparison.note("n1", 1_000, b"a")
    comparison.note("n1", 1_000, b"a")
    assert comparison.positions == 0  # one node says nothing about the others
    comparison.note("n2", 1_000, b"a")
    assert (comparison.positions, comparison.problems) == (1, [])
    comparison.note("n3", 1_000, b"b")
    assert comparison.problems == ["n3 has another state at position 1000 than n1"]
