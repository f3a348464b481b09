"""Restart the nodes one after the other while payments go on: followers first, and the leader, which hands its lead
over, last. The next one goes only when the one before has caught up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster import processes
from cluster.calls import Caller
from cluster.health import find_leader, node_status
from cluster.layout import Layout
from cluster.lifecycle import ClusterError, start_service

CAUGHT_UP_TIMEOUT_S = 180.0
_POLL_S = 0.05
Say = Callable[[str], None]


def restart(layout: Layout, caller: Caller, nodes: Sequence[str], say: Say) -> None:
    """Raises ClusterError when a node does not come back; the others are then left as they are."""
    leader = find_leader(caller, layout)
    if not leader:
        raise ClusterError("no node leads: a restart now would not be a rolling one")
    for node_id in sorted(nodes, key=lambda node: node == find_leader(caller, layout)):
        _wait_all_well(layout, caller, "before the restart of " + node_id)
        processes.stop(layout.pid_file(node_id))
        start_service(layout, node_id)
        _wait_all_well(layout, caller, "after the restart of " + node_id)
        say(f"restarted {node_id}")


def _wait_all_well(layout: Layout, caller: Caller, when: str) -> None:
    deadline_s = time.monotonic() + CAUGHT_UP_TIMEOUT_S
    while not _is_well(layout, caller):
        if time.monotonic() > deadline_s:
            raise ClusterError(f"{when}: not all nodes have caught up within {CAUGHT_UP_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _is_well(layout: Layout, caller: Caller) -> bool:
    """Every node follows the same leader and has applied what was committed when the question began."""
    found = [node_status(caller, layout.api_address(node_id)) for node_id in layout.node_ids]
    if not all(found):
        return False
    committed = max(status.commit_position for status in found if status)
    again = [node_status(caller, layout.api_address(node_id)) for node_id in layout.node_ids]
    leaders = {status.leader_id if status else "" for status in again}
    others = len(layout.node_ids) - 1
    return (
        len(leaders) == 1
        and "" not in leaders
        and all(s is not None and s.peers_connected == others and s.applied_position >= committed for s in again)
    )
