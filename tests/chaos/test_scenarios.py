"""What can be asked for, and that a machine which forbids something says so."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.chaos import needs, scenarios
from cluster.chaos.faults.kinds import FAULTS, Fault
from cluster.chaos.ground import NotRecoveredError
from cluster.chaos.scenarios import TOUR, Plan, carry_out, chosen


def ground(seed: int = 1) -> Any:
    return SimpleNamespace(random=random.Random(seed), hold=lambda seconds: None, stopping=threading.Event())


def counting(name: str, struck: list[str]) -> Fault:
    return Fault(name, name, (), lambda _: struck.append(name), True, False)


def test_every_fault_says_what_it_does_and_the_mix_has_no_canary() -> None:
    assert len(FAULTS) > 35
    assert all(fault.says for fault in FAULTS.values())
    mix = scenarios.scenarios()["mix"].faults
    assert not any(fault.is_canary for fault in mix)
    assert {fault.name for fault in mix} >= set(TOUR)


def test_the_tour_has_every_need() -> None:
    assert {need for name in TOUR for need in FAULTS[name].needs} == set(needs._PROBES)


def test_what_the_machine_forbids_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "forbidden", lambda wanted: ["no root"] if "network" in wanted else [])
    choice = chosen(("bridge", "leader-killed"))
    assert [fault.name for fault in choice.faults] == ["leader-killed"]
    assert choice.skipped == {"bridge": "no root"}
    assert choice.needs == frozenset()


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="rain"):
        chosen(("rain",))


def test_strikes_are_as_many_as_were_asked_for() -> None:
    struck: list[str] = []
    assert carry_out(Plan((counting("a", struck), counting("b", struck)), 0.01, 5), ground()) == []
    assert struck == ["a", "b", "a", "b", "a"]


def test_without_time_every_fault_comes_once_in_the_seeds_order() -> None:
    struck: list[str] = []
    faults = tuple(counting(str(n), struck) for n in range(9))
    assert carry_out(Plan(faults, 0.0), ground(1)) == []
    first = list(struck)
    struck.clear()
    assert carry_out(Plan(faults, 0.0), ground(1)) == []
    assert sorted(first) == [str(n) for n in range(9)]
    assert struck == first


@pytest.mark.parametrize(
    ("error", "said"),
    [(NotRecoveredError("n2 did not come back"), "n2 did not come back"), (OSError("broken"), "the faults stopped")],
)
def test_a_fault_that_fails_ends_the_ordeal_with_a_problem(error: Exception, said: str) -> None:
    def strike(_: Any) -> None:
        raise error

    (problem,) = carry_out(Plan((Fault("bad", "bad", (), strike, True, False),), 0.0), ground())
    assert said in problem
