"""The engine's seams to disk, network and time, and its settings. Tests drive the same engine over virtual ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from node.storage.member import Life, Member, Seen
from node.storage.room import Room
from node.storage.snapshot_files import SnapshotInfo

__all__ = ["Room", "SnapshotInfo"]

MEBIBYTE = 1 << 20


class FatalRaftError(Exception):
    """An invariant that protects money is broken: the node must stop before it promises anything more."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    node_id: str
    cluster_id: str
    peers: Mapping[str, str] = field(default_factory=dict)  # node id -> address; this node's own id is passed over
    listen_address: str = "127.0.0.1:0"
    tls: TlsFiles | None = None
    tls_server_name: str = "kibubu"
    heartbeat_s: float = 0.08
    election_timeout_min_s: float = 0.35
    election_timeout_max_s: float = 0.7
    quorum_timeout_s: float = 1.2  # a leader that hears from no majority for so long steps down
    unknown_after_s: float = 0.5  # after losing the lead, how long callers may still learn a sure outcome
    queue_length_max: int = 10_000  # proposals without an outcome
    queue_bytes_max: int = 256 * MEBIBYTE
    window_bytes: int = 16 * MEBIBYTE  # sent to a peer and not yet acknowledged
    batch_bytes: int = 4 * MEBIBYTE  # of one AppendEntries; a single larger entry travels alone
    batch_entries_max: int = 4_096
    send_queue_bytes_max: int = 64 * MEBIBYTE
    apply_bytes_max: int = 4 * MEBIBYTE  # of one apply call, so that heartbeats go on during a replay
    log_bytes_max: int = 4_096 * MEBIBYTE
    log_trailing_entries: int = 1_000
    log_trailing_bytes_max: int = 64 * MEBIBYTE  # of these, by their average size
    compact_every_s: float = 1.0
    compact_entries_min: int = 256  # fewer are not worth it
    log_kept_bytes_max: int = 512 * MEBIBYTE  # for a node that is away; then it needs a snapshot
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_window_bytes: int = 2 * MEBIBYTE  # asked for and not yet received
    snapshot_bytes_per_s: int = 48 * MEBIBYTE  # so that payments go on beside it
    snapshot_stalled_s: float = 0.5  # without a byte: ask again
    tick_s: float = 0.1

    def other_peers(self) -> dict[str, str]:
        return {peer: self.peers[peer] for peer in sorted(self.peers) if peer != self.node_id}


def room_enough() -> Room:
    return Room.OK


class InstallSnapshotNow(Exception):  # noqa: N818  # no error: the way out of the round
    """A snapshot is here, whole and durable: the node must start anew, which installs it."""


class Snapshots(Protocol):
    """Copies of the state at one position: made for a node that is too far behind, or received by such a node."""

    def newest(self) -> SnapshotInfo | None:
        """The newest that is complete and can be read."""
        ...

    def prepare(self) -> None:
        """Have a new one made, unless one is being made; returns at once."""
        ...

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes:
        """b"" when it is no longer there."""
        ...

    def received(self, info: SnapshotInfo) -> int:
        """How many bytes of it are here from before; all other ones that were being received are forgotten."""
        ...

    def write(self, info: SnapshotInfo, offset: int, data: bytes) -> None: ...

    def complete(self, info: SnapshotInfo, term: int) -> bool:
        """Make it durable together with the mark that it is to be installed. False: its bytes are wrong, and gone."""
        ...


class RaftLog(Protocol):
    """Entries are numbered from 1; everything at or below base_index was compacted away. Changes are visible at once
    and durable after sync(), all of them in one step: entries, truncation, term and vote."""

    @property
    def base_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def last_term(self) -> int: ...
    @property
    def durable_index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def voted_for(self) -> str: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def bytes_total(self) -> int: ...
    @property
    def dirty(self) -> bool:
        """Whether the next sync has something to write."""
        ...

    @property
    def member(self) -> Member: ...
    def term_at(self, index: int) -> int | None:
        """None when the entry is compacted away or not there yet; base_index itself still has its term."""
        ...

    def first_index_of_term(self, index: int) -> int:
        """The lowest index known to have the same term as the entry at index."""
        ...

    def read(self, first: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """(term, data) from `first` on; at least one when there is one, however large."""
        ...

    def append(self, term: int, data: bytes) -> int: ...
    def truncate(self, first: int) -> None: ...
    def set_term(self, term: int, voted_for: str) -> None: ...
    def set_commit(self, index: int) -> None:
        """A hint for the next start; need not be durable by itself."""
        ...

    def set_member(self, member: Member) -> None: ...
    def compact(self, index: int) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class TransportEvents(Protocol):
    """What a transport tells the engine, and asks it; every method may be called from any thread."""

    def introduction(self) -> tuple[Life, bool]:
        """What this node says of itself when it connects: its life, and whether it may vote."""
        ...

    def introduced(self, peer_id: str, seen: Seen, *, voter: bool) -> str:
        """Why a peer must not be heard; "" = it may."""
        ...

    def outdated(self, reason: str) -> None:
        """A peer has met a later life of this node: its data folder went back in time, so it must stop."""
        ...

    def connected(self, peer_id: str) -> None: ...
    def disconnected(self, peer_id: str) -> None: ...
    def received(self, peer_id: str, frame: bytes) -> bool:
        """False: the engine is full; the transport drops the connection (dropping is always safe)."""
        ...


class PeerTransport(Protocol):
    """Ordered frames to named peers while connected. It may lose frames, but says so by disconnected()."""

    def start(self, events: TransportEvents) -> None: ...
    def send(self, peer_id: str, frame: bytes) -> bool: ...
    def renew(self) -> None:
        """Connect anew, so that the peers hear what this node has become."""
        ...

    def stop(self) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time_ns(self) -> int:
        return time.time_ns()
