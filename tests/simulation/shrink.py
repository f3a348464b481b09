"""A failing plan with less in it: faults and operations are left out as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.plan import Plan
from tests.simulation.run import run_plan

RUNS_MAX = 100


class _Budget:
    def __init__(self) -> None:
        self.left = RUNS_MAX


def shrink(plan: Plan, canary: str = "") -> Plan:
    """The plan itself when nothing can be left out. Every step is a whole run, RUNS_MAX of them at most."""
    budget = _Budget()

    def fails(smaller: Plan) -> bool:
        budget.left -= 1
        return budget.left >= 0 and bool(run_plan(smaller, canary).violations)

    plan = _fewer(plan, [fault.number for fault in plan.faults], lambda p, keep: p.only(faults=keep), fails)
    plan = _fewer(plan, [op.number for op in plan.ops], lambda p, keep: p.only(ops=keep), fails)
    return _fewer(plan, [fault.number for fault in plan.faults], lambda p, keep: p.only(faults=keep), fails)


def _fewer(plan: Plan, items: list[int], only: Callable[[Plan, set[int]], Plan], fails: Callable[[Plan], bool]) -> Plan:
    """Leave out halves, then quarters, ... then single ones (delta debugging without its complements)."""
    size = max(1, len(items) // 2)
    while items:
        at = 0
        while at < len(items):
            fewer = items[:at] + items[at + size :]
            smaller = only(plan, set(fewer))
            if fails(smaller):
                plan, items = smaller, fewer
            else:
                at += size
        if size == 1:
            return plan
        size //= 2
    return plan


def ranges(items: list[int]) -> str:
    """[0, 3, 4, 5] -> "0,3-5"; nothing -> "none"."""
    parts: list[str] = []
    for number in sorted(items):
        if parts and int(parts[-1].rpartition("-")[2]) == number - 1:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{number}"
        else:
            parts.append(str(number))
    return ",".join(parts) or "none"


def numbers(text: str) -> set[int] | None:
    """The other way; "" = all of them."""
    if not text:
        return None
    if text == "none":
        return set()
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
