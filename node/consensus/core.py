"""SafeRaft: pysyncobj's roles, elections, vote rule and commit rule, with everything replaced that loses money.

One round (`step`) does, in this order: receive, append what was proposed, send it to the peers, sync the log, and only
then send what promises durability (votes, acknowledgements) and let pysyncobj's tick count this node itself. Names that
begin with _SyncObj__ are pysyncobj's private methods, overridden; pinned.py makes sure that they are the known ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from node.consensus.appending import append_entries, verified_commit
from node.consensus.contract import Clock, LogEntry, ProposalStatus, ReadCallback, StateMachine
from node.consensus.frames import Append, AppendReply, Message, RequestVote, TermHint, Vote
from node.consensus.pinned import RAFT_STATE, Journal, Node, SyncObj, SyncObjConf, Transport, bind
from node.consensus.proposals import Proposal, Proposals
from node.consensus.reads import ReadRounds
from node.consensus.replication import LeaderView, Replicator
from node.consensus.seams import ConsensusConfig, FatalRaftError, RaftLog

COMMIT_NOTICE_S = 0.01
COMPACT_EVERY_S = 1.0
COMPACT_ENTRIES_MIN = 256
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
    ) -> None:
        _check_disks(log, state_machine)
        bind(clock, randomness)
        self.config, self.log, self.clock, self.state_machine = config, log, clock, state_machine
        self.randomness = randomness
        self.send = send
        self.replicator = Replicator(config, log, send)
        self.proposals = Proposals(config.unknown_after_s)
        self.reads = ReadRounds()
        self.promises: list[tuple[str, Message]] = []  # true only once the log is synced
        self.voters: set[str] = set()
        self.noop_index = 0
        self._notice_at = self._compact_at = 0.0
        peers = [Node(peer) for peer in config.other_peers()]
        self.nodes = {node.id: node for node in peers}
        super().__init__(Node(config.node_id), peers, conf=_conf(config, log), transport=_CoreTransport(self._promise))
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
        self._onTick(0.0)
        self.flush()
        self._settle()

    def flush(self) -> None:
        """The one place where promises leave the node: one sync for all of them, first."""
        self.log.sync()
        promises, self.promises = self.promises, []
        for peer, message in sorted(promises, key=lambda promise: promise[0]):
            if not isinstance(message, AppendReply) or message.term == self.term():
                self.send(peer, message)

    def connected(self, peer: str) -> None:
        if not self._SyncObj__connectedNodes:  # back from isolation: hear a leader out before disturbing it
            bind(self.clock, self.randomness)
            self._postpone_election()
        self._SyncObj__onNodeConnected(self.nodes[peer])
        self.replicator.connected(peer)

    def disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(self.nodes[peer])
        self.replicator.disconnected(peer)

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
        if self.is_leader():
            due.append(self._SyncObj__newAppendEntriesTime)
        elif self._SyncObj__connectedToAnyone():
            due.append(self._SyncObj__raftElectionDeadline)
        return min(due, default=math.inf)

    # Receiving

    def _receive(self, peer: str, message: Message) -> None:
        if self._is_stale(message):
            if isinstance(message, Append | RequestVote):
                self.promises.append((peer, TermHint(self.term())))
            return
        match message:
            case Append():
                self._on_append(peer, message)
            case AppendReply():
                self._on_append_reply(peer, message)
            case RequestVote(term, last_index, last_term):
                request = {"type": "request_vote", "term": term}
                request |= {"last_log_index": last_index, "last_log_term": last_term}
                super()._SyncObj__onMessageReceived(self.nodes[peer], request)
            case Vote(term):
                self._on_vote(peer, term)
            case TermHint(term):
                self._follow_term(term)

    def _is_stale(self, message: Message) -> bool:
        """Of an older term: neither a vote nor an acknowledgement nor an order counts any more."""
        return message.term < self.term()

    def _on_append(self, peer: str, message: Append) -> None:
        if self.is_leader() and message.term == self.term():
            raise FatalRaftError(f"{peer} leads term {message.term}, and so does this node")
        self._follow_term(message.term)
        self._SyncObj__setState(RAFT_STATE.FOLLOWER)
        self._SyncObj__raftLeader = self.nodes[peer]
        self._postpone_election()
        reply = append_entries(self.log, message, self.commit_index())
        self.promises.append((peer, reply))
        if reply.success:
            commit = verified_commit(message.commit_index, reply.match_index, self.log.last_index)
            self._SyncObj__raftCommitIndex = max(self.commit_index(), commit)
            self.log.set_commit(self.commit_index())
            self.replicator.safe_index = max(self.replicator.safe_index, min(message.safe_index, self.commit_index()))

    def _on_append_reply(self, peer: str, reply: AppendReply) -> None:
        self._follow_term(reply.term)
        if not self.is_leader():
            return
        self.replicator.on_reply(peer, reply)
        node = self.nodes[peer]
        self._SyncObj__raftMatchIndex[node] = self.replicator.peers[peer].match_index
        self._SyncObj__lastResponseTime[node] = self.clock.monotonic()

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

    def _postpone_election(self) -> None:
        self._SyncObj__raftElectionDeadline = self.clock.monotonic() + self._SyncObj__generateRaftTimeout()

    # Leading

    def _admit(self, proposals: list[Proposal]) -> None:
        if not proposals:
            return
        if not self.is_ready():
            self.proposals.refuse(proposals, ProposalStatus.REFUSED_NOT_LEADER)
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
            self._SyncObj__newAppendEntriesTime = self.clock.monotonic() + self.config.heartbeat_s

    def _read_floor(self) -> int:
        """A new leader may not know what was committed before it, until an entry of its own is."""
        return max(self.commit_index(), self.noop_index)

    def _view(self) -> LeaderView:
        return LeaderView(self.term(), self.commit_index(), self.reads.round)

    def _settle(self) -> None:
        """After commit and apply: prove reads, tell followers, give late answers."""
        now = self.clock.monotonic()
        self.proposals.expire(now)
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

    # What pysyncobj's tick calls

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._SyncObj__raftLeader = self._SyncObj__selfNode
        self._SyncObj__setState(RAFT_STATE.LEADER)
        self.replicator.lead(self.log.last_index)
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
        """Only what this node's state holds durably, every configured node has stored, and nobody soon asks for."""
        now = self.clock.monotonic()
        if now < self._compact_at:
            return
        self._compact_at = now + COMPACT_EVERY_S
        upto = min(self.state_machine.durable_position, self.replicator.safe_index) - self.config.log_trailing_entries
        if upto - self.log.base_index >= COMPACT_ENTRIES_MIN:
            self.log.compact(upto)

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
                request = RequestVote(message["term"], message["last_log_index"], message["last_log_term"])
                self.promises.append((peer, request))
            case "response_vote":
                self.promises.append((peer, Vote(message["term"])))
            case other:
                raise FatalRaftError(f"pysyncobj sent {other!r}, which is never used")


class _CoreTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Where pysyncobj's own messages go; frames come in through SafeRaft.step."""

    ready = True

    def __init__(self, promise: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(None, None, [])
        self._promise = promise

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self._promise(node.id, message)
        return True


class _JournalView(Journal):  # type: ignore[misc]  # the library has no types
    """The few journal calls that are left to pysyncobj, on our log."""

    def __init__(self, log: RaftLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return 1  # never empty: the log needs no base entry

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._log.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._log.voted_for or None

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._log.commit_index

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        self._log.set_term(term, voted_for or "")

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self._log.set_commit(index)


def _conf(config: ConsensusConfig, log: RaftLog) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=config.election_timeout_min_s,
        raftMaxTimeout=config.election_timeout_max_s,
        appendEntriesPeriod=config.heartbeat_s,
        leaderFallbackTimeout=config.quorum_timeout_s,
        connectionTimeout=max(3.5, config.election_timeout_max_s),
        appendEntriesUseBatch=True,  # the other setting makes a pipe per engine that nobody closes
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        useFork=False,
        journalFile=_JournalView(log),
    )


def _check_disks(log: RaftLog, state_machine: StateMachine) -> None:
    applied = state_machine.applied_position
    if applied > log.last_index:
        raise FatalRaftError(
            f"the state has applied entry {applied}, but the log ends at {log.last_index}: "
            "these two folders do not belong together (was one of them replaced or restored?)"
        )
    if applied < log.base_index:
        raise FatalRaftError(
            f"the state has applied only entry {applied}, but the log starts behind {log.base_index}: "
            "entries in between are gone, so this state cannot be continued"
        )
