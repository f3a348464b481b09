"""How a node that is too far behind gets the state itself: the leader offers, the follower asks for piece after piece.

The follower sets the pace (a window, and a rate), resumes where it was, and drops what does not fit; the leader only
reads what it is asked for. Both work from messages and a clock alone.
"""

from __future__ import annotations

from collections.abc import Callable

from node.consensus.messages import Message, SnapshotChunk, SnapshotOffer, SnapshotRequest
from node.consensus.seams import ConsensusConfig, RaftLog, SnapshotInfo, Snapshots

Send = Callable[[str, Message], bool]
RENEW_ENTRIES = 100_000  # a snapshot that is so far behind is made anew for the next one that needs it


class SnapshotSender:
    """On the leader."""

    def __init__(self, config: ConsensusConfig, log: RaftLog, snapshots: Snapshots, send: Send) -> None:
        self._config, self._log, self._snapshots, self._send = config, log, snapshots, send
        self._served: SnapshotInfo | None = None
        self._served_at = 0.0

    def offer(self, peer: str, term: int, durable_position: int) -> None:
        """At every heartbeat to a peer whose next entry is gone."""
        info = self._snapshots.newest()
        position_term = self._log.term_at(info.position) if info is not None else None
        if info is None or position_term is None:
            self._snapshots.prepare()
            return
        if info != self._served and durable_position - info.position > RENEW_ENTRIES:
            self._snapshots.prepare()
            return
        self._send(peer, SnapshotOffer(term, info.position, position_term, info.size, info.digest))

    def answer(self, peer: str, request: SnapshotRequest, now: float) -> None:
        info = self._snapshots.newest()
        if info is None or info.digest != request.digest or request.offset >= info.size:
            return  # the next offer names the right one
        self._served, self._served_at = info, now
        data = self._snapshots.read(info, request.offset, self._config.snapshot_chunk_bytes)
        if data:
            self._send(peer, SnapshotChunk(request.term, info.digest, request.offset, data))

    def floor(self, now: float) -> int | None:
        """Entries behind this position are still needed by whoever receives the snapshot; None = nobody does."""
        if self._served is None or now - self._served_at > self._config.quorum_timeout_s * 10:
            return None
        return self._served.position


class SnapshotReceiver:
    """On the follower."""

    def __init__(self, config: ConsensusConfig, snapshots: Snapshots, send: Send) -> None:
        self._config, self._snapshots, self._send = config, snapshots, send
        self._info: SnapshotInfo | None = None
        self._leader, self._term, self._position_term = "", 0, 0
        self._early: dict[int, bytes] = {}  # pieces that overtook one before them
        self._have = self._asked = 0  # bytes
        self._heard_at = self._paced_at = 0.0
        self._credit = 0.0  # bytes that the rate allows to ask for

    @property
    def progress(self) -> tuple[int, int]:
        """(bytes here, bytes in all); (0, 0) = none is being received."""
        return (self._have, self._info.size) if self._info is not None else (0, 0)

    def on_offer(self, leader: str, offer: SnapshotOffer, now: float) -> bool:
        """True = it is complete, durable, and to be installed: this node had died with all of it here, unmarked."""
        info = SnapshotInfo(offer.position, offer.size, offer.digest)
        if info != self._info:
            self._info, self._have = info, self._snapshots.received(info)
            self._asked, self._heard_at, self._paced_at, self._credit = self._have, now, now, 0.0
            self._early.clear()
        elif (leader, offer.term) != (self._leader, self._term) or now - self._heard_at > self._stalled_s:
            self._asked, self._heard_at = self._have, now
            self._early.clear()
        self._leader, self._term, self._position_term = leader, offer.term, offer.position_term
        if self._have >= info.size:
            return self._finish(info)
        self._ask(now)
        return False

    def on_chunk(self, chunk: SnapshotChunk, now: float) -> bool:
        """True = it is complete, durable, and to be installed."""
        info = self._info
        if info is None or chunk.digest != info.digest or not self._have <= chunk.offset < self._asked:
            return False  # of another one, or not asked for
        self._early[chunk.offset] = chunk.data  # never more than the window
        while data := self._early.pop(self._have, b""):
            self._snapshots.write(info, self._have, data)
            self._have += len(data)
            self._heard_at = now
        if self._have < info.size:
            self._ask(now)
            return False
        return self._finish(info)

    def _finish(self, info: SnapshotInfo) -> bool:
        if self._snapshots.complete(info, self._position_term):
            return True
        self._info = None  # the next offer begins anew
        return False

    @property
    def _stalled_s(self) -> float:
        return self._config.snapshot_stalled_s

    def _ask(self, now: float) -> None:
        config, size = self._config, self._info.size if self._info is not None else 0
        window = config.snapshot_window_bytes
        self._credit = min(window, self._credit + (now - self._paced_at) * config.snapshot_bytes_per_s)
        self._paced_at = now
        if self._asked == self._have:
            self._credit = max(self._credit, config.snapshot_chunk_bytes)  # one piece is always on its way
        while self._info is not None and self._asked < size and self._asked - self._have < window:
            if self._credit < config.snapshot_chunk_bytes:
                return
            if not self._send(self._leader, SnapshotRequest(self._term, self._info.digest, self._asked)):
                return
            self._credit -= config.snapshot_chunk_bytes
            self._asked += config.snapshot_chunk_bytes
