"""Elections that disturb nobody, and a lead that is handed over: each rule with it and, as a canary, without it."""

from __future__ import annotations

import pytest

from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.messages import Append, AppendReply, PreVote, PreVoteGrant, RequestVote, TermHint, TimeoutNow, Vote
from tests.consensus.canaries import HandsOverTooEarly, NeverSticky, RefusesDuringHandover, StandsWithoutAsking
from tests.consensus.harness import Cluster
from tests.consensus.test_guards import Alone, entries, take_over

# Pre-vote


@pytest.mark.parametrize(("core_class", "inflated"), [(SafeRaft, False), (StandsWithoutAsking, True)])
def test_isolated_node_does_not_drive_up_terms(core_class: type[SafeRaft], inflated: bool) -> None:
    cluster = Cluster(core_class=core_class)
    leader = cluster.elect("a")
    term = cluster.engines[leader].status().term
    cluster.isolate("c")
    cluster.run(10.0)
    assert (cluster.engines["c"].status().term > term) == inflated
    cluster.heal()
    cluster.run(2.0)
    assert (cluster.engines[leader].status().term > term) == inflated  # the canary deposed a leader that was well


def test_pre_vote_is_granted_to_whom_a_vote_would_be() -> None:
    node = Alone()
    node.tell("b", Append(3, 0, 0, 0, 0, 0, entries(3, b"1", b"2")))
    node.clock.now += 0.36
    for index, term in ((1, 3), (9, 2)):  # shorter, or of an older term
        node.tell("c", PreVote(4, index, term))
    node.tell("c", PreVote(3, 2, 3))  # one term behind: it only hears of ours
    assert not node.said(PreVoteGrant)
    assert node.said(TermHint) == [("c", TermHint(3))]
    node.tell("c", PreVote(4, 2, 3))
    node.tell("b", PreVote(4, 2, 3))
    assert node.said(PreVoteGrant) == [("c", PreVoteGrant(4)), ("b", PreVoteGrant(4))]
    assert node.engine.status().term == 3


def test_grant_for_an_older_question_does_not_count() -> None:
    node = Alone("bcde")
    node.clock.now += 2.0
    node.engine.step()
    node.tell("b", PreVoteGrant(2))
    node.tell("c", PreVoteGrant(0))
    node.tell("b", PreVoteGrant(1))
    node.tell("b", PreVoteGrant(1))
    assert (node.engine.status().role, node.engine.status().term) == ("follower", 0)
    node.tell("c", PreVoteGrant(1))
    assert (node.engine.status().role, node.engine.status().term) == ("candidate", 1)


# Stickiness


@pytest.mark.parametrize(("core_class", "disturbed"), [(SafeRaft, False), (NeverSticky, True)])
def test_who_hears_a_leader_does_not_vote(core_class: type[SafeRaft], disturbed: bool) -> None:
    node = Alone(core_class=core_class)
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1")))
    node.tell("c", PreVote(2, 9, 1))
    node.tell("c", RequestVote(7, 9, 1))
    assert bool(node.said(PreVoteGrant)) == bool(node.said(Vote)) == disturbed
    assert node.engine.status().term == (7 if disturbed else 1)
    node.clock.now += 0.36
    node.tell("c", RequestVote(8, 9, 1))
    assert node.said(Vote)[-1] == ("c", Vote(8))


@pytest.mark.parametrize(("core_class", "deposed"), [(SafeRaft, False), (NeverSticky, True)])
def test_leader_that_hears_a_majority_is_not_deposed_by_a_request(core_class: type[SafeRaft], deposed: bool) -> None:
    node = Alone(core_class=core_class)
    term = node.lead()
    node.clock.now += 0.3
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    node.clock.now += 0.3
    node.tell("c", RequestVote(term + 5, 99, term))
    assert (node.engine.status().role != "leader") == deposed
    node.clock.now += 0.3  # now nobody has answered for long enough
    node.tell("c", RequestVote(term + 6, 99, term))
    assert node.engine.status().role == "follower"
    assert node.engine.status().term == term + 6


@pytest.mark.parametrize("silent", [True, False])
def test_lost_leader_is_replaced_soon(silent: bool) -> None:
    """Paused, it is missed after an election time-out; dead, its connections break, and that is known at once."""
    gaps = []
    for seed in range(20):
        cluster = Cluster(seed=seed)
        old = cluster.elect()
        cluster.run(0.5)
        lost_at = cluster.clock.now
        if silent:
            cluster.isolate(old)
        else:
            cluster.crash(old)
        cluster.run(5.0, until=lambda cluster=cluster, old=old: cluster.leader() not in (None, old))
        take_over(cluster, old)
        gaps.append(cluster.clock.now - lost_at)
    assert max(gaps) < (1.0 if silent else 0.6)


@pytest.mark.parametrize("cut", ["to", "from", "bridge"])
def test_one_way_cuts_and_a_bridge(cut: str) -> None:
    """Writes go on within two seconds, with at most two changes of leader."""
    for seed in range(10):
        cluster = Cluster(seed=seed)
        old = cluster.elect()
        cluster.run(0.5)
        other = next(node for node in cluster.ids if node != old)
        term = cluster.engines[old].status().term
        match cut:
            case "to":
                cluster.cut_links = {(node, old) for node in cluster.ids if node != old}
            case "from":
                cluster.cut_links = {(old, node) for node in cluster.ids if node != old}
            case _:
                cluster.cut_links = {(old, other), (other, old)}
        cluster.run(2.0)
        new = cluster.leader()
        assert new is not None
        answers = cluster.propose(new, b"paid")
        cluster.run(0.2)
        assert [answer.status for answer in answers] == [ProposalStatus.APPLIED]
        assert cluster.engines[new].status().term - term <= (0 if cut == "bridge" else 2)
        cluster.finish()
        assert not cluster.violations


# Handing over


@pytest.mark.parametrize("target", ["b", ""])
def test_lead_is_handed_over_under_load(target: str) -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.run(0.3)
    before = [cluster.propose("a", b"before %d" % number) for number in range(300)]
    cluster.settle()
    done: list[bool] = []
    started = cluster.clock.now
    cluster.engines["a"].transfer_leadership(target, done.append)
    cluster.run(1.0, until=lambda: bool(done))
    assert done == [True]
    cluster.run(1.0, until=lambda: cluster.leader() not in (None, "a"))
    assert cluster.clock.now - started < 0.1
    assert target in ("", cluster.leader())
    cluster.run(0.2)
    assert {answer.status for answers in before for answer in answers} == {ProposalStatus.APPLIED}
    assert len(cluster.acknowledged) == 300
    cluster.finish()
    assert not cluster.violations


@pytest.mark.parametrize(("core_class", "refused"), [(SafeRaft, False), (RefusesDuringHandover, True)])
def test_what_comes_during_the_handover_is_held(core_class: type[SafeRaft], refused: bool) -> None:
    """It ends with the name of the new leader, so that the caller goes there at once."""
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.3)
    cluster.engines["a"].transfer_leadership("b", lambda done: None)
    answers = cluster.propose("a", b"during")
    cluster.settle()
    assert bool(answers) == refused
    cluster.run(0.5, until=lambda: bool(answers))
    assert [answer.status for answer in answers] == [ProposalStatus.REFUSED_NOT_LEADER]
    assert (cluster.engines["a"].status().leader_id == "b") != refused


@pytest.mark.parametrize(("core_class", "told_early"), [(SafeRaft, False), (HandsOverTooEarly, True)])
def test_target_gets_the_last_entries_first(core_class: type[SafeRaft], told_early: bool) -> None:
    node = Alone(core_class=core_class)
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    node.propose(b"paid")
    node.engine.transfer_leadership("b", lambda done: None)
    node.engine.step()
    assert bool(node.said(TimeoutNow)) == told_early
    node.tell("b", AppendReply(term, 0, 1, True, 2))
    assert node.said(TimeoutNow) == [("b", TimeoutNow(term))]


def test_failed_handover_goes_on_with_what_was_held() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.run(0.3)
    cluster.isolate("b")
    done: list[bool] = []
    cluster.engines["a"].transfer_leadership("b", done.append)
    answers = cluster.propose("a", b"held")
    cluster.run(0.4)
    assert not answers
    cluster.run(0.3)
    assert done == [False]
    assert [answer.status for answer in answers] == [ProposalStatus.APPLIED]


@pytest.mark.parametrize(("node", "target"), [("b", ""), ("a", "z"), ("a", "a")])
def test_handover_that_cannot_be_is_refused(node: str, target: str) -> None:
    cluster = Cluster()
    cluster.elect("a")
    done: list[bool] = []
    cluster.engines[node].transfer_leadership(target, done.append)
    cluster.settle()
    assert done == [False]


def test_only_the_leader_may_have_a_node_stand() -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1")))
    node.tell("c", TimeoutNow(1))
    assert not node.said(RequestVote)
    node.tell("b", TimeoutNow(1))
    assert node.said(RequestVote) == [("b", RequestVote(2, 1, 1, True)), ("c", RequestVote(2, 1, 1, True))]


def test_stop_refuses_what_was_held() -> None:
    cluster = Cluster()
    cluster.elect("a")
    cluster.run(0.3)
    cluster.engines["a"].transfer_leadership("b", lambda done: None)
    answers = cluster.propose("a", b"held")
    cluster.engines["a"].step()
    cluster.engines["a"].stop()
    assert [answer.status for answer in answers] == [ProposalStatus.REFUSED_STOPPING]
