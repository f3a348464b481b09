"""The leader's side of replication: one small machine per peer, which either looks for the last entry that both logs
share (probing: one question at a time) or streams ahead of the answers (a window bounded in bytes)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from node.consensus.messages import Append, AppendReply
from node.consensus.seams import ConsensusConfig, FatalRaftError, RaftLog, Room

IN_FLIGHT_MAX = 256


@dataclass(slots=True)
class Progress:
    connected: bool = False
    match_index: int = 0
    next_index: int = 1
    probing: bool = True
    probe_sent: bool = False
    read_round: int = 0  # newest round that this peer answered in this term
    commit_sent: int = 0
    voter: bool = True  # as its last answer said; what a non-voter acknowledges counts for nothing
    room: Room = Room.OK
    sync_us: int = 0
    needs_snapshot: bool = False  # what it lacks was compacted away
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (last index, bytes)
    in_flight_bytes: int = 0

    def probe(self, next_index: int) -> None:
        self.next_index = max(next_index, self.match_index + 1)
        self.probing, self.probe_sent = True, False
        self.in_flight.clear()
        self.in_flight_bytes = 0


@dataclass(frozen=True, slots=True)
class LeaderView:
    """What goes into every Append of one round."""

    term: int
    commit_index: int
    read_round: int


class Replicator:
    def __init__(self, config: ConsensusConfig, log: RaftLog, send: Callable[[str, Append], bool]) -> None:
        self._config = config
        self._log = log
        self._send_message = send
        self.peers = {peer: Progress() for peer in config.other_peers()}
        self.safe_index = 0  # every configured node has stored the log up to here; only ever grows

    def lead(self, last_index: int) -> None:
        for progress in self.peers.values():
            progress.match_index = progress.read_round = progress.commit_sent = 0
            progress.needs_snapshot = False
            progress.probe(last_index + 1)

    def connected(self, peer: str) -> None:
        progress = self.peers[peer]
        progress.connected = True
        # Of a peer that has not answered in this term nothing is known: the search begins at the end of the log.
        progress.probe(progress.match_index + 1 if progress.match_index else progress.next_index)

    def disconnected(self, peer: str) -> None:
        self.peers[peer].connected = False

    def replicate(self, view: LeaderView, *, everyone: bool) -> None:
        """Send what each peer lacks and its window allows; `everyone` hears something even when there is nothing."""
        for peer, progress in self.peers.items():
            if not progress.connected:
                continue
            self._stay_behind_base(progress)
            if progress.probing:
                if everyone or not (progress.probe_sent or progress.needs_snapshot or progress.room is Room.FULL):
                    progress.probe_sent = self._send(peer, progress, view, [])
            elif (progress.room is Room.FULL or not self._stream(peer, progress, view)) and everyone:
                self._send(peer, progress, view, [])

    def tell_commit(self, view: LeaderView) -> None:
        """Followers of a quiet leader learn at once what is committed, not at the next heartbeat."""
        for peer, progress in self.peers.items():
            self._stay_behind_base(progress)
            if progress.connected and not progress.probing and progress.commit_sent < view.commit_index:
                self._send(peer, progress, view, [])

    def _stay_behind_base(self, progress: Progress) -> None:
        """The log may be compacted while a peer is asked or streamed to. Who lacks more than the base answers no, and
        needs a snapshot."""
        if progress.next_index <= self._log.base_index:
            progress.probe(self._log.base_index + 1)

    def on_reply(self, peer: str, reply: AppendReply) -> None:
        """The caller has checked that the reply is of this very term of office."""
        progress = self.peers[peer]
        if progress.voter and not reply.voter:
            self.forget(peer)
        progress.voter, progress.room, progress.sync_us = reply.voter, Room(reply.room), reply.sync_us
        progress.read_round = max(progress.read_round, reply.read_round)
        if reply.success:
            progress.needs_snapshot = False
            self._matched(peer, progress, reply.match_index)
            if progress.room is Room.FULL:
                progress.probe(progress.match_index + 1)  # it took nothing of what was sent behind that
        elif progress.probing:
            progress.needs_snapshot = reply.match_index < self._log.base_index
            if not reply.voter:  # an acknowledgement of the lost disk may have come late
                progress.match_index = min(progress.match_index, reply.match_index)
            if reply.prev_index == progress.next_index - 1:  # an answer to an older question must not move the search
                progress.probe(min(reply.match_index + 1, reply.prev_index))
        elif reply.prev_index > progress.match_index:
            progress.probe(min(reply.match_index + 1, reply.prev_index))

    def forget(self, peer: str) -> None:
        """What it acknowledged was on the disk that it lost."""
        progress = self.peers[peer]
        progress.voter = False
        progress.match_index = progress.read_round = 0
        progress.probe(self._log.last_index + 1)

    def majority_round(self, own_round: int) -> int:
        """The newest round that a majority, this node included, has answered. Answers of non-voters are none."""
        answered = (progress.read_round if progress.voter else 0 for progress in self.peers.values())
        rounds = sorted([own_round, *answered], reverse=True)
        return rounds[len(rounds) // 2]

    def settle_safe_index(self, commit_index: int) -> None:
        lowest = min((progress.match_index for progress in self.peers.values()), default=commit_index)
        self.safe_index = max(self.safe_index, min(lowest, commit_index))

    def match_position(self) -> dict[str, int]:
        return {peer: progress.match_index for peer, progress in self.peers.items()}

    def successor(self, wanted: str) -> str:
        """Who may take over: `wanted`, or of those that keep up the one with most of the log; "" = nobody."""
        able = {
            peer: p.match_index
            for peer, p in self.peers.items()
            if p.connected and not p.probing and p.voter and p.room is Room.OK
        }
        if wanted:
            return wanted if wanted in able else ""
        return max(able, key=lambda peer: able[peer], default="")

    def fastest(self) -> str:
        """The node that may take over and whose disk is the fastest; "" = nobody."""
        able = [peer for peer in self.peers if self.successor(peer)]
        return min(able, key=lambda peer: self.peers[peer].sync_us, default="")

    def fastest_sync_us(self) -> float:
        fastest = self.fastest()
        return self.peers[fastest].sync_us if fastest else math.inf

    def peers_connected(self) -> int:
        return sum(progress.connected for progress in self.peers.values())

    def _matched(self, peer: str, progress: Progress, match_index: int) -> None:
        if match_index > self._log.last_index:
            raise FatalRaftError(f"{peer} acknowledges entry {match_index}, the log ends at {self._log.last_index}")
        progress.match_index = max(progress.match_index, match_index)
        while progress.in_flight and progress.in_flight[0][0] <= progress.match_index:
            progress.in_flight_bytes -= progress.in_flight.popleft()[1]
        progress.next_index = max(progress.next_index, progress.match_index + 1)
        if progress.probing:
            progress.probing = False
            progress.next_index = progress.match_index + 1

    def _stream(self, peer: str, progress: Progress, view: LeaderView) -> bool:
        sent = False
        while progress.next_index <= self._log.last_index and self._window_is_open(progress):
            config = self._config
            entries = self._log.read(progress.next_index, config.batch_entries_max, config.batch_bytes)
            size = sum(len(data) for _, data in entries)
            if not self._send(peer, progress, view, entries):
                return True
            progress.next_index += len(entries)
            progress.in_flight.append((progress.next_index - 1, size))
            progress.in_flight_bytes += size
            sent = True
        return sent

    def _window_is_open(self, progress: Progress) -> bool:
        return progress.in_flight_bytes < self._config.window_bytes and len(progress.in_flight) < IN_FLIGHT_MAX

    def _send(self, peer: str, progress: Progress, view: LeaderView, entries: list[tuple[int, bytes]]) -> bool:
        prev_index = progress.next_index - 1
        prev_term = self._log.term_at(prev_index)
        if prev_term is None:
            raise FatalRaftError(f"entry {prev_index}, after which {peer} goes on, is not in the log")
        message = Append(view.term, view.read_round, prev_index, prev_term, view.commit_index, self.safe_index, entries)
        if not self._send_message(peer, message):
            progress.probe(progress.match_index + 1)
            return False
        progress.commit_sent = view.commit_index
        return True
