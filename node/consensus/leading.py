"""A node that leads: it admits, replicates, counts acknowledgements, proves reads, and hands its lead over."""

from __future__ import annotations

from node.consensus.contract import ProposalStatus
from node.consensus.following import Following
from node.consensus.handover import HANDOVER_S_MAX, Handover, HandoverCallback
from node.consensus.messages import AppendReply, Promote, TimeoutNow
from node.consensus.pinned import RAFT_STATE
from node.consensus.proposals import Proposal
from node.consensus.replication import LeaderView
from node.consensus.seams import Room

SLOW_SYNC_US = 100_000  # slower, and SLOWER_FACTOR slower than another node: that one should lead
SLOWER_FACTOR = 5
LEAVE_EVERY_S = 5.0


class Leading(Following):
    def is_ready(self) -> bool:
        """Everything that earlier leaders may have acknowledged is applied here."""
        return self.is_leader() and self.applied_index() >= self.noop_index

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

    def comes_without_vote(self, peer: str) -> None:
        """A connection of a node that has forgotten its promises. It may have lost its disk once more, and may have
        voted and acknowledged in between: so it is proven anew, from nothing."""
        self.joining.forget(peer)
        self.replicator.forget(peer)
        self._SyncObj__raftMatchIndex[self.nodes[peer]] = 0

    def _promote(self, peer: str) -> None:
        """A non-voter gets its vote back once it has an entry that was proposed after the proof."""
        target = self.joining.target(peer)
        if target:
            if min(self.replicator.peers[peer].match_index, self.commit_index()) >= target:
                self.send(peer, Promote(self.term(), target))
        elif self.commit_index() >= self.noop_index and self.joining.is_proven(peer, self.replicator.peers):
            self.joining.set_target(peer, self.log.append(self.term(), b""))

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

    # Giving the lead up

    def hand_over(self, target: str, callback: HandoverCallback) -> None:
        """Have `target` lead ("" = whoever has most of the log). callback(True) once another node leads."""
        target = self.replicator.successor(target) if self.is_leader() and self.handover is None else ""
        if not target:
            callback(False)
            return
        self.handover = Handover(target, self.clock.monotonic() + HANDOVER_S_MAX, callback)

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

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        lead_lost = self.is_leader() and state != RAFT_STATE.LEADER
        super()._SyncObj__setState(state)
        if lead_lost:
            self._postpone_election()
            self.proposals.lead_lost(self.clock.monotonic())
            self.reads.fail()
