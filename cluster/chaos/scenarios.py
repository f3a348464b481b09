"""What can be asked for by name: every fault alone, and mixes of them. The seed decides order and targets."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.chaos.faults import disk, machine, network, processes  # noqa: F401 - they fill the register
from cluster.chaos.faults.kinds import FAULTS, Fault, Need
from cluster.chaos.ground import Ground, NotRecoveredError
from cluster.chaos.needs import forbidden

DEFAULT = "mix"
TOUR = (  # one of every kind, for a few minutes on a small machine
    "leader-killed", "killed-in-checkpoint", "leader-stopped", "leader-isolated", "leader-deaf", "bridge",
    "ragged-network", "slow-disk-follower", "sync-fails-strace", "disk-full", "disk-lost", "power-cut-all",
    "clock-jumps-leader", "clock-drifts", "memory-short", "sidecar-killed", "edge-killed", "prometheus-away",
)  # fmt: skip
HARMLESS = "sidecar-"  # faults of this name must cost no client an answer
_CALM_S = (0.3, 1.0)  # between two strikes of a mix


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    says: str
    faults: tuple[Fault, ...]


def scenarios() -> dict[str, Scenario]:
    alone = [Scenario(fault.name, fault.says, (fault,)) for fault in FAULTS.values()]
    mixed = tuple(fault for fault in FAULTS.values() if fault.in_mix)
    tour = tuple(FAULTS[name] for name in TOUR)
    sidecar = tuple(fault for fault in FAULTS.values() if fault.name.startswith(HARMLESS))
    mixes = [
        Scenario(DEFAULT, "every fault, in the seed's order", mixed),
        Scenario("tour", "one of every kind", tour),
        Scenario("sidecar", "the fraud sidecar dies and hangs: every transfer is answered all the same", sidecar),
    ]
    return {scenario.name: scenario for scenario in (*mixes, *alone)}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is left of a choice on this machine; `skipped` says why the rest is not."""

    name: str
    faults: tuple[Fault, ...]
    needs: frozenset[Need]
    skipped: dict[str, str]


def chosen(names: Sequence[str]) -> Choice:
    """Raises KeyError for a name that is no scenario."""
    every = scenarios()
    wanted = dict.fromkeys(fault for name in names or (DEFAULT,) for fault in every[name].faults)
    skipped = {fault.name: "; ".join(reasons) for fault in wanted if (reasons := forbidden(fault.needs))}
    faults = tuple(fault for fault in wanted if fault.name not in skipped)
    needs = frozenset(need for fault in faults for need in fault.needs)
    return Choice("+".join(names) or DEFAULT, faults, needs, skipped)


@dataclass(frozen=True, slots=True)
class Plan:
    """Either `strikes` spread evenly over the seconds, or, with 0, one after the other until the time is over; each
    fault comes at least once, however long that takes."""

    faults: Sequence[Fault]
    seconds: float
    strikes: int = 0


def carry_out(plan: Plan, ground: Ground) -> list[str]:
    """Problems: what the cluster did not recover from. Any other error of a fault is one too: it proves nothing."""
    try:
        for fault in _evenly(plan, ground) if plan.strikes else _one_after_the_other(plan, ground):
            fault.strike(ground)
    except NotRecoveredError as error:
        return [str(error)]
    except Exception as error:  # a thread's exception would be lost; the ordeal must fail on it
        return [f"the faults stopped: {''.join(traceback.format_exception(error))}"]
    return []


def _evenly(plan: Plan, ground: Ground) -> Iterator[Fault]:
    interval_s = plan.seconds / (plan.strikes + 1)
    next_s = time.monotonic()
    for number in range(plan.strikes):
        next_s = max(next_s + interval_s, time.monotonic())
        ground.hold(max(next_s - time.monotonic(), 0.0))
        yield plan.faults[number % len(plan.faults)]


def _one_after_the_other(plan: Plan, ground: Ground) -> Iterator[Fault]:
    rng = ground.random
    end_s = time.monotonic() + plan.seconds
    is_first_round = True
    while is_first_round or time.monotonic() < end_s:
        for fault in rng.sample(list(plan.faults), len(plan.faults)):
            if not is_first_round and time.monotonic() >= end_s:
                return
            ground.hold(rng.uniform(*_CALM_S))
            yield fault
        is_first_round = False
