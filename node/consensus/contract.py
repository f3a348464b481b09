"""What the consensus engine needs and what it promises: the seams of time, network, disk and state machine.

Outcomes speak only of what is certain. APPLIED carries the state machine's result. REFUSED: surely not proposed (not
the leader, queue full, stopping). DISCARDED: another entry was applied at that index, so this one never will be.
UNKNOWN: leadership was lost or the node is stopping; the entry may still be applied, so ask again with the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class ProposalStatus(Enum):
    APPLIED = "applied"
    REFUSED_NOT_LEADER = "refused_not_leader"
    REFUSED_QUEUE_FULL = "refused_queue_full"
    REFUSED_NO_ROOM = "refused_no_room"  # the disk is nearly full
    REFUSED_STOPPING = "refused_stopping"
    DISCARDED = "discarded"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProposalOutcome:
    status: ProposalStatus
    position: int = 0  # log index, when APPLIED
    result: object = None  # what StateMachine.apply returned for this entry


@dataclass(frozen=True, slots=True)
class LogEntry:
    position: int
    term: int
    data: bytes  # b"" = a leader's no-op


class StateMachine(Protocol):
    """Owned by the engine's thread. An exception out of any of these stops the node."""

    @property
    def applied_position(self) -> int: ...

    @property
    def durable_position(self) -> int:
        """Everything up to here survives a crash without the log: the log may be compacted up to it."""
        ...

    def apply(self, entries: Sequence[LogEntry]) -> list[object]:
        """Apply a contiguous range in order; one result each. Entries at or below applied_position never come."""
        ...

    def tick(self, now_ns: int) -> None:
        """Called by the engine about ten times a second; may start a background checkpoint."""
        ...


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def time_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class EngineStatus:
    node_id: str
    role: str  # leader | follower | candidate
    term: int
    leader_id: str  # "" = unknown
    last_index: int
    commit_position: int
    applied_position: int
    durable_position: int
    peers_connected: int
    match_position: dict[str, int]  # on the leader: peer -> verified log index
    ready: bool  # leader: an entry of its own term is applied; only then may it admit
    voter: bool = True  # False: its disk was lost, and it has not caught up yet
    room: str = "ok"  # of the disk: ok, low (no new work), full (takes nothing)
    log_first_index: int = 1
    log_bytes: int = 0
    snapshot_progress: tuple[int, int] = (0, 0)  # bytes received, bytes in all


ProposalCallback = Callable[[ProposalOutcome], None]
ReadCallback = Callable[[int | None], None]


class Consensus(Protocol):
    """What the service uses. All methods are thread-safe; callbacks run on the engine's thread and must be short."""

    def propose(self, data: bytes, callback: ProposalCallback) -> None: ...

    def read_index(self, callback: ReadCallback) -> None:
        """One quorum round shared by all reads that wait: callback(position) once this node is proven leader of its
        term and has applied `position`; callback(None) when that could not be proven."""
        ...

    def transfer_leadership(self, target: str, callback: Callable[[bool], None]) -> None:
        """Have `target` lead ("" = whoever has most of the log); callback(True) once this node no longer does. What is
        proposed meanwhile waits, half a second at most."""
        ...

    def status(self) -> EngineStatus: ...
