"""The seams of a process with crash points in them: journal, transport, state machine, background work, core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.consensus import frames
from node.consensus.contract import EngineStatus, LogEntry, ProposalCallback, ReadCallback
from node.consensus.core import SafeRaft
from node.consensus.engine import RaftEngine
from node.consensus.pinned import RAFT_STATE
from node.consensus.seams import TransportEvents
from node.storage.host import Host
from node.storage.ledger_store import LedgerStore
from node.storage.raft_log import RaftLog

if TYPE_CHECKING:
    from tests.simulation.process import Process

SEGMENT_BYTES = 64 << 10  # small, so that they are begun and recycled all the time
_KINDS = {
    frames._REQUEST_VOTE: "request_vote",
    frames._VOTE: "vote",
    frames._TERM_HINT: "term_hint",
    frames._APPEND: "append",
    frames._APPEND_REPLY: "append_reply",
    frames._PRE_VOTE: "pre_vote",
    frames._PRE_VOTE_GRANT: "pre_vote_grant",
    frames._TIMEOUT_NOW: "timeout_now",
    frames._PROMOTE: "promote",
    frames._SNAPSHOT_OFFER: "snapshot_offer",
    frames._SNAPSHOT_REQUEST: "snapshot_request",
    frames._SNAPSHOT_CHUNK: "snapshot_chunk",
}


class SimJournal(RaftLog):
    """The production journal; it only says what each sync makes durable."""

    def __init__(self, process: Process, path: Path, memory_bytes_max: int, host: Host) -> None:
        self._process = process
        super().__init__(
            path, cluster_id="sim", node_id=process.node_id, memory_bytes_max=memory_bytes_max, host=host,
            joins=process.machine.was_wiped, segment_bytes=SEGMENT_BYTES,
        )  # fmt: skip
        self._synced = (self.term, self.voted_for, self.base_index)

    def sync(self) -> None:
        if self.dirty:
            term, voted_for, base_index = self._synced
            kinds = []
            if self.last_index > self.durable_index:
                kinds.append("journal.entries")
            if self.durable_index < self._disk_last:
                kinds.append("journal.truncate")
            if (self.term, self.voted_for) != (term, voted_for):
                kinds.append("journal.vote")
            if self.base_index != base_index:
                kinds.append("journal.compact")
            if self._member_dirty:
                kinds.append("journal.member")
            self._process.sync_kinds = kinds
        super().sync()
        self._synced = (self.term, self.voted_for, self.base_index)


class SimTransport:
    """Implements seams.PeerTransport."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def start(self, events: TransportEvents) -> None:
        pass

    def send(self, peer_id: str, frame: bytes) -> bool:
        process = self._process
        kind = _KINDS.get(frame[0], "")
        if kind == "append" and len(frame) == frames._APPEND_FORM.size:
            kind = "heartbeat"
        if kind:
            process.reach(f"send.{kind}.before")
        sent = process.world.network.send(process.node_id, peer_id, frame, process.clock.ahead_s)
        if kind and sent:
            process.reach(f"send.{kind}.after")
        return sent

    def renew(self) -> None:
        self._process.world.network.renew(self._process.node_id)

    def stop(self) -> None:
        pass


class Wakeup:
    """In place of the threading.Event that the engine's thread waits for."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.set = wake

    def clear(self) -> None:
        pass

    def wait(self, timeout: float) -> None:
        raise RuntimeError("the simulated engine never waits")


class WatchedStore:
    """Implements contract.StateMachine. Entry by entry, so that the oracles see the state at every position."""

    def __init__(self, process: Process, store: LedgerStore) -> None:
        self._process, self._store = process, store
        self.tick = store.tick

    @property
    def applied_position(self) -> int:
        return self._store.applied_position

    @property
    def durable_position(self) -> int:
        return self._store.durable_position

    def apply(self, entries: Sequence[LogEntry]) -> list[object]:
        process = self._process
        process.reach("apply.before")
        results: list[object] = []
        for entry in entries:
            result = self._store.apply([entry])[0]
            process.world.oracles.applied(process.node_id, entry, result, self._store)
            results.append(result)
        process.reach("apply.after")
        return results


class WatchedConsensus:
    """Implements contract.Consensus for the service of one process."""

    def __init__(self, process: Process, engine: RaftEngine, what: str = "propose") -> None:
        self._process, self._engine, self._what = process, engine, what

    def propose(self, data: bytes, callback: ProposalCallback) -> None:
        reach = self._process.reach_in_loop
        if self._what == "propose" and not reach("propose.before"):
            return
        if self._process.alive:
            self._engine.propose(data, callback)
            reach("propose.after" if self._what == "propose" else "expire.proposed")

    def read_index(self, callback: ReadCallback) -> None:
        if self._process.alive:
            self._engine.read_index(callback)

    def transfer_leadership(self, target: str, callback: Callable[[bool], None]) -> None:
        if self._process.alive:
            self._engine.transfer_leadership(target, callback)

    def status(self) -> EngineStatus:
        return self._engine.status()


class SimBackground:
    """Implements host.Background: work that another thread does and that ends in one step, some time later."""

    def __init__(self, process: Process, work: Callable[[], None]) -> None:
        self._process, self._work = process, work
        self._alive = True
        process.background.append(self)
        delay_s = process.rng.uniform(0.001, 0.02) * process.machine.disk.slowness
        process.world.timeline.after(delay_s, self._run)

    def is_alive(self) -> bool:
        return self._alive

    def join(self) -> None:
        self._run()

    def resume(self) -> None:
        if self._alive:
            self._process.world.timeline.after(0.001, self._run)

    def _run(self) -> None:
        process = self._process
        if not self._alive or not process.alive or process.paused:
            return
        self._alive = False
        process.background.remove(self)
        ahead_s = process.clock.ahead_s
        self._work()
        process.clock.ahead_s = ahead_s
        if process.doomed and not process.draining:
            process.machine.crash("ledger.checkpoint")


def with_points(core_class: type[SafeRaft], reach: Callable[[str], None]) -> type[SafeRaft]:
    base: Any = core_class

    class Watched(base):  # type: ignore[misc]
        def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
            reach("lead.begins")
            super()._SyncObj__onBecomeLeader()
            reach("lead.began")

        def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
            led = self.is_leader()
            super()._SyncObj__setState(state)
            if led and state != RAFT_STATE.LEADER:
                reach("lead.lost")

    return Watched
