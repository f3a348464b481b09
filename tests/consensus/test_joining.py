"""A node whose disk was lost: it neither votes nor counts until it has everything that may have been committed."""

from __future__ import annotations

import pytest

from node.consensus.core import SafeRaft
from node.consensus.messages import Append, AppendReply, PreVote, PreVoteGrant, Promote, RequestVote, TimeoutNow, Vote
from node.storage.member import Life, Member, MemberRecordError, Seen, decode_member, encode_member
from tests.consensus.canaries import CountsNonVoters, KeepsOldProofs, PromotesUnproven, VotesAfterDiskLoss
from tests.consensus.harness import Cluster, SimDisk
from tests.consensus.test_guards import Alone, entries
from tests.consensus.test_snapshots import fill, left_behind


@pytest.mark.parametrize(("core_class", "lost"), [(SafeRaft, False), (VotesAfterDiskLoss, True)])
def test_lost_disk_does_not_lose_what_was_acknowledged(core_class: type[SafeRaft], lost: bool) -> None:
    """a and b acknowledge, b loses its disk, a is away: b and c together must not go on without the entry."""
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.3)
    cluster.isolate("c")
    cluster.propose("a", b"paid")
    cluster.run(0.1)
    assert b"paid" in cluster.acknowledged
    cluster.crash("b")
    cluster.wipe("b")
    cluster.crash("a")
    cluster.heal()
    cluster.restart("b")
    cluster.run(5.0)
    assert (cluster.leader() is not None) == lost
    if lost:
        cluster.propose(cluster.leader() or "", b"other")
        cluster.run(0.2)
    cluster.finish()
    assert bool(cluster.violations) == lost


def test_wiped_node_comes_back_as_a_voter() -> None:
    for far in (False, True):
        cluster, away = left_behind() if far else (Cluster(), "c")
        if not far:
            cluster.elect("a")
            fill(cluster, 50)
            cluster.crash("c")
        cluster.wipe(away)
        cluster.restart(away)
        assert not cluster.engines[away].status().voter
        cluster.run(20.0, until=lambda cluster=cluster, away=away: cluster.engines[away].status().voter)
        assert cluster.engines[away].status().voter
        assert bool(cluster.installs[away]) == far
        cluster.finish()
        assert not cluster.violations
        assert cluster.disks[away].stored[-1].voter  # durably
        cluster.crash(away)
        cluster.crash("b")
        cluster.restart(away)
        cluster.run(5.0, until=lambda cluster=cluster: cluster.leader() is not None)
        assert cluster.leader() is not None  # a majority with the node that came back


@pytest.mark.parametrize(("core_class", "counted"), [(SafeRaft, False), (CountsNonVoters, True)])
def test_acknowledgement_of_a_non_voter_does_not_commit(core_class: type[SafeRaft], counted: bool) -> None:
    node = Alone(core_class=core_class)
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    node.tell("c", AppendReply(term, 0, 0, True, 1, voter=False))
    answers = node.propose(b"paid")
    node.tell("c", AppendReply(term, 0, 1, True, 2, voter=False))
    assert bool(answers) == counted
    node.clock.now += 1.3  # and it does not keep the leader in office
    node.tell("c", AppendReply(term, 0, 2, True, 2, voter=False))
    assert (node.engine.status().role == "leader") == counted


def test_read_is_not_proven_by_a_non_voter() -> None:
    node = Alone()
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    answers: list[int | None] = []
    node.engine.read_index(answers.append)
    node.engine.step()
    node.tell("c", AppendReply(term, 1, 1, True, 1, voter=False))
    assert not answers
    node.tell("b", AppendReply(term, 1, 1, True, 1))
    assert answers == [1]


def test_non_voter_asks_for_no_vote_and_gives_none() -> None:
    node = Alone(disk=SimDisk(joins=True))
    node.clock.now += 5.0
    node.engine.step()
    node.tell("b", PreVote(1, 9, 0))
    node.tell("b", RequestVote(7, 9, 6, True))
    node.tell("c", Append(8, 0, 0, 0, 0, 0, entries(8, b"1")))
    node.tell("c", TimeoutNow(8))
    for kind in (PreVote, PreVoteGrant, RequestVote, Vote):
        assert not node.said(kind)
    assert node.said(AppendReply)[-1] == ("c", AppendReply(8, 0, 0, True, 1, voter=False))


@pytest.mark.parametrize(("core_class", "split"), [(SafeRaft, False), (PromotesUnproven, True)])
def test_vote_comes_back_only_by_a_proof(core_class: type[SafeRaft], split: bool) -> None:
    """a believes to lead while b and c have elected one of theirs. The other loses its disk and hears only a: with its
    old promise forgotten, the two would commit against the new leader."""
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.3)
    cluster.isolate("a")
    cluster.run(1.0, until=lambda: cluster.leader() == "c" or cluster.leader() == "b")
    new = cluster.leader()
    assert new in ("b", "c")
    wiped = "b" if new == "c" else "c"
    cluster.propose(new, b"paid")
    cluster.run(0.1)
    assert b"paid" in cluster.acknowledged
    cluster.crash(wiped)
    cluster.wipe(wiped)
    cluster.cut_links = {(x, y) for x in cluster.ids for y in cluster.ids if new in (x, y)}
    cluster.restart(wiped)
    for number in range(20):
        if "a" in cluster.engines and cluster.engines["a"].status().role == "leader":
            cluster.propose("a", b"against %d" % number)
        cluster.run(0.05)
    cluster.finish()
    assert bool(cluster.violations) == split


@pytest.mark.parametrize(("core_class", "promoted"), [(SafeRaft, False), (KeepsOldProofs, True)])
def test_a_second_lost_disk_needs_a_proof_of_its_own(core_class: type[SafeRaft], promoted: bool) -> None:
    """c has its vote back, and gives it to a new leader that a does not hear of; then its disk is lost again. What a
    had proven before says nothing about that vote."""
    node = Alone(core_class=core_class)
    term = node.lead()

    def answer(peer: str, *, voter: bool) -> None:
        view = node.said(Append)[-1][1]
        node.tell(peer, AppendReply(term, view.read_round, view.prev_index, True, node.log.last_index, voter=voter))

    node.engine.introduced("c", Seen(Life(0, 1), 7), voter=False)
    for _ in range(4):
        node.clock.now += 0.1
        node.engine.step()
        answer("b", voter=True)
        answer("c", voter=False)
    assert node.said(Promote)
    before = len(node.said(Promote))
    node.engine.introduced("c", Seen(Life(0, 1), 8), voter=False)
    answer("c", voter=False)
    node.clock.now += 0.1
    node.engine.step()
    answer("c", voter=False)
    assert (len(node.said(Promote)) > before) == promoted  # b has not answered since
    for _ in range(4):
        node.clock.now += 0.1
        node.engine.step()
        answer("b", voter=True)
        answer("c", voter=False)
    assert len(node.said(Promote)) > before


def test_two_lost_disks_of_three_stop_the_cluster() -> None:
    cluster = Cluster()
    cluster.elect("a")
    fill(cluster, 20)
    for node in "bc":
        cluster.crash(node)
        cluster.wipe(node)
        cluster.restart(node)
    cluster.run(10.0)
    assert cluster.leader() is None
    assert not any(cluster.engines[node].status().voter for node in "bc")


def test_only_the_leader_promotes_and_only_who_has_the_entry() -> None:
    node = Alone(disk=SimDisk(joins=True))
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1")))
    node.tell("c", Promote(1, 1))
    node.tell("b", Promote(1, 2))
    assert not node.engine.status().voter
    node.tell("b", Promote(1, 1))
    assert node.engine.status().voter
    assert node.disk.stored[-1].voter


# Lives


def test_later_lives_are_greater() -> None:
    first = Member().started()
    again = first.started()
    promoted = Member(voter=False).started().promoted(5)
    assert first.life < again.life < promoted.life < promoted.started().life
    assert promoted.voter


@pytest.mark.parametrize(
    ("seen", "outdated"),
    [
        (Seen(Life(0, 5), 111), False),  # the same process again
        (Seen(Life(0, 5), 222), True),  # another process in the same life: one of the two is from a copy
        (Seen(Life(0, 4), 222), True),
        (Seen(Life(0, 6), 222), False),
        (Seen(Life(9, 1), 222), False),
    ],
)
def test_earlier_life_is_outdated(seen: Seen, outdated: bool) -> None:
    member = Member().with_peer("b", Seen(Life(0, 5), 111))
    assert member.is_outdated("b", seen) == outdated
    assert not member.is_outdated("c", seen)


def test_member_record_comes_back_and_every_flipped_bit_is_found() -> None:
    member = Member(False, Life(7, 3)).with_peer("b", Seen(Life(1, 2), 2**64 - 1))
    value = encode_member(member)
    assert decode_member(value) == member
    for bit in range(len(value) * 8):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MemberRecordError):
            decode_member(bytes(damaged))
