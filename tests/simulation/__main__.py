"""python -m tests.simulation: many seeds, or one with its trace. `kibubu simulate` calls this.

The first line of a failure is its seed, the last one the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.plan import Plan, make_plan
from tests.simulation.points import POINTS
from tests.simulation.run import Result, Summary, run_many, run_plan
from tests.simulation.shrink import numbers, ranges, shrink

SAY_EVERY = 100


def main() -> int:
    asked = _arguments()
    if asked.trace:
        return _replay(asked)
    canary = f", with the bug {asked.canary!r}" if asked.canary else ""
    print(f"seeds {asked.start} to {asked.start + asked.seeds - 1} in {asked.jobs} processes{canary}", flush=True)
    seeds = range(asked.start, asked.start + asked.seeds)
    summary, seconds = run_many(
        seeds, asked.jobs, canary=asked.canary, stop_at_first=not asked.keep_going, say=_progress
    )
    _report(summary, seconds)
    if summary.failed:
        _failure(summary.failed[0], asked)
        return 1
    print("no violation")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kibubu simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep-going", action="store_true", help="after a violation too")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--canary", default="", help="a known bug to switch on, see tests/simulation/canaries.py")
    parser.add_argument("--trace", action="store_true", help="one seed, with everything that happened")
    parser.add_argument("--faults", default="", help="with --trace: only these, such as 0,3-5; 'none'")
    parser.add_argument("--ops", default="", help="with --trace: only these")
    return parser.parse_args()


def _plan(asked: argparse.Namespace) -> Plan:
    return make_plan(asked.start).only(faults=numbers(asked.faults), ops=numbers(asked.ops))


def _replay(asked: argparse.Namespace) -> int:
    plan = _plan(asked)
    print(f"seed {plan.seed}: {plan.settings}")
    result = run_plan(plan, asked.canary, keep_trace=True)
    for line in result.lines:
        print(line)
    print(f"trace hash {result.trace_hash}")
    for violation in result.violations:
        print(f"VIOLATION {violation}")
    return 1 if result.violations else 0


def _progress(summary: Summary, seconds: float) -> None:
    if summary.seeds % SAY_EVERY == 0:
        print(f"{summary.seeds} seeds, {summary.seeds / seconds:.1f} seeds/s", flush=True)


def _report(summary: Summary, seconds: float) -> None:
    print(
        f"{summary.seeds} seeds in {seconds:.1f} s: {summary.seeds / seconds:.1f} seeds/s, "
        f"{summary.seconds / 3600:.2f} simulated hours, {summary.entries} log entries, "
        f"{summary.acknowledgements} acknowledged writes, {summary.reads} reads checked"
    )
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(summary.faults.items())))
    missed = [point for point in POINTS if not summary.died[point]]
    print(f"died at {len(POINTS) - len(missed)} of {len(POINTS)} crash points, {sum(summary.died.values())} times")
    if missed:
        print("never died at: " + ", ".join(missed))


def _failure(result: Result, asked: argparse.Namespace) -> None:
    print(f"VIOLATION in seed {result.seed}")
    for violation in result.violations:
        print(f"  {violation}")
    plan = make_plan(result.seed)
    if not asked.no_shrink:
        plan = shrink(plan, asked.canary)
        print(f"shrunk to {len(plan.faults)} faults and {len(plan.ops)} operations:")
        for fault in plan.faults:
            print(f"  {fault.line()}")
    canary = f" --canary {asked.canary}" if asked.canary else ""
    faults, ops = ranges([fault.number for fault in plan.faults]), ranges([op.number for op in plan.ops])
    print(f"python -m tests.simulation --trace --start {plan.seed} --faults {faults} --ops {ops}{canary}")


if __name__ == "__main__":
    sys.exit(main())
