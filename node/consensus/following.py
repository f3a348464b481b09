"""A node that another one leads: it takes entries, snapshots, and its vote back."""

from __future__ import annotations

from dataclasses import replace

from node.consensus.appending import append_entries, verified_commit
from node.consensus.messages import Append, AppendReply, SnapshotChunk, SnapshotOffer, SnapshotRequest
from node.consensus.pinned import RAFT_STATE
from node.consensus.roles import Roles
from node.consensus.seams import FatalRaftError, InstallSnapshotNow, Room
from node.storage.member import Seen


class Following(Roles):
    def met(self, peer: str, seen: Seen) -> None:
        """A peer has connected: remember its life, by which an older copy of its disk will be known."""
        if self.log.member.peers.get(peer) != seen and not self.log.member.is_outdated(peer, seen):
            self.log.set_member(self.log.member.with_peer(peer, seen))

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

    def _on_promote(self, peer: str, position: int) -> None:
        if peer == self.leader_id() and not self.is_voter() and self.log.last_index >= position:
            self.log.set_member(self.log.member.promoted(position))
            self.flush()
            self.on_promoted()

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
