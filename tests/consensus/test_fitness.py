"""A node that cannot do its part says so in time: a disk that is nearly full, or far slower than the others'."""

from __future__ import annotations

import pytest

from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.messages import Append, AppendReply
from node.consensus.seams import Room
from tests.consensus.canaries import IgnoresItsDisk
from tests.consensus.harness import Cluster, SimLog
from tests.consensus.test_guards import Alone, entries


def led_by_a(core_class: type[SafeRaft] = SafeRaft) -> Cluster:
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.3)
    return cluster


def set_room(cluster: Cluster, node: str, room: Room) -> None:
    cluster.engines[node]._room = lambda: room


@pytest.mark.parametrize(("core_class", "stays"), [(SafeRaft, False), (IgnoresItsDisk, True)])
def test_leader_whose_disk_is_nearly_full_hands_over(core_class: type[SafeRaft], stays: bool) -> None:
    cluster = led_by_a(core_class)
    set_room(cluster, "a", Room.LOW)
    cluster.run(1.0)
    assert (cluster.leader() == "a") == stays
    if not stays:
        answers = cluster.propose(cluster.leader() or "", b"paid")
        cluster.run(0.1)
        assert [answer.status for answer in answers] == [ProposalStatus.APPLIED]
        assert len(cluster.states["a"].data()) == 1  # a follower with little room goes on


@pytest.mark.parametrize(("core_class", "taken"), [(SafeRaft, False), (IgnoresItsDisk, True)])
def test_no_new_work_when_no_node_has_room_and_work_again_when_one_has(core_class: type[SafeRaft], taken: bool) -> None:
    cluster = led_by_a(core_class)
    for node in cluster.ids:
        set_room(cluster, node, Room.LOW)
    cluster.run(1.0)
    leader = cluster.leader()
    assert leader is not None  # reads go on
    answers = cluster.propose(leader, b"no")
    cluster.run(0.1)
    expected = ProposalStatus.APPLIED if taken else ProposalStatus.REFUSED_NO_ROOM
    assert [answer.status for answer in answers] == [expected]
    for node in cluster.ids:
        set_room(cluster, node, Room.OK)
    cluster.run(0.3)
    answers = cluster.propose(cluster.leader() or "", b"yes")
    cluster.run(0.1)
    assert [answer.status for answer in answers] == [ProposalStatus.APPLIED]


def test_full_node_takes_nothing_costs_little_and_catches_up() -> None:
    cluster = led_by_a()
    set_room(cluster, "c", Room.FULL)
    cluster.run(0.3)
    before = cluster.logs["c"].last_index
    sent = len(cluster.transports["a"].sent)
    for number in range(100):
        cluster.propose("a", b"%d" % number)
        cluster.run(0.01)
    assert len(cluster.acknowledged) == 100
    assert cluster.logs["c"].last_index == before
    to_c = [peer for peer, _ in cluster.transports["a"].sent[sent:] if peer == "c"]
    assert len(to_c) < 60  # heartbeats, and no more
    assert cluster.engines["c"].status().leader_id == "a"
    set_room(cluster, "c", Room.OK)
    cluster.finish()
    assert not cluster.violations


def test_full_node_acknowledges_nothing_that_it_did_not_take() -> None:
    node = Alone()
    node.engine.core.room = Room.FULL
    node.engine._room = lambda: Room.FULL
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1", b"2")))
    assert node.said(AppendReply) == [("b", AppendReply(1, 0, 0, True, 0, room=2))]
    assert node.log.last_index == 0


class SlowLog(SimLog):
    """Each sync of this node takes a fifth of a second."""

    cluster: Cluster

    def sync(self) -> None:
        if self._dirty and self is self.cluster.logs.get("a"):
            self.cluster.clock.now += 0.2
        super().sync()


@pytest.mark.parametrize(("core_class", "stays"), [(SafeRaft, False), (IgnoresItsDisk, True)])
def test_leader_with_a_slow_disk_hands_over_to_a_fast_one(core_class: type[SafeRaft], stays: bool) -> None:
    cluster = led_by_a(core_class)
    SlowLog.cluster = cluster
    cluster.logs["a"].__class__ = SlowLog
    started = cluster.clock.now
    number = 0
    while cluster.leader() == "a" and cluster.clock.now < started + 5.0:
        number += 1
        cluster.propose("a", b"%d" % number)
        cluster.run(0.1)
    assert (cluster.clock.now - started >= 5.0) == stays
    cluster.run(1.0)
    assert (cluster.leader() == "a") == stays


def test_leader_whose_disk_is_as_slow_as_the_others_stays() -> None:
    node = Alone()
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1, sync_us=60_000))
    node.engine.core.sync_us = 200_000
    node.engine.step()
    assert node.engine.core.handover is None
    node.tell("b", AppendReply(term, 0, 0, True, 1, sync_us=10_000))
    node.engine.core.sync_us = 200_000
    node.engine.step()
    assert node.engine.core.handover is not None
