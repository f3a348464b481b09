"""SafeRaft: pysyncobj's roles, elections, vote rule and commit rule, with everything replaced that loses money.

One round (`step`) does, in this order: receive, append what was proposed, send it to the peers, sync the log, and only
then send what promises durability (votes, acknowledgements) and let pysyncobj's tick count this node itself. What the
round calls is in the layers below: raft_state, roles, following, leading, applying.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from node.consensus.applying import Applying
from node.consensus.contract import ReadCallback
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
from node.consensus.pinned import bind
from node.consensus.proposals import Proposal


class SafeRaft(Applying):
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

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """Proposals are appended in step(), before the sync; pysyncobj's own queue stays empty."""
