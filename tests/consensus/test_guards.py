"""Each guard against the engine's known hazards: the same scenario with the guard, and with it switched off.

The second half is the canary: it proves that the scenario would notice if the guard were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from node.consensus import appending
from node.consensus.contract import LogEntry, ProposalOutcome, ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.engine import RaftEngine
from node.consensus.frames import decode, encode
from node.consensus.messages import Append, AppendReply, Message, PreVoteGrant, RequestVote, Vote
from node.consensus.proposals import Proposal, Proposals
from node.consensus.seams import ConsensusConfig, FatalRaftError
from tests.consensus.canaries import (
    AppliesFromTheStart,
    CountsEveryVote,
    CountsOldAcknowledgements,
    DiscardsAtStepDown,
    LeaderCountsUnsynced,
    PromisesBeforeSync,
    ReadsWithoutNoop,
    ReadsWithoutQuorum,
    SendsAtHeartbeatsOnly,
    StepsBackOneByOne,
)
from tests.consensus.harness import (
    Cluster,
    PowerCutError,
    Recorder,
    SimDisk,
    SimLog,
    SimSnapshots,
    SimTransport,
    VirtualClock,
)

# One node, with peers that the test plays


class Alone:
    """One engine; the test says what the peers say and reads what the engine answers."""

    def __init__(
        self,
        peers: str = "bc",
        core_class: type[SafeRaft] = SafeRaft,
        disk: SimDisk | None = None,
        state: Recorder | None = None,
        config: Callable[..., ConsensusConfig] = ConsensusConfig,
    ) -> None:
        self.disk = disk or SimDisk()
        self.clock = VirtualClock()
        self.log = SimLog(self.disk)
        self.state = state or Recorder()
        self.transport = SimTransport(lambda peer, frame: True)
        self.snapshots = SimSnapshots(lambda: self.state, {})
        self.engine = RaftEngine(
            config(node_id="a", cluster_id="sim", peers=dict.fromkeys("a" + peers, "")),
            self.log,
            self.transport,
            self.clock,
            self.state,
            snapshots=self.snapshots,
            core_class=core_class,
        )
        for peer in peers:
            self.engine.connected(peer)
        self.engine.step()

    def tell(self, peer: str, message: Message) -> None:
        self.engine.received(peer, encode(message))
        self.engine.step()

    def said(self, kind: type[Message]) -> list[tuple[str, Message]]:
        messages = [(peer, decode(frame)) for peer, frame in self.transport.sent]
        return [(peer, message) for peer, message in messages if isinstance(message, kind)]

    def stand(self) -> int:
        """Let the election timer run out, and have the peers say that they would vote; the term it stands for."""
        self.clock.now += 2.0
        self.engine.step()
        for peer in self.engine.core.nodes:
            self.tell(peer, PreVoteGrant(self.engine.status().term + 1))
        return self.engine.status().term

    def lead(self) -> int:
        term = self.stand()
        self.tell("b", Vote(term))
        assert self.engine.status().role == "leader"
        return term

    def propose(self, data: bytes) -> list[ProposalOutcome]:
        answers: list[ProposalOutcome] = []
        self.engine.propose(data, answers.append)
        self.engine.step()
        return answers


def take_over(cluster: Cluster, old: str) -> str:
    new = cluster.leader()
    if new is None or new == old:
        raise RuntimeError("nobody took over")
    return new


def entries(term: int, *data: bytes) -> list[tuple[int, bytes]]:
    return [(term, item) for item in data]


# 1. Durability: a sync before every vote, every acknowledgement, and before the leader counts itself


@pytest.mark.parametrize(("core_class", "lost"), [(SafeRaft, False), (PromisesBeforeSync, True)])
def test_follower_syncs_before_it_acknowledges(core_class: type[SafeRaft], lost: bool) -> None:
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.1)
    cluster.isolate("c")
    cluster.disks["b"].cut_at_next_sync = True  # b dies in the sync that should make the entry durable
    answers = cluster.propose("a", b"paid")
    cluster.run(0.05)
    assert "b" not in cluster.engines
    assert bool(answers) == lost
    cluster.crash("a")
    cluster.heal()
    cluster.restart("b")
    cluster.elect()
    assert all(b"paid" not in state.data() for node, state in cluster.states.items() if node != "a")
    assert (b"paid" in cluster.acknowledged) == lost


@pytest.mark.parametrize(("core_class", "lost"), [(SafeRaft, False), (LeaderCountsUnsynced, True)])
def test_leader_syncs_before_it_counts_itself(core_class: type[SafeRaft], lost: bool) -> None:
    cluster = Cluster(core_class=core_class)
    cluster.elect("a")
    cluster.run(0.1)
    cluster.isolate("c")
    cluster.disks["a"].cut_at_next_sync = True
    cluster.propose("a", b"paid")
    cluster.run(0.05)
    assert b"paid" in [data for _, data in cluster.logs["b"].read(1, 100, 1 << 20)]  # it had left before the sync
    assert (b"paid" in cluster.acknowledged) == lost
    if lost:
        cluster.disks["a"].cut_at_next_sync = False
        cluster.crash("a")  # its memory alone held the second copy
        cluster.crash("b")
        cluster.heal()
        cluster.restart("a")
        cluster.elect()
        assert b"paid" not in cluster.states["a"].data() + cluster.states["c"].data()


@pytest.mark.parametrize(("core_class", "votes"), [(SafeRaft, []), (PromisesBeforeSync, ["b"])])
def test_vote_is_durable_before_it_is_given(core_class: type[SafeRaft], votes: list[str]) -> None:
    node = Alone(core_class=core_class)
    node.disk.cut_at_next_sync = True
    with pytest.raises(PowerCutError):
        node.tell("b", RequestVote(5, 0, 0))
    assert [peer for peer, _ in node.said(Vote)] == votes
    again = Alone(core_class=SafeRaft, disk=node.disk)
    again.tell("c", RequestVote(5, 0, 0))
    assert [peer for peer, _ in again.said(Vote)] == ["c"]  # with the canary: two votes in one term


def test_vote_and_term_survive_a_restart() -> None:
    node = Alone()
    node.tell("b", RequestVote(5, 0, 0))
    again = Alone(disk=node.disk)
    again.tell("c", RequestVote(5, 0, 0))
    assert again.engine.status().term == 5
    assert [peer for peer, _ in node.said(Vote) + again.said(Vote)] == ["b"]


def test_failed_sync_stops_the_node_and_nothing_is_acknowledged() -> None:
    node = Alone()
    node.disk.cut_at_next_sync = True
    with pytest.raises(PowerCutError):
        node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"x")))
    assert not node.said(AppendReply)


# 2. Truncation only on conflict; commit only what this message verified


def _always_truncate(log: SimLog, first: int, new: Sequence[tuple[int, bytes]]) -> int:
    return 0


@pytest.mark.parametrize("guarded", [True, False])
def test_late_shorter_append_takes_nothing_back(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Alone()
    new = entries(1, *(b"%d" % number for number in range(1, 10)))
    node.tell("b", Append(1, 0, 0, 0, 0, 0, new))
    assert node.said(AppendReply)[-1] == ("b", AppendReply(1, 0, 0, True, 9))
    if not guarded:
        monkeypatch.setattr(appending, "first_new", _always_truncate)
    node.tell("b", Append(1, 0, 2, 1, 0, 0, new[2:5]))  # an earlier message of the same leader, delayed
    assert node.log.last_index == (9 if guarded else 5)  # 5: four acknowledged entries are gone
    assert SimLog(node.disk).last_index == node.log.last_index


def test_conflict_is_truncated_and_replaced() -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1", b"2", b"3")))
    node.tell("c", Append(2, 0, 1, 1, 0, 0, entries(2, b"two")))
    assert node.log.read(1, 9, 999) == [(1, b"1"), (2, b"two")]


def test_contradiction_of_a_committed_entry_is_fatal() -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 3, 0, entries(1, b"1", b"2", b"3")))
    with pytest.raises(FatalRaftError, match="contradicts committed entry 2"):
        node.tell("c", Append(2, 0, 1, 1, 0, 0, entries(2, b"two")))


def _commit_to_last_index(commit_index: int, match_index: int, last_index: int) -> int:
    return min(commit_index, last_index)


@pytest.mark.parametrize("guarded", [True, False])
def test_commit_stops_at_what_the_message_verified(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guarded:
        monkeypatch.setattr("node.consensus.following.verified_commit", _commit_to_last_index)
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"1", b"2", b"of a dead leader")))
    node.tell("c", Append(2, 0, 2, 1, 3, 0, []))  # the new leader's entry 3 is another one, and committed
    assert node.state.data() == ([b"1", b"2"] if guarded else [b"1", b"2", b"of a dead leader"])


# 3. Acknowledgements and votes carry term and sender


@pytest.mark.parametrize(("core_class", "counted"), [(SafeRaft, False), (CountsOldAcknowledgements, True)])
def test_acknowledgement_of_an_older_term_does_not_count(core_class: type[SafeRaft], counted: bool) -> None:
    node = Alone(core_class=core_class)
    first_term = node.lead()
    for number in range(4):
        node.propose(b"%d" % number)
    delayed = AppendReply(first_term, 0, 0, True, 5)  # b had all five of the first lead, and says so late
    other = first_term + 1
    node.tell("c", Append(other, 0, 1, first_term, 1, 0, entries(other, b"c")))  # c led meanwhile, entries 2 to 5 went
    term = node.lead()
    node.tell("c", AppendReply(term, 0, 2, True, 3))
    answers = node.propose(b"held by this node alone")
    node.propose(b"and this")
    node.tell("b", delayed)
    assert bool(answers) == counted
    assert node.engine.status().commit_position == (5 if counted else 3)


@pytest.mark.parametrize(("core_class", "role"), [(SafeRaft, "candidate"), (CountsEveryVote, "leader")])
def test_repeated_vote_counts_once(core_class: type[SafeRaft], role: str) -> None:
    node = Alone("bcde", core_class=core_class)
    term = node.stand()
    node.tell("b", Vote(term))
    node.tell("b", Vote(term))
    assert node.engine.status().role == role
    node.tell("c", Vote(term))
    assert node.engine.status().role == "leader"


def test_vote_of_an_older_term_does_not_count() -> None:
    node = Alone()
    term = node.stand()
    assert node.stand() == term + 1
    node.tell("b", Vote(term))
    assert node.engine.status().role == "candidate"


def test_stranger_is_not_heard() -> None:
    node = Alone()
    assert not node.engine.received("z", encode(Vote(1)))


# 4. Apply skips what is applied, never goes on after an error


@pytest.mark.parametrize(("core_class", "twice"), [(SafeRaft, False), (AppliesFromTheStart, True)])
def test_restart_goes_on_behind_what_the_state_holds(core_class: type[SafeRaft], twice: bool) -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 3, 0, entries(1, b"1", b"2", b"3", b"4")))
    again = Alone(disk=node.disk, state=Recorder(node.state.rows[:2]), core_class=core_class)
    again.tell("b", Append(1, 0, 4, 1, 4, 0, []))
    expected = [b"1", b"2", b"3", b"4"]
    assert again.state.data() == (expected[:2] + expected if twice else expected)


def test_error_in_apply_stops_before_anything_is_answered() -> None:
    class Broken(Recorder):
        def apply(self, items: Sequence[LogEntry]) -> list[object]:
            if any(item.data for item in items):
                raise RuntimeError("no")
            return super().apply(items)

    node = Alone(state=Broken())
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    answers = node.propose(b"x")
    with pytest.raises(RuntimeError):
        node.tell("b", AppendReply(term, 0, 0, True, 2))
    assert not answers


def test_state_ahead_of_the_log_is_refused() -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 2, 0, entries(1, b"1", b"2")))
    with pytest.raises(FatalRaftError, match="do not belong together"):
        Alone(state=Recorder(node.state.rows))


def test_state_behind_the_start_of_the_log_is_refused() -> None:
    node = Alone()
    node.tell("b", Append(1, 0, 0, 0, 3, 0, entries(1, b"1", b"2", b"3")))
    node.log.compact(2)
    node.log.sync()
    with pytest.raises(FatalRaftError, match="cannot be continued"):
        Alone(disk=node.disk)


# 6. Leadership, reads, outcomes


@pytest.mark.parametrize(("core_class", "stale"), [(SafeRaft, False), (ReadsWithoutQuorum, True)])
def test_read_needs_a_quorum(core_class: type[SafeRaft], stale: bool) -> None:
    cluster = Cluster(core_class=core_class)
    old = cluster.elect()
    cluster.isolate(old)
    cluster.run(0.9, until=lambda: cluster.leader() not in (None, old))
    new = take_over(cluster, old)
    cluster.propose(new, b"paid")
    cluster.run(0.05)
    assert b"paid" in cluster.acknowledged
    assert cluster.engines[old].status().role == "leader"
    answers = cluster.read(old)
    cluster.run(3.0)
    assert bool(cluster.violations) == stale
    assert answers[0] is not None if stale else answers == [None]


@pytest.mark.parametrize(("core_class", "stale"), [(SafeRaft, False), (ReadsWithoutNoop, True)])
def test_new_leader_reads_behind_its_own_noop(core_class: type[SafeRaft], stale: bool) -> None:
    cluster = Cluster(core_class=core_class)
    old = cluster.elect()
    cluster.run(0.3)
    cluster.propose(old, b"paid")
    cluster.run(0.2, until=lambda: b"paid" in cluster.acknowledged)
    cluster.crash(old)  # before it told anybody that this was committed
    cluster.run(5.0, until=lambda: any(engine.core.is_leader() for engine in cluster.engines.values()))
    new = next(node for node, engine in cluster.engines.items() if engine.core.is_leader())
    answers = cluster.read(new)
    cluster.run(1.0)
    assert len(answers) == 1
    assert bool(cluster.violations) == stale


def test_one_round_serves_all_reads_that_wait() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    before = cluster.engines[leader].core.reads.round
    answers = [cluster.read(leader) for _ in range(100)]
    cluster.run(0.05)
    assert all(len(answer) == 1 and answer[0] is not None for answer in answers)
    assert cluster.engines[leader].core.reads.round - before <= 2


@pytest.mark.parametrize("guarded", [True, False])
def test_leader_without_quorum_steps_down_within_two_seconds(guarded: bool) -> None:
    def config(**settings: object) -> ConsensusConfig:
        made = ConsensusConfig(**settings)  # type: ignore[arg-type]
        return made if guarded else replace(made, quorum_timeout_s=30.0)

    cluster = Cluster(config=config)
    leader = cluster.elect()
    cluster.isolate(leader)
    cluster.run(2.0)
    assert (cluster.engines[leader].status().role == "leader") != guarded


@pytest.mark.parametrize(("core_class", "lied"), [(SafeRaft, False), (DiscardsAtStepDown, True)])
def test_lost_lead_does_not_mean_discarded(core_class: type[SafeRaft], lied: bool) -> None:
    cluster = Cluster(core_class=core_class)
    old = cluster.elect()
    cluster.run(0.3)
    answers = cluster.propose(old, b"paid")
    cluster.settle()  # the entry is on its way
    cluster.cut_links = {(other, old) for other in cluster.ids if other != old}  # and no answer comes back
    cluster.run(4.0)
    assert answers[0].status is (ProposalStatus.DISCARDED if lied else ProposalStatus.UNKNOWN)
    cluster.finish()
    assert b"paid" in cluster.states["a"].data()  # the next leader committed it
    assert any("discarded" in violation for violation in cluster.violations) == lied


def test_overwritten_proposal_is_discarded() -> None:
    cluster = Cluster()
    old = cluster.elect()
    cluster.isolate(old)
    answers = cluster.propose(old, b"never leaves")
    cluster.run(0.9, until=lambda: cluster.leader() not in (None, old))
    cluster.heal()
    cluster.run(0.4)
    assert [answer.status for answer in answers] == [ProposalStatus.DISCARDED]
    cluster.finish()
    assert not cluster.violations


def test_follower_refuses_at_once() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    follower = next(node for node in cluster.ids if node != leader)
    answers = cluster.propose(follower, b"x")
    cluster.settle()
    assert [answer.status for answer in answers] == [ProposalStatus.REFUSED_NOT_LEADER]
    assert cluster.engines[follower].status().leader_id == leader


def test_term_hint_moves_a_sender_of_an_older_term() -> None:
    cluster = Cluster()
    old = cluster.elect()
    cluster.isolate(old)
    cluster.run(0.9, until=lambda: cluster.leader() not in (None, old))
    cluster.heal()
    cluster.run(0.2)
    assert cluster.engines[old].status().role == "follower"


# 9. Nothing waits for a tick


@pytest.mark.parametrize(("core_class", "waits"), [(SafeRaft, False), (SendsAtHeartbeatsOnly, True)])
def test_commit_needs_no_passing_of_time(core_class: type[SafeRaft], waits: bool) -> None:
    cluster = Cluster(core_class=core_class)
    leader = cluster.elect()
    cluster.run(0.3)
    cluster.delay_s = (0.0, 0.0)
    answers = cluster.propose(leader, b"paid")
    frozen = cluster.clock.now
    for _ in range(20):
        cluster.settle()
    assert cluster.clock.now == frozen
    assert bool(answers) != waits


def test_all_waiting_proposals_share_one_sync() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(0.3)
    before = {node: disk.syncs for node, disk in cluster.disks.items()}
    for number in range(500):
        cluster.propose(leader, b"%d" % number)
    cluster.run(0.05)
    assert len(cluster.acknowledged) == 500
    assert all(disk.syncs - before[node] <= 3 for node, disk in cluster.disks.items())


@pytest.mark.parametrize("guarded", [True, False])
def test_divergent_follower_is_found_in_few_questions(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guarded:
        monkeypatch.setattr("node.consensus.raft_state.Replicator", StepsBackOneByOne)
    cluster = Cluster()
    old = cluster.elect()
    cluster.isolate(old)
    for number in range(300):
        cluster.propose(old, b"old %d" % number)
    cluster.run(0.9, until=lambda: cluster.leader() not in (None, old))
    new = take_over(cluster, old)
    for number in range(400):
        cluster.propose(new, b"new %d" % number)
    cluster.run(0.05)
    cluster.crash(new)
    cluster.restart(new)
    cluster.run(1.5, until=lambda: cluster.leader() not in (None, old))
    newest = take_over(cluster, old)  # it looks for the common entry from the end of a long log
    cluster.heal()
    transport = cluster.transports[newest]
    before = len(transport.sent)
    cluster.run(3.0, until=lambda: len(cluster.states[old].data()) == 400)
    questions = [peer for peer, _ in transport.sent[before:] if peer == old]
    assert not cluster.violations
    assert (len(questions) < 20) == guarded


def test_proposals_pending_of_two_leads_at_one_index() -> None:
    outcomes: list[tuple[str, ProposalStatus]] = []
    proposals = Proposals(0.5)

    def pend(name: str, term: int) -> None:
        proposals.appended(Proposal(b"x", lambda outcome: outcomes.append((name, outcome.status)), 1), 7, term)

    pend("old", 1)
    proposals.lead_lost(10.0)
    pend("new", 3)
    proposals.applied([LogEntry(7, 3, b"x")], [None])
    assert outcomes == [("old", ProposalStatus.DISCARDED), ("new", ProposalStatus.APPLIED)]
