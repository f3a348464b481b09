"""Nodes that do not hear each other, both ways, one way, all or only some; and networks that are merely bad."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.chaos.events import Event
from cluster.chaos.faults.kinds import fault
from cluster.chaos.ground import Ground
from cluster.chaos.network import Network, every_link
from cluster.chaos.probe import probe_minority
from cluster.layout import NODE_IDS

CUT_FOR_S = 3.5
BAD_FOR_S = 4.0


@contextmanager
def _cut(ground: Ground, name: str, target: str) -> Iterator[tuple[Network, Event]]:
    """Whatever is cut inside heals at the end; a cut that swallowed nothing proves nothing."""
    network = ground.network
    with ground.strike(name, target) as event:
        try:
            yield network, event
            event.notes["packets_dropped"] = network.dropped()
        finally:
            network.heal()
    if not event.notes["packets_dropped"]:
        raise AssertionError(f"{name}: the cut swallowed no packet")


@fault("leader-isolated", needs=("network",))
def leader_isolated(ground: Ground) -> None:
    """the leader hears nobody and is heard by nobody; what it says to clients meanwhile is probed"""
    leader = ground.leader()
    with _cut(ground, "leader-isolated", leader) as (network, event):
        network.isolate(leader)
        started_s = time.monotonic()
        probe_minority(ground, leader, event)
        ground.hold(max(CUT_FOR_S - (time.monotonic() - started_s), 0))


@fault("follower-isolated", needs=("network",))
def follower_isolated(ground: Ground) -> None:
    """a follower is cut off from both others, and comes back"""
    follower = ground.any_follower()
    with _cut(ground, "follower-isolated", follower) as (network, _):
        network.isolate(follower)
        ground.hold(CUT_FOR_S)


@fault("all-isolated", needs=("network",))
def all_isolated(ground: Ground) -> None:
    """no node hears any other: no majority anywhere"""
    with _cut(ground, "all-isolated", "+".join(NODE_IDS)) as (network, _):
        for one, other in (("n1", "n2"), ("n1", "n3"), ("n2", "n3")):
            network.cut(one, other)
        ground.hold(CUT_FOR_S)


@fault("bridge", needs=("network",))
def bridge(ground: Ground) -> None:
    """leader and one follower do not hear each other; the third node hears both"""
    leader, follower = ground.leader(), ground.any_follower()
    with _cut(ground, "bridge", f"{leader}|{follower}") as (network, _):
        network.cut(leader, follower)
        ground.hold(CUT_FOR_S)


@fault("leader-deaf", needs=("network",))
def leader_deaf(ground: Ground) -> None:
    """one way: the leader is heard but hears nobody"""
    leader = ground.leader()
    with _cut(ground, "leader-deaf", leader) as (network, _):
        for other in NODE_IDS:
            if other != leader:
                network.drop(other, leader)
        ground.hold(CUT_FOR_S)


@fault("leader-mute", needs=("network",))
def leader_mute(ground: Ground) -> None:
    """one way: the leader hears everybody but is heard by nobody"""
    leader = ground.leader()
    with _cut(ground, "leader-mute", leader) as (network, _):
        for other in NODE_IDS:
            if other != leader:
                network.drop(leader, other)
        ground.hold(CUT_FOR_S)


@fault("follower-deaf", needs=("network",))
def follower_deaf(ground: Ground) -> None:
    """one way: a follower hears nobody, but everybody hears it ask for votes"""
    follower = ground.any_follower()
    with _cut(ground, "follower-deaf", follower) as (network, _):
        for other in NODE_IDS:
            if other != follower:
                network.drop(other, follower)
        ground.hold(CUT_FOR_S)


@fault("packets-lost", needs=("network",))
def packets_lost(ground: Ground) -> None:
    """a fifth of all packets between nodes gets lost"""
    with _cut(ground, "packets-lost", "all links") as (network, _):
        for one in NODE_IDS:
            for other in NODE_IDS:
                if one != other:
                    network.drop(one, other, percent=20)
        ground.hold(BAD_FOR_S)


@fault("slow-network", needs=("network", "hub"))
def slow_network(ground: Ground) -> None:
    """40 ms each way between nodes, give or take 10"""
    _bad_links(ground, "slow-network", {"delay_ms": 40, "jitter_ms": 10})


@fault("ragged-network", needs=("network", "hub"))
def ragged_network(ground: Ground) -> None:
    """frames between nodes are lost (3 %), doubled (3 %), delayed and reordered (10 %)"""
    rule = {"delay_ms": 2, "jitter_ms": 1, "loss": 0.03, "duplicate": 0.03, "reorder": 0.1}
    _bad_links(ground, "ragged-network", rule)


def _bad_links(ground: Ground, name: str, rule: dict[str, float]) -> None:
    network = ground.network
    with ground.strike(name, "all links"):
        network.set_links(every_link(NODE_IDS, rule))
        try:
            ground.hold(BAD_FOR_S)
        finally:
            network.set_links({})
