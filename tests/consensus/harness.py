"""A whole cluster in one thread: the real engine over a virtual clock, network and disk, checked while it runs.

A run is determined by its seed. Whatever two nodes disagree about, whatever was acknowledged and then lost, ends up
in Cluster.violations.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence

from node.consensus.contract import LogEntry, ProposalOutcome, ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.engine import RaftEngine
from node.consensus.seams import ConsensusConfig, FatalRaftError, InstallSnapshotNow, SnapshotInfo, TransportEvents
from node.storage.member import Member

Stored = tuple[tuple[tuple[int, bytes], ...], int, int, int, str, int, Member]
STEP_MIN_S, STEP_MAX_S = 0.0005, 0.02


class PowerCutError(Exception):
    """Raised by an armed disk in the middle of a sync: nothing of it was written."""


class VirtualClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


class SimDisk:
    """What survives a power cut: (entries, base index, base term, term, vote, commit, member) as of the last sync."""

    def __init__(self, *, joins: bool = False) -> None:
        member = Member(voter=not joins)
        self.stored: tuple[tuple[tuple[int, bytes], ...], int, int, int, str, int, Member] = (
            (),
            0,
            0,
            0,
            "",
            0,
            member,
        )
        self.cut_at_next_sync = False
        self.syncs = 0


class SimLog:
    """Implements seams.RaftLog over a SimDisk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        entries, self.base_index, self._base_term, self.term, self.voted_for, self.commit_index, member = disk.stored
        self.member = member.started()
        self._entries = list(entries)
        self.durable_index = self.last_index
        self._dirty = False

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def dirty(self) -> bool:
        return self._dirty

    @property
    def last_term(self) -> int:
        return self._entries[-1][0] if self._entries else self._base_term

    @property
    def bytes_total(self) -> int:
        return sum(len(data) for _, data in self._entries)

    def term_at(self, index: int) -> int | None:
        if index == self.base_index:
            return self._base_term
        return self._entries[index - self.base_index - 1][0] if self.base_index < index <= self.last_index else None

    def first_index_of_term(self, index: int) -> int:
        while index - 1 > self.base_index and self.term_at(index - 1) == self.term_at(index):
            index -= 1
        return index

    def read(self, first: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes]]:
        at = first - self.base_index - 1
        return self._entries[at : at + count_max]

    def append(self, term: int, data: bytes) -> int:
        self._entries.append((term, data))
        self._dirty = True
        return self.last_index

    def truncate(self, first: int) -> None:
        del self._entries[first - self.base_index - 1 :]
        self.durable_index = min(self.durable_index, self.last_index)
        self._dirty = True

    def set_term(self, term: int, voted_for: str) -> None:
        self.term, self.voted_for = term, voted_for
        self._dirty = True

    def set_commit(self, index: int) -> None:
        self.commit_index = index

    def set_member(self, member: Member) -> None:
        self.member = member
        self._dirty = True

    def install(self, position: int, term: int) -> None:
        """As RaftLog does it."""
        if self.term_at(position) == term:
            self.compact(position)
        elif position > self.base_index:
            self._entries.clear()
            self.base_index, self._base_term, self.term = position, term, max(self.term, term)
            self.durable_index = position
            self._dirty = True
        self.commit_index = max(self.commit_index, position)
        self.sync()

    def compact(self, index: int) -> None:
        index = min(index, self.durable_index)
        if index > self.base_index:
            term = self.term_at(index) or 0
            del self._entries[: index - self.base_index]
            self.base_index, self._base_term = index, term
            self._dirty = True

    def sync(self) -> None:
        if not self._dirty:
            return
        if self._disk.cut_at_next_sync:
            self._disk.cut_at_next_sync = False
            raise PowerCutError
        self._disk.syncs += 1
        state = (self.base_index, self._base_term, self.term, self.voted_for, self.commit_index, self.member)
        self._disk.stored = (tuple(self._entries), *state)
        self.durable_index = self.last_index
        self._dirty = False

    def close(self) -> None:
        pass


class Recorder:
    """A state machine that remembers what it applied; only `durable` of it survives a crash."""

    def __init__(self, rows: Sequence[LogEntry] = ()) -> None:
        self.rows = list(rows)
        self.durable_position = len(self.rows)
        self.on_apply: Callable[[LogEntry], None] = lambda entry: None

    @property
    def applied_position(self) -> int:
        return self.rows[-1].position if self.rows else 0

    def apply(self, entries: Sequence[LogEntry]) -> list[object]:
        for entry in entries:
            self.rows.append(entry)
            self.on_apply(entry)
        return [entry.position for entry in entries]

    def tick(self, now_ns: int) -> None:
        pass

    def checkpoint(self) -> None:
        self.durable_position = self.applied_position

    def data(self) -> list[bytes]:
        return [entry.data for entry in self.rows if entry.data]


class SimSnapshots:
    """Implements seams.Snapshots: copies of a Recorder as bytes. Of what is received, nothing is lost in a crash."""

    def __init__(self, state: Callable[[], Recorder], staged: dict[str, object]) -> None:
        self._state, self._staged = state, staged
        self._made: tuple[SnapshotInfo, bytes] | None = None
        self.made_count = self.read_count = 0
        self.damage_next = False

    def newest(self) -> SnapshotInfo | None:
        return self._made[0] if self._made is not None else None

    def prepare(self) -> None:
        state = self._state()
        rows = [
            [row.position, row.term, row.data.hex()] for row in state.rows if row.position <= state.durable_position
        ]
        data = json.dumps(rows).encode()
        digest = hashlib.blake2b(data, digest_size=32).digest()
        self._made = SnapshotInfo(state.durable_position, len(data), digest), data
        self.made_count += 1

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes:
        self.read_count += 1
        if self._made is None or self._made[0] != info:
            return b""
        return self._made[1][offset : offset + size]

    def received(self, info: SnapshotInfo) -> int:
        if self._staged.get("info") != info:
            self._staged.clear()
            self._staged.update(info=info, data=bytearray())
        return len(self._staged["data"])  # type: ignore[arg-type]

    def write(self, info: SnapshotInfo, offset: int, data: bytes) -> None:
        if self.damage_next:
            data, self.damage_next = b"?" + data[1:], False
        held: bytearray = self._staged["data"]  # type: ignore[assignment]
        if len(held) != offset:
            raise ValueError(f"{offset} does not follow {len(held)}")
        held += data

    def complete(self, info: SnapshotInfo, term: int) -> bool:
        data = bytes(self._staged["data"])  # type: ignore[call-overload]
        if hashlib.blake2b(data, digest_size=32).digest() != info.digest:
            self._staged.clear()
            return False
        self._staged["mark"] = (info.position, term)
        return True


def staged_state(staged: dict[str, object]) -> Recorder:
    rows = json.loads(bytes(staged["data"]))  # type: ignore[call-overload]
    return Recorder([LogEntry(at, term, bytes.fromhex(data)) for at, term, data in rows])


class SimTransport:
    def __init__(self, post: Callable[[str, bytes], bool]) -> None:
        self._post = post
        self.sent: list[tuple[str, bytes]] = []

    def start(self, events: TransportEvents) -> None:
        pass

    def send(self, peer_id: str, frame: bytes) -> bool:
        self.sent.append((peer_id, frame))
        return self._post(peer_id, frame)

    def renew(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Cluster:
    def __init__(
        self,
        ids: str = "abc",
        seed: int = 0,
        core_class: type[SafeRaft] = SafeRaft,
        log_class: type[SimLog] = SimLog,
        config: Callable[..., ConsensusConfig] = ConsensusConfig,
    ) -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.core_class, self.log_class = core_class, log_class
        self.config = config
        self.ids = list(ids)
        self.disks = {node: SimDisk() for node in ids}
        self.states: dict[str, Recorder] = {node: Recorder() for node in ids}
        self.engines: dict[str, RaftEngine] = {}
        self.logs: dict[str, SimLog] = {}
        self.staged: dict[str, dict[str, object]] = {node: {} for node in ids}
        self.snapshots: dict[str, SimSnapshots] = {}
        self.installs: Counter[str] = Counter()
        self.transports: dict[str, SimTransport] = {}
        self.cut_links: set[tuple[str, str]] = set()
        self.drop, self.duplicate, self.delay_s = 0.0, 0.0, (0.0005, 0.003)
        self.violations: list[str] = []
        self.acknowledged: dict[bytes, int] = {}
        self.discarded: set[bytes] = set()
        self.outcomes: Counter[ProposalStatus] = Counter()
        self._flying: list[tuple[float, int, str, str, bytes]] = []
        self._sequence = 0
        self._agreed: dict[int, tuple[int, bytes]] = {}
        self._leaders: dict[int, str] = {}
        for node in ids:
            self.restart(node)

    # Faults

    def crash(self, node: str) -> None:
        """Power cut: memory and everything unsynced is gone."""
        self.engines.pop(node)
        state = self.states[node]
        self.states[node] = Recorder(state.rows[: state.durable_position])
        self._flying = [item for item in self._flying if node != item[3]]  # what it had sent is still on its way
        heapq.heapify(self._flying)
        for engine in self.engines.values():
            engine.disconnected(node)

    def wipe(self, node: str) -> None:
        """The disk of a crashed node is lost; what it starts with is new."""
        self.disks[node] = SimDisk(joins=True)
        self.states[node] = Recorder()
        self.staged[node].clear()

    def install(self, node: str) -> None:
        """What a start does with a snapshot that is complete: the state first, then the log, then the mark."""
        staged = self.staged[node]
        if "mark" in staged:
            self.states[node] = staged_state(staged)
            self.logs[node].install(*staged["mark"])  # type: ignore[misc]
            staged.clear()

    def restart(self, node: str) -> None:
        self.logs[node] = self.log_class(self.disks[node])
        try:
            self.install(node)
        except PowerCutError:
            return
        state = self.states[node]
        state.on_apply = lambda entry: self._check_apply(node, entry)
        self.snapshots[node] = SimSnapshots(lambda: self.states[node], self.staged[node])
        self.transports[node] = SimTransport(lambda peer, frame: self._post(node, peer, frame))
        self.engines[node] = RaftEngine(
            self.config(node_id=node, cluster_id="sim", peers=dict.fromkeys(self.ids, "")),
            self.logs[node],
            self.transports[node],
            self.clock,
            state,
            randomness=random.Random(self.random.random()),
            snapshots=self.snapshots[node],
            core_class=self.core_class,
        )
        for other, engine in self.engines.items():
            if other != node:
                engine.connected(node)
                self.engines[node].connected(other)

    def isolate(self, *nodes: str) -> None:
        """Silently: both sides still believe in the connection."""
        for node in nodes:
            self.cut_links |= {(a, b) for a in self.ids for b in self.ids if (a == node) != (b == node)}

    def heal(self) -> None:
        self.cut_links.clear()

    # Work

    def propose(self, node: str, data: bytes) -> list[ProposalOutcome]:
        answers: list[ProposalOutcome] = []

        def answer(outcome: ProposalOutcome) -> None:
            answers.append(outcome)
            self.outcomes[outcome.status] += 1
            if outcome.status is ProposalStatus.APPLIED:
                self.acknowledged[data] = outcome.position
            if outcome.status is ProposalStatus.DISCARDED:
                self.discarded.add(data)

        self.engines[node].propose(data, answer)
        return answers

    def read(self, node: str) -> list[int | None]:
        """The index at which the read may be served; one below what was acknowledged before is a stale read."""
        answers: list[int | None] = []
        floor = max(self.acknowledged.values(), default=0)

        def answer(position: int | None) -> None:
            answers.append(position)
            if position is not None and position < floor:
                self.violations.append(f"read at {position} on {node} misses acknowledged {floor}")

        self.engines[node].read_index(answer)
        return answers

    def leader(self) -> str | None:
        ready = [node for node, engine in self.engines.items() if engine.status().ready]
        return max(ready, key=lambda node: self.engines[node].status().term, default=None)

    def elect(self, node: str | None = None) -> str:
        """Run until somebody, or this very node, leads and is ready."""
        self.run(20.0, until=lambda: self.leader() is not None and node in (None, self.leader()))
        leader = self.leader()
        if leader is None or node not in (None, leader):
            raise RuntimeError(f"no leader; violations {self.violations}")
        return leader

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.settle()
            if until():
                return True
            due = [self.clock.now + engine.wait_s() for engine in self.engines.values()]
            due += [self._flying[0][0]] if self._flying else []
            soonest = min(due, default=end)
            self.clock.now = min(max(soonest, self.clock.now + STEP_MIN_S), self.clock.now + STEP_MAX_S, end)
        return until()

    def settle(self) -> None:
        """Deliver what is due and step whoever has something to do, without moving the clock."""
        while self._flying and self._flying[0][0] <= self.clock.now:
            _, _, source, target, frame = heapq.heappop(self._flying)
            if target in self.engines and (source, target) not in self.cut_links:
                self.engines[target].received(source, frame)
        for node in list(self.engines):
            engine = self.engines[node]
            if engine.wait_s() <= 0:
                self._step(node, engine)

    def finish(self) -> None:
        """Heal everything, wait until all agree, and check that nothing acknowledged is missing anywhere."""
        self.heal()
        self.drop = self.duplicate = 0.0
        for node in self.ids:
            self.disks[node].cut_at_next_sync = False
            if node not in self.engines:
                self.restart(node)
        if not self.run(30.0, until=self._all_agree):
            self.violations.append("no progress after everything healed")
            return
        for node, state in self.states.items():
            present = state.data()
            if len(present) != len(set(present)):
                self.violations.append(f"{node} applied an entry twice")
            lost = set(self.acknowledged) - set(present)
            if lost:
                self.violations.append(f"{node} lost {len(lost)} acknowledged")
            if self.discarded & set(present):
                self.violations.append(f"{node} applied what was said to be discarded")

    def _all_agree(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        last = self.logs[leader].last_index
        return all(state.applied_position == last for state in self.states.values())

    def _step(self, node: str, engine: RaftEngine) -> None:
        try:
            engine.step()
        except PowerCutError:
            self.crash(node)
            return
        except InstallSnapshotNow:
            self.installs[node] += 1
            self.crash(node)
            self.restart(node)
            return
        except FatalRaftError as error:
            self.violations.append(f"{node} stopped: {error}")
            self.crash(node)
            return
        status = engine.status()
        if status.role == "leader" and self._leaders.setdefault(status.term, node) != node:
            self.violations.append(f"term {status.term} is led by {self._leaders[status.term]} and {node}")

    def _check_apply(self, node: str, entry: LogEntry) -> None:
        expected = self._agreed.setdefault(entry.position, (entry.term, entry.data))
        if expected != (entry.term, entry.data):
            self.violations.append(f"{node} applied another entry at {entry.position}")

    def _post(self, source: str, target: str, frame: bytes) -> bool:
        copies = 2 if self.random.random() < self.duplicate else 1
        for _ in range(copies):
            if self.random.random() >= self.drop:
                self._sequence += 1
                arrives = self.clock.now + self.random.uniform(*self.delay_s)
                heapq.heappush(self._flying, (arrives, self._sequence, source, target, frame))
        return True
