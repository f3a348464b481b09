"""On the leader: nodes whose disk was lost, and when each of them may vote again.

Such a node has forgotten what it voted and acknowledged. Nothing that it says counts until it has everything that may
have been committed before it joined: so the leader first proves, by an answer of every other node in this term, that
nobody can be elected or commit by the forgotten promises; what is committed then is what the node must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node.consensus.replication import Progress


@dataclass(slots=True)
class Join:
    read_round: int  # that every other node must have answered
    target: int = 0  # position that the node must have; 0 = not proven yet


class Joining:
    def __init__(self) -> None:
        self._joins: dict[str, Join] = {}

    def lead(self) -> None:
        self._joins.clear()

    def forget(self, peer: str) -> None:
        """It comes anew, perhaps with another empty disk: what was proven before says nothing about that one."""
        self._joins.pop(peer, None)

    def heard(self, peer: str, *, voter: bool, next_round: int) -> bool:
        """True when a new round must begin."""
        if voter:
            self._joins.pop(peer, None)
        elif peer not in self._joins:
            self._joins[peer] = Join(next_round)
            return True
        return False

    def is_proven(self, peer: str, peers: Mapping[str, Progress]) -> bool:
        """Whether every other node, and each one a voter, has answered since `peer` joined."""
        join = self._joins.get(peer)
        others = (progress for other, progress in peers.items() if other != peer)
        return join is not None and all(p.voter and p.read_round >= join.read_round for p in others)

    def target(self, peer: str) -> int:
        """The position that `peer` must have; 0 = not known yet."""
        join = self._joins.get(peer)
        return join.target if join is not None else 0

    def set_target(self, peer: str, position: int) -> None:
        self._joins[peer].target = position
