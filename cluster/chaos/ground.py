"""The cluster that is struck, as faults see it: who leads, how to stop and start a node, how to wait for recovery."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cluster import lifecycle, processes
from cluster.calls import Caller, operator_caller
from cluster.chaos.arena import Arena
from cluster.chaos.ballast import Ballast
from cluster.chaos.events import Event, LeaderWatch
from cluster.chaos.network import Network
from cluster.health import find_leader, is_serving, listens, node_status
from cluster.layout import NODE_IDS, Launch

LEADER_WAIT_S = 30.0
RECOVERY_WAIT_S = 120.0
ADDRESS_WAIT_S = 15.0
TRACER_WAIT_S = 2.0
_POLL_S = 0.05
Say = Callable[[str], None]
T = TypeVar("T")


class NotRecoveredError(Exception):
    """The cluster did not come back after a fault was over: a finding, which ends the ordeal."""


class StoppedError(Exception):
    """Somebody ended the run before its time."""


class Ground:
    def __init__(
        self, arena: Arena, caller: Caller, watch: LeaderWatch, say: Say, rng: random.Random, ballast: Ballast
    ) -> None:
        self.layout = arena.layout
        self.shims, self.volumes = arena.shims, arena.volumes
        self._network = arena.network
        self.caller = caller
        self.random = rng
        self.events: list[Event] = []
        self.ballast = ballast
        self._stopping = threading.Event()
        self._watch = watch
        self._say = say

    @property
    def network(self) -> Network:
        if self._network is None:
            raise RuntimeError("this cluster has no network of its own")
        return self._network

    def leader(self) -> str:
        """Raises NotRecoveredError when there is none for LEADER_WAIT_S."""
        found = wait_for(lambda: find_leader(self.caller, self.layout), LEADER_WAIT_S)
        if not found:
            raise NotRecoveredError(f"no leader within {LEADER_WAIT_S:g} s")
        return found

    def followers(self) -> list[str]:
        leader = self.leader()
        return [node_id for node_id in NODE_IDS if node_id != leader]

    def any_follower(self) -> str:
        return self.random.choice(self.followers())

    def kill(self, name: str) -> None:
        processes.kill(self.layout.pid_file(name))

    def pause(self, name: str) -> None:
        processes.pause(self.layout.pid_file(name))

    def resume(self, name: str) -> None:
        processes.resume(self.layout.pid_file(name))

    def start(self, name: str, launch: Launch | None = None) -> None:
        """In another way than usual, once, when a launch is given. A process that has ended by itself gives its
        addresses back only when its last thread is gone, so they are waited for."""
        addresses = lifecycle.addresses(self.layout, name)
        wait_for(lambda: not any(listens(address) for address in addresses), ADDRESS_WAIT_S)
        layout = self.layout
        if launch is not None:
            layout = dataclasses.replace(layout, launches={**layout.launches, name: launch})
        lifecycle.start_service(layout, name)

    def runs(self, name: str) -> bool:
        return processes.find_process(self.layout.pid_file(name)) is not None

    @contextlib.contextmanager
    def traced(self, name: str, injected: str) -> Iterator[None]:
        """A running process under strace, which makes system calls fail: `call:error=NAME`."""
        process = processes.find_process(self.layout.pid_file(name))
        if process is None:
            raise NotRecoveredError(f"{name} does not run")
        call = injected.partition(":")[0]
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(process.pid)]
        tracer = subprocess.Popen([*command, "-e", f"trace={call}", "-e", f"inject={injected}"])
        try:
            yield
        finally:
            tracer.terminate()
            try:
                tracer.wait(TRACER_WAIT_S)
            except subprocess.TimeoutExpired:  # it may miss the end of a process with many threads
                tracer.kill()
                tracer.wait()

    def role(self, node_id: str) -> str:
        """leader, follower, candidate or joining; empty when it does not answer."""
        status = node_status(self.caller, self.layout.api_address(node_id))
        return status.role if status is not None else ""

    def applied(self, node_id: str) -> int:
        """The position that it has applied; 0 when it does not answer."""
        status = node_status(self.caller, self.layout.api_address(node_id))
        return status.applied_position if status is not None else 0

    def wait_joined(self, node_id: str) -> None:
        if not wait_for(lambda: self.role(node_id) in ("leader", "follower"), RECOVERY_WAIT_S):
            raise NotRecoveredError(f"{node_id} does not join: it is {self.role(node_id) or 'silent'}")

    def empty_disk(self, node_id: str) -> None:
        """What a new disk has: nothing."""
        for path in self.layout.data_dir(node_id).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def memory_bytes(self, name: str) -> int:
        """Of its own: pages of files are counted where they were read first."""
        process = processes.find_process(self.layout.pid_file(name))
        if process is None:
            return 0
        memory = process.memory_info()
        return int(memory.rss - memory.shared)

    def hold(self, seconds: float) -> None:
        """Raises StoppedError when the ordeal is broken off; whatever heals a fault stands in a `finally`."""
        if self._stopping.wait(seconds):
            raise StoppedError("broken off")

    def stop(self) -> None:
        self._stopping.set()

    @contextlib.contextmanager
    def strike(self, fault: str, target: str) -> Iterator[Event]:
        """Inside, the fault; at the end it must be healed, and the cluster has to recover."""
        event = Event(fault, target, time.monotonic_ns())
        self.events.append(event)
        self._say(f"{fault}: {target}")
        try:
            yield event
        finally:
            event.healed_ns = time.monotonic_ns()
        self.recover()
        event.recovered_ns = time.monotonic_ns()
        event.leader_changes = self._watch.changes(event.started_ns, event.recovered_ns)

    def recover(self) -> None:
        """Starts what has ended and waits until every node serves."""
        for node_id in NODE_IDS:
            if not self.runs(node_id):
                self.start(node_id)
        end_s = time.monotonic() + RECOVERY_WAIT_S
        for node_id in NODE_IDS:
            address = self.layout.api_address(node_id)
            left_s = max(end_s - time.monotonic(), 1.0)
            if not wait_for(lambda address=address: is_serving(self.caller, address), left_s):  # type: ignore[misc]
                tail = processes.log_tail(self.layout.log_file(node_id))
                raise NotRecoveredError(f"{node_id} did not come back within {RECOVERY_WAIT_S:g} s:\n{tail}")


def wait_for(probe: Callable[[], T], timeout_s: float) -> T | None:
    """What the probe says once it says something true; None when it never does."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = probe()
        if found:
            return found
        time.sleep(_POLL_S)
    return None


@contextlib.contextmanager
def open_ground(arena: Arena, say: Say, seed: int, ballast: Ballast) -> Iterator[Ground]:
    watch = LeaderWatch(arena.layout)
    watch.start()
    try:
        with operator_caller(arena.layout) as caller:
            ground = Ground(arena, caller, watch, say, random.Random(seed), ballast)
            try:
                yield ground
            finally:
                ground.stop()
    finally:
        watch.stop()
