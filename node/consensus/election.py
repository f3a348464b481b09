"""Who may stand for election. A node asks first whether a majority would vote for it (pre-vote), and nobody votes who
hears from a leader (stickiness): so a node that was cut off, or was asleep, neither disturbs the others nor drives up
terms. The leader itself may ask for an election, to hand over."""

from __future__ import annotations

import math


class Elections:
    def __init__(self, sticky_s: float) -> None:
        self._sticky_s = sticky_s
        self._heard_at = -math.inf
        self._asked_term = 0  # 0 = nobody was asked
        self._granted: set[str] = set()
        self._told_term = 0  # the term whose leader told this node to stand

    def heard_leader(self, now: float) -> None:
        self._heard_at = now
        self._asked_term = 0

    def lost_leader(self) -> None:
        """Its connection broke: no need to wait for what will not come."""
        self._heard_at = -math.inf

    def hears_leader(self, now: float) -> bool:
        return now - self._heard_at < self._sticky_s

    def ask(self, term: int) -> None:
        self._asked_term = term
        self._granted.clear()

    def grant(self, peer: str, term: int) -> None:
        if term == self._asked_term:
            self._granted.add(peer)

    def told_to_stand(self, term: int) -> None:
        self._told_term = term

    def may_stand(self, term: int, votes_needed: int) -> bool:
        """Whether this node, in `term` now, may stand in the next one; it votes for itself."""
        if self.is_told(term):
            return True
        return self._asked_term == term + 1 and len(self._granted) + 1 >= votes_needed

    def is_told(self, term: int) -> bool:
        return self._told_term == term > 0
