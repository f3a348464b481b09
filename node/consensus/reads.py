"""Linearizable reads without the log: one quorum round proves that this node still leads, for all reads that wait.

A read may be served at the commit index of its arrival, and not before the leader's own no-op is applied (until then
it does not know what its predecessors committed), once a majority has answered a message sent after the arrival.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from node.consensus.contract import ReadCallback


@dataclass(frozen=True, slots=True)
class _Waiting:
    read_round: int
    index: int
    callbacks: list[ReadCallback]


class ReadRounds:
    def __init__(self) -> None:
        self.round = 0  # never goes back within the process; answers of older terms are dropped by their term
        self._confirmed = 0
        self._arrived: list[ReadCallback] = []
        self._asked: deque[_Waiting] = deque()
        self._proven: deque[_Waiting] = deque()

    def request(self, callbacks: list[ReadCallback]) -> None:
        self._arrived.extend(callbacks)

    def begin(self, index: int) -> bool:
        """Start a round for everything that arrived, unless one is on its way; True when the peers must be asked."""
        if not self._arrived or self._asked:
            return False
        self.round += 1
        self._asked.append(_Waiting(self.round, index, self._arrived))
        self._arrived = []
        return True

    def confirm(self, read_round: int) -> None:
        """A majority, this node included, has answered this round in the current term."""
        while self._asked and self._asked[0].read_round <= read_round:
            self._proven.append(self._asked.popleft())

    def release(self, applied_index: int) -> None:
        while self._proven and self._proven[0].index <= applied_index:
            waiting = self._proven.popleft()
            for callback in waiting.callbacks:
                callback(waiting.index)

    def fail(self) -> None:
        """The lead is lost or was never held: nothing can be proven."""
        arrived, self._arrived = self._arrived, []
        waiting = [*self._proven, *self._asked]
        self._proven.clear()
        self._asked.clear()
        for callback in arrived + [callback for item in waiting for callback in item.callbacks]:
            callback(None)
