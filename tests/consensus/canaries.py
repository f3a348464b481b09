"""Engines with one guard taken out. Tests use them to prove that they would notice."""

from __future__ import annotations

from dataclasses import replace

from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.messages import AppendReply, Message, Promote, TimeoutNow
from node.consensus.proposals import Proposal
from node.consensus.replication import Replicator
from node.consensus.seams import Room
from tests.consensus.harness import SimLog


class PromisesBeforeSync(SafeRaft):
    def flush(self) -> None:
        promises, self.promises = self.promises, []
        for peer, message in promises:
            self.send(peer, message)
        super().flush()


class LeaderCountsUnsynced(SafeRaft):
    """Takes its own unsynced entries for durable while it leads."""

    def flush(self) -> None:
        if self.is_leader() and isinstance(self.log, SimLog):
            self.log.durable_index = self.log.last_index
        else:
            super().flush()


class CountsOldAcknowledgements(SafeRaft):
    def _is_stale(self, message: Message) -> bool:
        return super()._is_stale(message) and not isinstance(message, AppendReply)


class CountsEveryVote(SafeRaft):
    def _is_new_vote(self, peer: str) -> bool:
        return True


class AppliesFromTheStart(SafeRaft):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._SyncObj__raftLastApplied = 0


class ReadsWithoutQuorum(SafeRaft):
    def _settle(self) -> None:
        self.reads.confirm(self.reads.round)
        super()._settle()


class ReadsWithoutNoop(SafeRaft):
    def _read_floor(self) -> int:
        return self.commit_index()


class DiscardsAtStepDown(SafeRaft):
    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        if self.is_leader() and state != 2:
            for waiting in self.proposals._pending.values():
                self.proposals.refuse(waiting, ProposalStatus.DISCARDED)
            self.proposals._pending.clear()
        super()._SyncObj__setState(state)


class SendsAtHeartbeatsOnly(SafeRaft):
    def _replicate(self, *, everyone: bool = False) -> None:
        if everyone:
            super()._replicate(everyone=True)


class StepsBackOneByOne(Replicator):
    def on_reply(self, peer: str, reply: AppendReply) -> None:
        if not reply.success:
            reply = replace(reply, match_index=reply.prev_index - 1)
        super().on_reply(peer, reply)


class StandsWithoutAsking(SafeRaft):
    """As pysyncobj does: every time-out is an election, in a new term."""

    def _may_stand(self) -> bool:
        return not self.is_leader() and self.clock.monotonic() > self._SyncObj__raftElectionDeadline


class NeverSticky(SafeRaft):
    def _is_sticky(self) -> bool:
        return False


class HandsOverTooEarly(SafeRaft):
    """Has the other node stand before it has the last entries: it loses, or is not even asked for its vote."""

    def _go_on_with_handover(self, now: float) -> None:
        if self.handover is not None and self.is_leader() and not self.handover.is_told:
            self.handover.is_told = self.send(self.handover.target, TimeoutNow(self.term()))
        super()._go_on_with_handover(now)


class RefusesDuringHandover(SafeRaft):
    def _admit(self, proposals: list[Proposal]) -> None:
        if self.handover is not None and self.is_leader():
            self.proposals.refuse(proposals, ProposalStatus.REFUSED_NOT_LEADER)
            return
        super()._admit(proposals)


class VotesAfterDiskLoss(SafeRaft):
    """A node that has forgotten its votes and acknowledgements goes on as if it had not."""

    def is_voter(self) -> bool:
        return True


class CountsNonVoters(SafeRaft):
    def _counts(self, reply: AppendReply) -> bool:
        return True


class PromotesUnproven(SafeRaft):
    """Gives the vote back as soon as the node has what this leader believes to be committed."""

    def _promote(self, peer: str) -> None:
        progress = self.replicator.peers[peer]
        if progress.match_index >= self.commit_index():
            self.send(peer, Promote(self.term(), self.commit_index()))


class KeepsOldProofs(SafeRaft):
    """Takes a node that lost its disk twice for the one that lost it once."""

    def comes_without_vote(self, peer: str) -> None:
        pass


class CompactsBeyondDurable(SafeRaft):
    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        self.log.compact(self.applied_index())


class IgnoresItsDisk(SafeRaft):
    """Takes work until the disk is full, and leads however slow it is."""

    room = property(lambda self: Room.OK, lambda self, room: None)

    def _leave_when_unfit(self, now: float) -> None:
        pass
