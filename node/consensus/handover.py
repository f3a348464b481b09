"""A leader gives up its lead to another node without a gap that callers would feel.

What is proposed meanwhile is held, not refused: the other node needs a few milliseconds to get the last entries and to
be elected, and then the callers are sent there at once. When it does not take over in time, this node goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.consensus.proposals import Proposal

HANDOVER_S_MAX = 0.5
HandoverCallback = Callable[[bool], None]


@dataclass(slots=True)
class Handover:
    target: str
    deadline: float
    callback: HandoverCallback
    is_told: bool = False  # the target was told to stand for election
    held: list[Proposal] = field(default_factory=list)
