"""Processes that die without goodbye, and processes that stop for a while and know nothing of it."""

from __future__ import annotations

import re
import time
import urllib.request

from cluster.chaos.faults.kinds import fault
from cluster.chaos.ground import Ground, NotRecoveredError, wait_for
from cluster.layout import EDGE, FRAUD, NODE_IDS, PROMETHEUS

DEAD_FOR_S = 0.5
STOPPED_FOR_S = 2.0
CALM_S = 10.0
_TIMED_WAIT_S = 8.0
BEHIND = 1_000_000  # transfers
CATCH_UP_WAIT_S = 600.0


@fault("calm", in_mix=False)
def calm(ground: Ground) -> None:
    """nothing at all: whatever changes is the cluster's own doing"""
    with ground.strike("calm", "nobody"):
        ground.hold(CALM_S)


@fault("leader-killed")
def leader_killed(ground: Ground) -> None:
    """kill -9 of the leader"""
    leader = ground.leader()
    with ground.strike("leader-killed", leader):
        ground.kill(leader)
        ground.hold(DEAD_FOR_S)


@fault("follower-killed")
def follower_killed(ground: Ground) -> None:
    """kill -9 of a follower"""
    follower = ground.any_follower()
    with ground.strike("follower-killed", follower):
        ground.kill(follower)
        ground.hold(DEAD_FOR_S)


@fault("follower-behind", in_mix=False)
def follower_behind(ground: Ground) -> None:
    """a follower is away while a million transfers are made; how long it takes to catch up, under load"""
    follower = ground.any_follower()
    with ground.strike("follower-behind", follower) as event:
        ground.kill(follower)
        ground.ballast.store(BEHIND)
        target = ground.applied(ground.leader())
        started_s = time.monotonic()
        ground.start(follower)
        if not wait_for(lambda: ground.applied(follower) >= target, CATCH_UP_WAIT_S):
            raise NotRecoveredError(f"{follower} has not caught up within {CATCH_UP_WAIT_S:g} s")
        event.notes["caught_up_s"] = time.monotonic() - started_s


@fault("two-killed")
def two_killed(ground: Ground) -> None:
    """kill -9 of two nodes at once: no majority until they are back"""
    two = [ground.leader(), ground.any_follower()]
    with ground.strike("two-killed", "+".join(two)):
        for node_id in two:
            ground.kill(node_id)
        ground.hold(DEAD_FOR_S)


@fault("all-killed")
def all_killed(ground: Ground) -> None:
    """kill -9 of all three nodes at once"""
    with ground.strike("all-killed", "+".join(NODE_IDS)):
        for node_id in ground.random.sample(NODE_IDS, len(NODE_IDS)):
            ground.kill(node_id)


@fault("killed-in-checkpoint")
def killed_in_checkpoint(ground: Ground) -> None:
    """kill -9 of all nodes as soon as one has finished a checkpoint: the others are in the middle of theirs"""
    leader = ground.leader()
    with ground.strike("killed-in-checkpoint", "+".join(NODE_IDS)):
        _wait_for_checkpoint(ground, leader)
        for node_id in NODE_IDS:
            ground.kill(node_id)


def _wait_for_checkpoint(ground: Ground, node_id: str) -> None:
    before = _metric(ground, node_id, "kibubu_raft_durable_position")
    wait_for(lambda: _metric(ground, node_id, "kibubu_raft_durable_position") > before, _TIMED_WAIT_S)


def _metric(ground: Ground, node_id: str, name: str) -> float:
    """Read from /metrics, as Prometheus reads it; 0 when it is not there."""
    with urllib.request.urlopen(f"http://{ground.layout.metrics_address(node_id)}/metrics", timeout=2) as answer:
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


@fault("leader-stopped")
def leader_stopped(ground: Ground) -> None:
    """SIGSTOP of the leader, SIGCONT seconds later: it wakes up as a leader of the past"""
    _stop(ground, "leader-stopped", ground.leader())


@fault("follower-stopped")
def follower_stopped(ground: Ground) -> None:
    """SIGSTOP and SIGCONT of a follower"""
    _stop(ground, "follower-stopped", ground.any_follower())


def _stop(ground: Ground, name: str, node_id: str) -> None:
    with ground.strike(name, node_id):
        ground.pause(node_id)
        try:
            ground.hold(STOPPED_FOR_S)
        finally:
            ground.resume(node_id)


@fault("flapping")
def flapping(ground: Ground) -> None:
    """SIGSTOP and SIGCONT of the leader again and again, each time about an election's length"""
    leader = ground.leader()
    with ground.strike("flapping", leader):
        end_s = time.monotonic() + STOPPED_FOR_S
        while time.monotonic() < end_s:
            ground.pause(leader)
            try:
                ground.hold(ground.random.uniform(0.1, 0.6))
            finally:
                ground.resume(leader)
            ground.hold(ground.random.uniform(0.05, 0.3))


@fault("sidecar-killed")
def sidecar_killed(ground: Ground) -> None:
    """the fraud sidecar dies and comes back"""
    _helper_killed(ground, "sidecar-killed", FRAUD)


@fault("sidecar-stopped")
def sidecar_stopped(ground: Ground) -> None:
    """the fraud sidecar hangs: no answer, no refusal"""
    _stop(ground, "sidecar-stopped", FRAUD)


@fault("edge-killed")
def edge_killed(ground: Ground) -> None:
    """the USSD edge dies and comes back"""
    _helper_killed(ground, "edge-killed", EDGE)


@fault("edge-stopped")
def edge_stopped(ground: Ground) -> None:
    """the USSD edge hangs"""
    _stop(ground, "edge-stopped", EDGE)


@fault("prometheus-away", needs=("prometheus",))
def prometheus_away(ground: Ground) -> None:
    """nobody scrapes any more, and then somebody does again"""
    _helper_killed(ground, "prometheus-away", PROMETHEUS)


def _helper_killed(ground: Ground, name: str, helper: str) -> None:
    with ground.strike(name, helper):
        ground.kill(helper)
        try:
            ground.hold(STOPPED_FOR_S)
        finally:
            ground.start(helper)
