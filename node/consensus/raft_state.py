"""What a node knows and has promised, below all roles: its log, its term, its peers, and the one place where promises
leave the node. The roles build on it, a layer each: RaftState < Roles < Following < Leading < Applying < SafeRaft.
Names that begin with _SyncObj__ are pysyncobj's private methods, overridden; pinned.py makes sure that they are the
known ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from node.consensus.adapters import CoreTransport, check_disks, conf_of
from node.consensus.contract import Clock, StateMachine
from node.consensus.election import Elections
from node.consensus.handover import Handover
from node.consensus.joining import Joining
from node.consensus.messages import AppendReply, Message
from node.consensus.pinned import RAFT_STATE, Node, SyncObj, bind
from node.consensus.proposals import Proposals
from node.consensus.reads import ReadRounds
from node.consensus.replication import Replicator
from node.consensus.seams import ConsensusConfig, FatalRaftError, RaftLog, Room, Snapshots
from node.consensus.snapshots import SnapshotReceiver, SnapshotSender

SYNC_WEIGHT = 0.2  # of the newest sync in the usual time
SYNC_US_MAX = 0xFFFF_FFFF
ROLES = {RAFT_STATE.FOLLOWER: "follower", RAFT_STATE.CANDIDATE: "candidate", RAFT_STATE.LEADER: "leader"}


class RaftState(SyncObj):  # type: ignore[misc]  # the library has no types
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

    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    def role(self) -> str:
        return ROLES[self._SyncObj__raftState]

    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == RAFT_STATE.LEADER)

    def is_voter(self) -> bool:
        return self.log.member.voter or not self.nodes

    def leader_id(self) -> str:
        leader = self._SyncObj__raftLeader
        return str(leader.id) if leader is not None else ""

    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    def _majority(self) -> int:
        return (len(self.nodes) + 1) // 2 + 1

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

    # What pysyncobj asks

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
