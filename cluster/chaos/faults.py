"""Kills the leader with -9, starts it again, and waits until it serves, so that a majority is always there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cluster import lifecycle, processes
from cluster.calls import operator_caller
from cluster.health import find_leader, is_serving
from cluster.layout import Layout

_LEADER_WAIT_S = 30.0
_RESTART_WAIT_S = 120.0
_DEAD_FOR_S = 0.5
_POLL_S = 0.05
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(slots=True)
class FaultLog:
    killed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class LeaderKiller(threading.Thread):
    """`kills` times, spread over `seconds`; ends early when the cluster does not come back."""

    def __init__(self, layout: Layout, kills: int, seconds: float, say: Say) -> None:
        super().__init__(name="leader-killer", daemon=True)
        self._layout = layout
        self._kills = kills
        self._interval_s = seconds / (kills + 1)
        self._say = say
        self.log = FaultLog()

    def run(self) -> None:
        try:
            with operator_caller(self._layout) as caller:
                for number in range(self._kills):
                    next_s = time.monotonic() + self._interval_s
                    leader = _wait_for(lambda: find_leader(caller, self._layout), _LEADER_WAIT_S)
                    if not leader:
                        self.log.problems.append(f"no leader within {_LEADER_WAIT_S:g} s")
                        return
                    time.sleep(max(next_s - time.monotonic(), 0))
                    leader = find_leader(caller, self._layout) or leader
                    processes.kill(self._layout.pid_file(leader))
                    self.log.killed.append(leader)
                    self._say(f"kill {number + 1}: {leader} was leader")
                    time.sleep(_DEAD_FOR_S)
                    lifecycle.start_service(self._layout, leader)
                    address = self._layout.api_address(leader)
                    if not _wait_for(lambda address=address: is_serving(caller, address), _RESTART_WAIT_S):  # type: ignore[misc]
                        self.log.problems.append(f"{leader} did not come back within {_RESTART_WAIT_S:g} s")
                        return
        except Exception as error:  # a thread's exception would be lost; the ordeal must fail on it
            self.log.problems.append(f"the faults stopped: {error!r}")


def _wait_for(probe: Callable[[], T], timeout_s: float) -> T | None:
    """What the probe says once it says something true; None when it never does."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = probe()
        if found:
            return found
        time.sleep(_POLL_S)
    return None
