"""Overload: how many callers, what is compared with what."""

from __future__ import annotations

import pytest

from cluster.bench.memory import NodeMemory, footprint
from cluster.bench.overload import CALLERS_MAX, TRANSFERS_IN_FLIGHT_MAX, overloads, steps, with_overload
from cluster.bench.report import size_lines
from cluster.bench.settings import TABLE, Setting, Target
from tests.cluster.bench.conftest import Make

SINGLES = Setting("transfers", 1, 64, target=Target(per_second=1))


def test_ten_and_a_hundred_times_the_callers_within_what_the_load_can_hold() -> None:
    assert [step.clients for step in steps(SINGLES)] == [64, 640, 6_400]
    assert [step.clients for step in steps(Setting("transfers", 8_000, 4))] == [4, 40]
    assert [step.clients for step in steps(Setting("payments", 1, 256))] == [256, 2_560]
    assert [step.target for step in steps(SINGLES)] == [SINGLES.target, Target(), Target()]
    for step in with_overload(list(TABLE)):
        assert step.clients <= CALLERS_MAX
        assert step.clients * step.batch <= TRANSFERS_IN_FLIGHT_MAX


@pytest.mark.parametrize("setting", [Setting("transfers", 1, 1), Setting("ussd", 1, 64), Setting("unary", 1, 64)])
def test_one_caller_and_other_programs_are_not_overloaded(setting: Setting) -> None:
    assert steps(setting) == []


def test_goodput_at_the_most_callers_is_held_against_the_best_at_any_number(measured: Make) -> None:
    wanted = [SINGLES, Setting("transfers", 1, 1), Setting("transfers", 8_000, 4)]
    done = {64: 200, 640: 1_000, 6_400: 800, 4: 500, 40: 500}
    rows = [measured(step, *[done[step.clients]] * 3) for step in with_overload(wanted)]
    first, second = overloads(wanted, rows)
    assert (first.name, first.callers, first.best_per_second, first.share) == (SINGLES.name, 6_400, 500.0, 0.8)
    assert (second.callers, second.share) == (40, 1.0)
    assert "0.80 of the best 500/s (target: 0.9)" in first.line()


def test_a_larger_ledger_is_held_against_the_smallest(measured: Make) -> None:
    rows = [
        measured(Setting("transfers", 1, 8, stored=stored), *[done] * 3) for stored, done in ((0, 100), (5_000, 70))
    ]
    assert size_lines(rows) == [
        "size, transfers batch 1 clients 8: 0.70 of the speed with 0 transfers stored when 5,000 are (target: 0.8)"
    ]


def test_memory_per_account_is_of_the_largest_node_and_growth_leaves_files_out() -> None:
    before = {"n1": NodeMemory(1_000, 400), "n2": NodeMemory(1_000, 400)}
    now = {"n1": NodeMemory(5_000, 2_000), "n2": NodeMemory(4_000, 500), "n3": NodeMemory(100, 0)}
    found = footprint(before, now, 10, 7)
    assert (found.resident_bytes, found.file_bytes) == (5_000, 2_000)
    assert (found.resident_bytes_each, found.growth_bytes_each) == (500.0, 290.0)
    assert "500 bytes per account, 290 of growth (target: 400)" in found.line()
    with pytest.raises(ValueError, match="no node runs"):
        footprint(before, {}, 10, 0)
