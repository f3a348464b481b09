"""RaftEngine: SafeRaft's thread, its queues, and its end.

Everything that comes from other threads (proposals, reads, frames, connections) is queued and wakes the engine; all
that waits is handled in one round with one append and one sync. Any error stops the node at once: after it nothing is
acknowledged. Without start() the same engine is driven step by step, on any clock.

The log is kept for a node that is away up to ConsensusConfig.log_kept_bytes_max, then it gets a snapshot. At
log_bytes_max (the state falls behind: its checkpoints fail), proposals are REFUSED_QUEUE_FULL.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable

from node.consensus.contract import (
    Clock,
    EngineStatus,
    ProposalCallback,
    ProposalOutcome,
    ProposalStatus,
    ReadCallback,
    StateMachine,
)
from node.consensus.core import SafeRaft
from node.consensus.frames import MalformedFrameError, decode, encode
from node.consensus.messages import Message
from node.consensus.proposals import Proposal
from node.consensus.seams import (
    MEBIBYTE,
    ConsensusConfig,
    InstallSnapshotNow,
    PeerTransport,
    RaftLog,
    Room,
    Snapshots,
    room_enough,
)
from node.ledger.entry import ENTRY_BYTES_MAX
from node.storage.member import Life, Seen

INBOX_BYTES_MAX = 128 * MEBIBYTE
ROUND_BYTES_MAX = 16 * MEBIBYTE  # of proposals appended in one round
IDLE_S = 0.1
EXIT_FATAL = 70


def exit_at_once(reason: str) -> None:
    """No clean-up: a broken node must not say one more word."""
    with contextlib.suppress(Exception):
        sys.stderr.write(f"fatal: {reason}\n")
        sys.stderr.flush()
    os._exit(EXIT_FATAL)


class RaftEngine:
    """Implements contract.Consensus. Callbacks run on the engine's thread and must not raise: an error there is as
    fatal as any other. After stop() they run on the thread that calls."""

    def __init__(
        self,
        config: ConsensusConfig,
        log: RaftLog,
        transport: PeerTransport,
        clock: Clock,
        state_machine: StateMachine,
        *,
        randomness: random.Random | None = None,
        on_fatal: Callable[[str], None] = exit_at_once,
        on_fatal_error: Callable[[BaseException], None] | None = None,
        on_install: Callable[[], None] = lambda: exit_at_once("a snapshot waits to be installed"),
        snapshots: Snapshots | None = None,
        room: Callable[[], Room] = room_enough,
        core_class: type[SafeRaft] = SafeRaft,
    ) -> None:
        self._config, self._log, self._transport, self._clock = config, log, transport, clock
        self._state_machine = state_machine
        self._on_fatal, self._on_install = on_fatal, on_install
        self._on_fatal_error, self._room = on_fatal_error, room
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._queue: deque[Proposal] = deque()
        self._refused: list[tuple[ProposalCallback, ProposalStatus]] = []
        self._reads: list[ReadCallback] = []
        self._inbox: list[Callable[[], list[tuple[str, Message]]]] = []
        self._inbox_bytes = 0
        self._admitted_count = self._admitted_bytes = 0  # of all time, like the counters of Proposals
        self._tick_at = 0.0
        self._stopping = self._stopped = False
        self._thread: threading.Thread | None = None
        self.malformed_frames = 0
        randomness = randomness or random.Random()
        self.core = core_class(config, log, self._send, clock, randomness, state_machine, snapshots)
        self.core.on_promoted = transport.renew
        self._status = self._make_status()

    # For the service, from any thread

    def propose(self, data: bytes, callback: ProposalCallback) -> None:
        if not 0 < len(data) <= ENTRY_BYTES_MAX:
            raise ValueError(f"an entry has 1 to {ENTRY_BYTES_MAX} bytes, not {len(data)}")
        with self._lock:
            stopped = self._stopped
            if self._stopping or self._stopped:
                self._refused.append((callback, ProposalStatus.REFUSED_STOPPING))
            elif self._is_full(len(data)):
                self._refused.append((callback, ProposalStatus.REFUSED_QUEUE_FULL))
            else:
                self._admitted_count += 1
                self._admitted_bytes += len(data)
                self._queue.append(Proposal(data, callback, len(data)))
        if stopped:
            self._answer_refused()
        self._wakeup.set()

    def read_index(self, callback: ReadCallback) -> None:
        with self._lock:
            if not self._stopping and not self._stopped:
                self._reads.append(callback)
                self._wakeup.set()
                return
        callback(None)

    def transfer_leadership(self, target: str, callback: Callable[[bool], None]) -> None:
        """See core.SafeRaft.hand_over; the callback runs on the engine's thread."""
        self._deliver(lambda: self.core.hand_over(target, callback))

    def status(self) -> EngineStatus:
        return self._status

    def queue_length(self) -> int:
        """Proposals that have no outcome yet."""
        return self._admitted_count - self.core.proposals.finished_count

    # For the transport, from any thread

    def connected(self, peer_id: str) -> None:
        self._deliver(lambda: self.core.connected(peer_id))

    def disconnected(self, peer_id: str) -> None:
        self._deliver(lambda: self.core.disconnected(peer_id))

    def introduction(self) -> tuple[Life, bool]:
        member = self._log.member
        return member.life, self.core.is_voter()

    def introduced(self, peer_id: str, seen: Seen, *, voter: bool) -> str:
        if not voter:
            self._deliver(lambda: self.core.comes_without_vote(peer_id))
            return ""  # it says itself that it has forgotten everything
        if self._log.member.is_outdated(peer_id, seen):
            return (
                f"{peer_id} comes with a data folder older than one that it had before, so it may have forgotten votes "
                "and acknowledgements; remove the folder, and it joins anew"
            )
        self._deliver(lambda: self.core.met(peer_id, seen))
        return ""

    def outdated(self, reason: str) -> None:
        """Not one more word."""
        with self._lock:
            self._stopped = True
        self._on_fatal(reason)

    def received(self, peer_id: str, frame: bytes) -> bool:
        with self._lock:
            if self._stopping or self._inbox_bytes + len(frame) > INBOX_BYTES_MAX or peer_id not in self.core.nodes:
                return False
            self._inbox_bytes += len(frame)
            self._inbox.append(lambda: self._decode(peer_id, frame))
        self._wakeup.set()
        return True

    # The thread

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("the engine was started before")
        self._transport.start(self)
        self._thread = threading.Thread(target=self._run, name="raft", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Idempotent. Queued proposals are refused, appended ones unknown; the log is closed last."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._wakeup.set()
        self._transport.stop()
        if self._thread is not None:
            self._thread.join()
        self._finish()

    def step(self, timeout_s: float = 0.0) -> None:
        """One round. Errors are the caller's; the thread makes them fatal."""
        if timeout_s > 0:
            self._wakeup.wait(timeout_s)
        self._wakeup.clear()
        events, proposals, reads = self._take()
        messages = [message for event in events for message in event()]
        self._answer_refused()
        self.core.step(messages, proposals, reads)
        now = self._clock.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + self._config.tick_s
            self._state_machine.tick(self._clock.time_ns())
            self.core.room = self._room()
        self._status = self._make_status()

    def wait_s(self) -> float:
        """How long the next step may wait when nothing arrives."""
        if self._queue or self._inbox or self._reads or self._refused:
            return 0.0
        return max(0.0, min(self.core.next_deadline() - self._clock.monotonic(), IDLE_S))

    def _run(self) -> None:
        try:
            while not self._stopping:
                self.step(self.wait_s())
        except InstallSnapshotNow:
            with self._lock:
                self._stopped = True
            self._on_install()
        except BaseException as error:
            with self._lock:
                self._stopped = True
            if self._on_fatal_error is not None:
                self._on_fatal_error(error)
            self._on_fatal(f"{type(error).__name__}: {error}")

    def _deliver(self, event: Callable[[], None]) -> None:
        def deliver() -> list[tuple[str, Message]]:
            event()
            return []

        with self._lock:
            self._inbox.append(deliver)
        self._wakeup.set()

    def _decode(self, peer_id: str, frame: bytes) -> list[tuple[str, Message]]:
        try:
            return [(peer_id, decode(frame))]
        except MalformedFrameError:
            self.malformed_frames += 1  # dropping a frame is always safe
            return []

    def _send(self, peer_id: str, message: Message) -> bool:
        return self._transport.send(peer_id, encode(message))

    def _is_full(self, size: int) -> bool:
        count = self._admitted_count - self.core.proposals.finished_count
        total = self._admitted_bytes - self.core.proposals.finished_bytes
        return count >= self._config.queue_length_max or total + size > self._config.queue_bytes_max

    def _take(self) -> tuple[list[Callable[[], list[tuple[str, Message]]]], list[Proposal], list[ReadCallback]]:
        with self._lock:
            events, self._inbox, self._inbox_bytes = self._inbox, [], 0
            reads, self._reads = self._reads, []
            proposals: list[Proposal] = []
            size = 0
            while self._queue and size < ROUND_BYTES_MAX:
                proposals.append(self._queue.popleft())
                size += proposals[-1].size
        return events, proposals, reads

    def _answer_refused(self) -> None:
        with self._lock:
            refused, self._refused = self._refused, []
        for callback, status in refused:
            callback(ProposalOutcome(status))

    def _finish(self) -> None:
        with self._lock:
            self._stopped = True
            queued = [*self._queue, *(self.core.handover.held if self.core.handover else ())]
            reads = self._reads
            self._queue.clear()
            self._reads = []
        self.core.proposals.refuse(queued, ProposalStatus.REFUSED_STOPPING)
        self.core.proposals.stop()
        self._answer_refused()
        self.core.reads.request(reads)
        self.core.reads.fail()
        self._log.close()

    def _make_status(self) -> EngineStatus:
        core = self.core
        return EngineStatus(
            node_id=self._config.node_id,
            role=core.role(),
            term=core.term(),
            leader_id=core.leader_id(),
            last_index=self._log.last_index,
            commit_position=core.commit_index(),
            applied_position=core.applied_index(),
            durable_position=self._state_machine.durable_position,
            peers_connected=core.replicator.peers_connected(),
            match_position=core.replicator.match_position() if core.is_leader() else {},
            ready=core.is_ready(),
            voter=core.is_voter(),
            room=core.room.name.lower(),
            log_first_index=self._log.base_index + 1,
            log_bytes=self._log.bytes_total,
            snapshot_progress=core.snapshot_receiver.progress if core.snapshot_receiver is not None else (0, 0),
        )
