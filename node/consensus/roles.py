"""Terms, votes and elections: who may stand, and whom this node votes for. pysyncobj decides both; what reaches it, and
when, is decided here.
"""

from __future__ import annotations

import math
from typing import Any

from node.consensus.messages import PreVote, PreVoteGrant, RequestVote, Vote
from node.consensus.pinned import RAFT_STATE, bind
from node.consensus.raft_state import RaftState
from node.consensus.seams import FatalRaftError

ASK_AGAIN_SHARE = 0.4  # of an election time-out: when the first pre-vote came a moment too early
LEADER_LOST_SHARE = 0.3


class Roles(RaftState):
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

    def _tick(self) -> None:
        """pysyncobj's tick, which stands for election when its deadline has passed: so it sees one only when it may."""
        may_stand = self._may_stand()
        deadline = self._SyncObj__raftElectionDeadline
        self._SyncObj__raftElectionDeadline = 0.0 if may_stand else math.inf
        self._onTick(0.0)
        if self._SyncObj__raftElectionDeadline == math.inf:
            self._SyncObj__raftElectionDeadline = deadline

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

    def _postpone_election(self, share: float = 1.0) -> None:
        """To a random time, so that two nodes seldom stand together; `share` of a whole election time-out."""
        self._SyncObj__raftElectionDeadline = self.clock.monotonic() + share * self._SyncObj__generateRaftTimeout()

    def _is_sticky(self) -> bool:
        """There is a leader, as far as this node can tell: it hears one, or leads and hears a majority."""
        now = self.clock.monotonic()
        if not self.is_leader():
            return self.elections.hears_leader(now)
        since = now - self.config.election_timeout_min_s
        answering = sum(at > since for at in self._SyncObj__lastResponseTime.values())
        return bool(answering + 1 >= self._majority())

    def _follow_term(self, term: int) -> None:
        if term > self.term():
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(RAFT_STATE.FOLLOWER)
            self._SyncObj__raftLeader = None

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

    def _on_vote(self, peer: str, term: int) -> None:
        self._follow_term(term)
        if self._is_new_vote(peer):
            self.voters.add(peer)
            super()._SyncObj__onMessageReceived(self.nodes[peer], {"type": "response_vote", "term": term})

    def _is_new_vote(self, peer: str) -> bool:
        return peer not in self.voters

    # What pysyncobj's tick calls

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        if term > self.term():
            self.voters.clear()
        super()._SyncObj__setCurrentTerm(term, voted_for)

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
