"""SafeRaft: pysyncobj's roles, elections, vote rule and commit rule, with everything replaced that loses money.

One round (`step`) does, in this order: receive, append what was proposed, send it to the peers, sync the log, and only
then send what promises durability (votes, acknowledgements) and let pysyncobj's tick count this node itself. Names that
begin with _SyncObj__ are pysyncobj's private methods, overridden; pinned.py makes sure that they are the known ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from node.consensus.adapters import CoreTransport, check_disks, conf_of
from node.consensus.appending import append_entries, verified_commit
from node.consensus.contract import Clock, LogEntry, ProposalStatus, ReadCallback, StateMachine
from node.consensus.election import Elections
from node.consensus.handover import HANDOVER_S_MAX, Handover, HandoverCallback
from node.consensus.joining import Joining
from node.consensus.messages import (
    Append,
    AppendReply,
    Message,
    PreVote,
    PreVoteGrant,
    Promote,
    RequestVote,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
    TermHint,
    TimeoutNow,
    Vote,
)
from node.consensus.pinned import RAFT_STATE, Node, SyncObj, bind
from node.consensus.proposals import Proposal, Proposals
from node.consensus.reads import ReadRounds
from node.consensus.replication import LeaderView, Replicator
from node.consensus.seams import ConsensusConfig, FatalRaftError, InstallSnapshotNow, RaftLog, Room, Snapshots
from node.consensus.snapshots import SnapshotReceiver, SnapshotSender
from node.storage.member import Seen

COMMIT_NOTICE_S = 0.01
SYNC_WEIGHT = 0.2  # of the newest sync in the usual time
SYNC_US_MAX = 0xFFFF_FFFF
SLOW_SYNC_US = 100_000  # slower, and SLOWER_FACTOR slower than another node: that one should lead
SLOWER_FACTOR = 5
LEAVE_EVERY_S = 5.0
ASK_AGAIN_SHARE = 0.4  # of an election time-out: when the first pre-vote came a moment too early
LEADER_LOST_SHARE = 0.3
APPLY_ENTRIES_MAX = 1_024
ROLES = {RAFT_STATE.FOLLOWER: "follower", RAFT_STATE.CANDIDATE: "candidate", RAFT_STATE.LEADER: "leader"}


class SafeRaft(SyncObj):  # type: ignore[misc]  # the library has no types
    def __init__(
        self,
        config: ConsensusConfig,
        log: RaftLog,
        send: Callable[[str, Message], bool],
        clock: Clock,
        randomness: random.Random,
        state_machine: StateMachine,
        snapshots: Snapshots | None = None,
    ) -> None:
        check_disks(log, state_machine)
        bind(clock, randomness)
        self.config, self.log, self.clock, self.state_machine = config, log, clock, state_machine
        self.randomness = randomness
        self.send = send
        self.replicator = Replicator(config, log, send)
        self.proposals = Proposals(config.unknown_after_s)
        self.reads = ReadRounds()
        self.elections = Elections(config.election_timeout_min_s)
        self._SyncObj__raftElectionDeadline = 0.0
        self.handover: Handover | None = None
        self.joining = Joining()
        self.room = Room.OK
        self.on_promoted: Callable[[], None] = lambda: None
        self.snapshot_sender = SnapshotSender(config, log, snapshots, send) if snapshots is not None else None
        self.snapshot_receiver = SnapshotReceiver(config, snapshots, send) if snapshots is not None else None
        self.promises: list[tuple[str, Message]] = []  # true only once the log is synced
        self.voters: set[str] = set()
        self.noop_index = 0
        self.sync_us = 0  # usual time of a sync
        self._leave_at = 0.0
        self._notice_at = self._compact_at = 0.0
        peers = [Node(peer) for peer in config.other_peers()]
        self.nodes = {node.id: node for node in peers}
        super().__init__(Node(config.node_id), peers, conf=conf_of(config, log), transport=CoreTransport(self._promise))
        self._SyncObj__raftLastApplied = state_machine.applied_position
        self._SyncObj__raftCommitIndex = max(log.commit_index, state_machine.applied_position)

    # What the engine asks

    def step(
        self, messages: Sequence[tuple[str, Message]], proposals: list[Proposal], reads: list[ReadCallback]
    ) -> None:
        bind(self.clock, self.randomness)
        for peer, message in messages:
            self._receive(peer, message)
        self._admit(proposals)
        self.reads.request(reads)
        if self.is_leader():
            self._replicate()
        self.flush()
        self._tick()
        self.flush()
        self._settle()

    def _tick(self) -> None:
        """pysyncobj's tick, which stands for election when its deadline has passed: so it sees one only when it may."""
        may_stand = self._may_stand()
        deadline = self._SyncObj__raftElectionDeadline
        self._SyncObj__raftElectionDeadline = 0.0 if may_stand else math.inf
        self._onTick(0.0)
        if self._SyncObj__raftElectionDeadline == math.inf:
            self._SyncObj__raftElectionDeadline = deadline

    def flush(self) -> None:
        """The one place where promises leave the node: one sync for all of them, first."""
        if self.log.dirty:
            self._timed_sync()
        promises, self.promises = self.promises, []
        for peer, message in sorted(promises, key=lambda promise: promise[0]):
            if not isinstance(message, AppendReply) or message.term == self.term():
                self.send(peer, message)

    def _timed_sync(self) -> None:
        started_at = self.clock.monotonic()
        self.log.sync()
        took_us = (self.clock.monotonic() - started_at) * 1e6
        self.sync_us = int(min(self.sync_us + (took_us - self.sync_us) * SYNC_WEIGHT, SYNC_US_MAX))

    def connected(self, peer: str) -> None:
        if not self._SyncObj__connectedNodes:  # back from isolation: hear a leader out before disturbing it
            bind(self.clock, self.randomness)
            self._postpone_election()
        self._SyncObj__onNodeConnected(self.nodes[peer])
        self.replicator.connected(peer)

    def disconnected(self, peer: str) -> None:
        bind(self.clock, self.randomness)
        self._SyncObj__onNodeDisconnected(self.nodes[peer])
        self.replicator.disconnected(peer)
        if peer == self.leader_id():
            self.elections.lost_leader()
            self._postpone_election(LEADER_LOST_SHARE)  # a leader that lives is heard before that

    def hand_over(self, target: str, callback: HandoverCallback) -> None:
        """Have `target` lead ("" = whoever has most of the log). callback(True) once another node leads."""
        target = self.replicator.successor(target) if self.is_leader() and self.handover is None else ""
        if not target:
            callback(False)
            return
        self.handover = Handover(target, self.clock.monotonic() + HANDOVER_S_MAX, callback)

    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    def role(self) -> str:
        return ROLES[self._SyncObj__raftState]

    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == RAFT_STATE.LEADER)

    def leader_id(self) -> str:
        leader = self._SyncObj__raftLeader
        return str(leader.id) if leader is not None else ""

    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    def is_ready(self) -> bool:
        """Everything that earlier leaders may have acknowledged is applied here."""
        return self.is_leader() and self.applied_index() >= self.noop_index

    def next_deadline(self) -> float:
        if min(self.commit_index(), self.log.durable_index) > self.applied_index():
            return 0.0
        due = [time for time in (self._notice_at, self.proposals.deadline) if time]
        if self.handover is not None:
            due.append(self.handover.deadline)
        if self.is_leader():
            due.append(self._SyncObj__newAppendEntriesTime)
        elif self._SyncObj__connectedToAnyone():
            due.append(self._SyncObj__raftElectionDeadline)
        return min(due, default=math.inf)

    # Receiving

    def _receive(self, peer: str, message: Message) -> None:
        if self._is_stale(message):
            if isinstance(message, Append | RequestVote | PreVote):
                self.promises.append((peer, TermHint(self.term())))
            return
        match message:
            case PreVote():
                self._on_pre_vote(peer, message)
            case PreVoteGrant(term):
                self.elections.grant(peer, term)
            case TimeoutNow(term):
                if term == self.term() and peer == self.leader_id():
                    self.elections.told_to_stand(term)
            case Append():
                self._on_append(peer, message)
            case AppendReply():
                self._on_append_reply(peer, message)
            case Promote(_, position):
                self._on_promote(peer, position)
            case SnapshotOffer() | SnapshotRequest() | SnapshotChunk():
                self._on_snapshot_message(peer, message)
            case RequestVote():
                self._on_request_vote(peer, message)
            case Vote(term):
                self._on_vote(peer, term)
            case TermHint(term):
                self._follow_term(term)

    def _is_stale(self, message: Message) -> bool:
        """Of an older term: neither a vote nor an acknowledgement nor an order counts any more."""
        return message.term <= self.term() if isinstance(message, PreVote) else message.term < self.term()

    def _on_pre_vote(self, peer: str, message: PreVote) -> None:
        """A grant promises nothing, so it need not be durable, and there may be several."""
        mine = (self.log.last_term, self.log.last_index)
        if self.is_voter() and not self._is_sticky() and (message.last_term, message.last_index) >= mine:
            self.send(peer, PreVoteGrant(message.term))

    def _on_request_vote(self, peer: str, message: RequestVote) -> None:
        if not self.is_voter() or (self._is_sticky() and not message.handed_over):
            return  # not even its term: whoever leads goes on
        request = {"type": "request_vote", "term": message.term}
        request |= {"last_log_index": message.last_index, "last_log_term": message.last_term}
        super()._SyncObj__onMessageReceived(self.nodes[peer], request)

    def _is_sticky(self) -> bool:
        """There is a leader, as far as this node can tell: it hears one, or leads and hears a majority."""
        now = self.clock.monotonic()
        if not self.is_leader():
            return self.elections.hears_leader(now)
        since = now - self.config.election_timeout_min_s
        answering = sum(at > since for at in self._SyncObj__lastResponseTime.values())
        return bool(answering + 1 >= self._majority())

    def _majority(self) -> int:
        return (len(self.nodes) + 1) // 2 + 1

    def _hear_leader(self, peer: str, term: int) -> None:
        if self.is_leader() and term == self.term():
            raise FatalRaftError(f"{peer} leads term {term}, and so does this node")
        self._follow_term(term)
        self._SyncObj__setState(RAFT_STATE.FOLLOWER)
        self._SyncObj__raftLeader = self.nodes[peer]
        if not self.elections.is_told(term):
            self._postpone_election()
        self.elections.heard_leader(self.clock.monotonic())

    def _on_append(self, peer: str, message: Append) -> None:
        self._hear_leader(peer, message.term)
        if self.room is Room.FULL:
            message = replace(message, entries=[])
        reply = append_entries(self.log, message, self.commit_index())
        self.promises.append((peer, self._with_condition(reply)))
        if reply.success:
            commit = verified_commit(message.commit_index, reply.match_index, self.log.last_index)
            self._SyncObj__raftCommitIndex = max(self.commit_index(), commit)
            self.log.set_commit(self.commit_index())
            self.replicator.safe_index = max(self.replicator.safe_index, min(message.safe_index, self.commit_index()))

    def _with_condition(self, reply: AppendReply) -> AppendReply:
        return replace(reply, voter=self.is_voter(), room=int(self.room), sync_us=self.sync_us)

    def _on_append_reply(self, peer: str, reply: AppendReply) -> None:
        self._follow_term(reply.term)
        if not self.is_leader():
            return
        self.replicator.on_reply(peer, reply)
        node = self.nodes[peer]
        if self._counts(reply):
            self._SyncObj__raftMatchIndex[node] = self.replicator.peers[peer].match_index
            self._SyncObj__lastResponseTime[node] = self.clock.monotonic()
        else:
            self._SyncObj__raftMatchIndex[node] = 0
        if self.joining.heard(peer, voter=reply.voter, next_round=self.reads.round + 1):
            self.reads.request([lambda position: None])
        if not reply.voter:
            self._promote(peer)

    def _counts(self, reply: AppendReply) -> bool:
        return reply.voter

    def _promote(self, peer: str) -> None:
        """A non-voter gets its vote back once it has an entry that was proposed after the proof."""
        target = self.joining.target(peer)
        if target:
            if min(self.replicator.peers[peer].match_index, self.commit_index()) >= target:
                self.send(peer, Promote(self.term(), target))
        elif self.commit_index() >= self.noop_index and self.joining.is_proven(peer, self.replicator.peers):
            self.joining.set_target(peer, self.log.append(self.term(), b""))

    def _on_promote(self, peer: str, position: int) -> None:
        if peer == self.leader_id() and not self.is_voter() and self.log.last_index >= position:
            self.log.set_member(self.log.member.promoted(position))
            self.flush()
            self.on_promoted()

    def met(self, peer: str, seen: Seen) -> None:
        """A peer has connected: remember its life, by which an older copy of its disk will be known."""
        if self.log.member.peers.get(peer) != seen and not self.log.member.is_outdated(peer, seen):
            self.log.set_member(self.log.member.with_peer(peer, seen))

    def is_voter(self) -> bool:
        return self.log.member.voter or not self.nodes

    def _on_snapshot_message(self, peer: str, message: SnapshotOffer | SnapshotRequest | SnapshotChunk) -> None:
        now, receiver = self.clock.monotonic(), self.snapshot_receiver
        match message:
            case SnapshotOffer():
                self._hear_leader(peer, message.term)
                wanted = message.position > self.applied_index() and self.room is Room.OK
                if receiver is not None and wanted and receiver.on_offer(peer, message, now):
                    raise InstallSnapshotNow
            case SnapshotRequest() if self.is_leader() and self.snapshot_sender is not None:
                self.snapshot_sender.answer(peer, message, now)
            case SnapshotChunk() if receiver is not None and receiver.on_chunk(message, now):
                raise InstallSnapshotNow

    def _on_vote(self, peer: str, term: int) -> None:
        self._follow_term(term)
        if self._is_new_vote(peer):
            self.voters.add(peer)
            super()._SyncObj__onMessageReceived(self.nodes[peer], {"type": "response_vote", "term": term})

    def _is_new_vote(self, peer: str) -> bool:
        return peer not in self.voters

    def _follow_term(self, term: int) -> None:
        if term > self.term():
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(RAFT_STATE.FOLLOWER)
            self._SyncObj__raftLeader = None

    def _postpone_election(self, share: float = 1.0) -> None:
        """To a random time, so that two nodes seldom stand together; `share` of a whole election time-out."""
        self._SyncObj__raftElectionDeadline = self.clock.monotonic() + share * self._SyncObj__generateRaftTimeout()

    def _may_stand(self) -> bool:
        """When the time has come, ask the others first; only with the word of a majority, or of the leader, stand."""
        if self.is_leader() or not self.is_voter() or not self._SyncObj__connectedToAnyone():
            return False
        if self.elections.may_stand(self.term(), self._majority()):
            return True
        if self.clock.monotonic() <= self._SyncObj__raftElectionDeadline:
            return False
        self._postpone_election(ASK_AGAIN_SHARE)
        self._SyncObj__raftLeader = None
        self.elections.ask(self.term() + 1)
        for peer in self.nodes:
            self.send(peer, PreVote(self.term() + 1, self.log.last_index, self.log.last_term))
        return self.elections.may_stand(self.term(), self._majority())

    # Leading

    def _admit(self, proposals: list[Proposal]) -> None:
        if not proposals:
            return
        if self.handover is not None:
            self.handover.held.extend(proposals)
            return
        if not self.is_ready():
            self.proposals.refuse(proposals, ProposalStatus.REFUSED_NOT_LEADER)
            return
        if self.room is not Room.OK:
            self.proposals.refuse(proposals, ProposalStatus.REFUSED_NO_ROOM)
            return
        for position, proposal in enumerate(proposals):
            if self.log.bytes_total >= self.config.log_bytes_max:
                self.proposals.refuse(proposals[position:], ProposalStatus.REFUSED_QUEUE_FULL)
                return
            self.proposals.appended(proposal, self.log.append(self.term(), proposal.data), self.term())

    def _replicate(self, *, everyone: bool = False) -> None:
        if self.reads.begin(self._read_floor()):
            everyone = True
        self.replicator.replicate(self._view(), everyone=everyone)
        if everyone:
            self._offer_snapshots()
            self._SyncObj__newAppendEntriesTime = self.clock.monotonic() + self.config.heartbeat_s

    def _offer_snapshots(self) -> None:
        for peer, progress in self.replicator.peers.items():
            if progress.needs_snapshot and progress.connected and self.snapshot_sender is not None:
                self.snapshot_sender.offer(peer, self.term(), self.state_machine.durable_position)

    def _read_floor(self) -> int:
        """A new leader may not know what was committed before it, until an entry of its own is."""
        return max(self.commit_index(), self.noop_index)

    def _view(self) -> LeaderView:
        return LeaderView(self.term(), self.commit_index(), self.reads.round)

    def _settle(self) -> None:
        """After commit and apply: prove reads, tell followers, give late answers."""
        now = self.clock.monotonic()
        self.proposals.expire(now)
        self._go_on_with_handover(now)
        self._leave_when_unfit(now)
        if not self.is_leader():
            self._notice_at = 0.0
            self.reads.fail()
            return
        self.replicator.settle_safe_index(self.commit_index())
        self.reads.confirm(self.replicator.majority_round(self.reads.round))
        self.reads.release(self.applied_index())
        if self.reads.begin(self._read_floor()):
            self._replicate(everyone=True)
        if self._notice_at and now >= self._notice_at:
            self.replicator.tell_commit(self._view())
            self._notice_at = 0.0

    def _leave_when_unfit(self, now: float) -> None:
        """A leader whose disk is nearly full, or far slower than another node's, gives up its lead."""
        if not self.is_leader() or self.handover is not None or now < self._leave_at:
            return
        is_slow = self.sync_us > SLOW_SYNC_US and self.replicator.fastest_sync_us() * SLOWER_FACTOR < self.sync_us
        if self.room is not Room.OK or is_slow:
            self._leave_at = now + LEAVE_EVERY_S
            self.hand_over(self.replicator.fastest() if is_slow else "", lambda done: None)

    def _go_on_with_handover(self, now: float) -> None:
        handover = self.handover
        if handover is None:
            return
        if self.is_leader():
            complete = self.replicator.peers[handover.target].match_index == self.log.last_index
            if complete and not handover.is_told:
                handover.is_told = self.send(handover.target, TimeoutNow(self.term()))
        if now >= handover.deadline or (not self.is_leader() and self.leader_id()):
            self.handover = None
            self._admit(handover.held)  # again, or to the caller with the name of the new leader
            handover.callback(not self.is_leader())

    # What pysyncobj's tick calls

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._SyncObj__raftLeader = self._SyncObj__selfNode
        self._SyncObj__setState(RAFT_STATE.LEADER)
        self.replicator.lead(self.log.last_index)
        self.joining.lead()
        now = self.clock.monotonic()
        for node in self.nodes.values():
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = now
        self.noop_index = self.log.append(self.term(), b"")
        self.log.sync()  # the tick goes on to the commit rule, which counts this node
        self._replicate(everyone=True)

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._replicate(everyone=True)

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        if term > self.term():
            self.voters.clear()
        super()._SyncObj__setCurrentTerm(term, voted_for)

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        lead_lost = self.is_leader() and state != RAFT_STATE.LEADER
        super()._SyncObj__setState(state)
        if lead_lost:
            self._postpone_election()
            self.proposals.lead_lost(self.clock.monotonic())
            self.reads.fail()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        first = self.applied_index() + 1
        last = min(self.commit_index(), self.log.durable_index)
        if first > last:
            return False
        if self.is_leader():
            self._notice_at = self._notice_at or self.clock.monotonic() + COMMIT_NOTICE_S
        rows = self.log.read(first, min(last - first + 1, APPLY_ENTRIES_MAX), self.config.apply_bytes_max)
        entries = [LogEntry(first + offset, term, data) for offset, (term, data) in enumerate(rows)]
        results = self.state_machine.apply(entries)
        applied = entries[-1].position
        if len(results) != len(entries) or self.state_machine.applied_position != applied:
            raise FatalRaftError(f"state machine applied up to {self.state_machine.applied_position}, not {applied}")
        self._SyncObj__raftLastApplied = applied
        self.proposals.applied(entries, results)
        return False

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Only what this node's state holds durably, and, within bounds, nobody will ask for."""
        now = self.clock.monotonic()
        if now < self._compact_at:
            return
        self._compact_at = now + self.config.compact_every_s
        upto = min(self.state_machine.durable_position, self._needed_from(now)) - self._trailing_entries()
        if upto - self.log.base_index >= self.config.compact_entries_min:
            self.log.compact(upto)

    def _trailing_entries(self) -> int:
        average_bytes = self.log.bytes_total // max(1, self.log.last_index - self.log.base_index)
        return min(self.config.log_trailing_entries, self.config.log_trailing_bytes_max // max(1, average_bytes))

    def _needed_from(self, now: float) -> int:
        """The lowest position behind which somebody needs the log: a node that is away, unless that takes too much, or
        one that is receiving a snapshot."""
        needed = self.commit_index()
        if self.snapshot_sender is None or self.log.bytes_total < self.config.log_kept_bytes_max:
            needed = min(needed, self.replicator.safe_index)
        floor = self.snapshot_sender.floor(now) if self.snapshot_sender is not None else None
        if floor is not None and self.log.bytes_total < self.config.log_bytes_max // 2:
            needed = min(needed, floor)
        return needed

    def _SyncObj__getEntries(  # noqa: N802
        self, first: int, count: int | None = None, bytes_max: int | None = None
    ) -> list[tuple[None, int, int]]:
        """Only the commit rule still asks, one entry at a time and only for its term."""
        term = self.log.term_at(first)
        return [] if term is None else [(None, first, term)]

    def _SyncObj__getCurrentLogIndex(self) -> int:  # noqa: N802
        return self.log.last_index

    def _SyncObj__getCurrentLogTerm(self) -> int:  # noqa: N802
        return self.log.last_term

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: N802, N803
        raise FatalRaftError("dump files are never used")

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """Proposals are appended in step(), before the sync; pysyncobj's own queue stays empty."""

    def _promise(self, peer: str, message: dict[str, Any]) -> None:
        """What pysyncobj itself sends (votes and requests for them) waits for the sync like everything else."""
        match message["type"]:
            case "request_vote":
                told = self.elections.is_told(message["term"] - 1)
                request = RequestVote(message["term"], message["last_log_index"], message["last_log_term"], told)
                self.promises.append((peer, request))
            case "response_vote":
                self.promises.append((peer, Vote(message["term"])))
            case other:
                raise FatalRaftError(f"pysyncobj sent {other!r}, which is never used")
