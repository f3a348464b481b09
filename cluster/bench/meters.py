"""What a stretch of load cost, from the operating system's accounts: CPU by role, bytes written, and how busy the
machine was with something else, so that a noisy run says so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

from cluster import processes
from cluster.layout import EDGE, FRAUD, NODE_IDS, Layout

CLIENT, LEADER, FOLLOWERS, SIDECAR = "client", "leader", "followers", "sidecar"
ROLES = (CLIENT, LEADER, FOLLOWERS, SIDECAR, EDGE)
NOISE_CORES = 0.1  # more than this of other programs' CPU, and a run says that it was disturbed


@dataclass(frozen=True, slots=True)
class Reading:
    at_s: float
    cpu_s: dict[str, float]  # by role
    written_bytes: int  # by the nodes, towards the disk
    machine_busy_s: float  # of all cores, by whomever; time stolen by other guests of the host included


@dataclass(frozen=True, slots=True)
class Cost:
    """Between two readings."""

    cpu_s: dict[str, float]
    written_bytes: int
    foreign_cores: float  # CPU that went elsewhere, in cores


class Meter:
    """Reads these processes, (role, process); the load generator is this process and its children in its own session:
    whatever it has started as a service is in another one."""

    def __init__(self, watched: list[tuple[str, psutil.Process]]) -> None:
        self._watched = watched
        self._client = psutil.Process(os.getpid())

    @classmethod
    def of_cluster(cls, layout: Layout, leader_id: str) -> Meter:
        roles = {FRAUD: SIDECAR, EDGE: EDGE, **dict.fromkeys(NODE_IDS, FOLLOWERS), leader_id: LEADER}
        found = ((role, processes.find_process(layout.pid_file(name))) for name, role in roles.items())
        return cls([(role, process) for role, process in found if process is not None])

    def read(self) -> Reading:
        cpu_s, written = dict.fromkeys(ROLES, 0.0), 0
        for role, process in [*self._watched, *((CLIENT, one) for one in self._generators())]:
            times = process.cpu_times()
            cpu_s[role] += times.user + times.system
            written += process.io_counters().write_bytes if role in (LEADER, FOLLOWERS) else 0
        return Reading(time.monotonic(), cpu_s, written, _machine_busy_s())

    def _generators(self) -> list[psutil.Process]:
        session = os.getsid(0)
        children = self._client.children(recursive=True)
        return [self._client, *(one for one in children if _session(one.pid) == session)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def cost(before: Reading, after: Reading) -> Cost:
    cpu_s = {role: after.cpu_s[role] - before.cpu_s[role] for role in after.cpu_s}
    foreign_s = after.machine_busy_s - before.machine_busy_s - sum(cpu_s.values())
    elapsed_s = max(after.at_s - before.at_s, 1e-9)
    return Cost(cpu_s, after.written_bytes - before.written_bytes, max(foreign_s, 0.0) / elapsed_s)


def _machine_busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
