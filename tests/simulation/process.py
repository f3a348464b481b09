"""One process of a node, from start to death: production's engine, journal, ledger store and servicers, wired as
node/wiring does, over the simulated clock, disk and network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from node.consensus.core import SafeRaft
from node.consensus.engine import RaftEngine
from node.consensus.seams import InstallSnapshotNow
from node.payments.tariffs import load_tariffs
from node.service.admission import Admission
from node.service.config_servicer import ConfigServicer
from node.service.errors import ServiceError
from node.service.expiry import Expiry
from node.service.guard import Guard
from node.service.in_flight import InFlight
from node.service.leadership import transfer_leadership
from node.service.ledger_servicer import LedgerServicer
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payments_servicer import PaymentsServicer
from node.service.reads import ReadBarrier
from node.service.tariff_book import TariffBook
from node.service.transfer_desk import ScoringPolicy, TransferDesk
from node.storage.damage import DAMAGE
from node.storage.host import Host
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.scrub import Scrubber
from tests.simulation import requests
from tests.simulation.calls import AbortedError, CallError, Exchange
from tests.simulation.clock import Timer
from tests.simulation.loop import SimLoop
from tests.simulation.points import PowerCutError
from tests.simulation.sidecar import SimFraudClient
from tests.simulation.snapshots import CLUSTER_ID, SimSnapshots, install_if_marked
from tests.simulation.watched import (
    SimBackground,
    SimJournal,
    SimTransport,
    Wakeup,
    WatchedConsensus,
    WatchedStore,
    with_points,
)

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

PIN_KEY = b"s" * 32
UNSCORED_ALLOW_MAX_MINOR = 50_000
WAKE_S = (0.000_01, 0.000_06)  # until a thread that was woken runs
CHECKPOINT_ERROR_SEEN_S = 0.3
STATE_HASH_EVERY = 8
SCRUB_EVERY_S = 0.2
_TARIFFS = load_tariffs()
_METRICS = NodeMetrics(CollectorRegistry())  # only written to


class Process:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.world = machine, machine.world
        self.node_id, self.clock = machine.node_id, machine.clock
        self.rng = self.world.rng("process", self.node_id, str(machine.starts))
        self.incarnation = self.rng.getrandbits(64)
        self.alive = True
        self.doomed = False  # lost power where the node's own code caught the exception
        self.death_due: float | None = None  # a sync failed: by then it must have stopped
        self.paused = self.draining = False
        self.open_calls: dict[Exchange, None] = {}
        self.background: list[SimBackground] = []
        self._busy_until = self.world.timeline.now
        self._step_timer: Timer | None = None
        self._steps = 0
        self.loop = SimLoop(self.world.timeline, self.clock, self._loop_failed)
        self.sync_kinds: list[str] = []
        self._open_storage()
        self._build_engine()
        self.loop.run_inside(self._build_service)
        self._scrubber = Scrubber(self.store.database, self.journal)
        self._scrub_later()
        self.wake()

    # Wiring

    def _open_storage(self) -> None:
        plan, host = self.world.settings, self.storage_host()
        self.journal = SimJournal(self, Path("raft"), plan.journal_memory_bytes, host)
        self.reach("start.journal")
        install_if_marked(self, self.journal)
        config = StoreConfig(
            CLUSTER_ID, self.node_id,
            checkpoint_interval_s=plan.checkpoint_interval_s, state_hash_every=STATE_HASH_EVERY,
        )  # fmt: skip
        self.store = LedgerStore(Path("ledger"), config, host)
        self.reach("start.ledger")

    def storage_host(self) -> Host:
        return Host(
            own_folder=lambda path: lambda: None,
            open_environment=lambda path, **_: self.machine.disk.open(path.name, self),
            open_folder=lambda path: self.machine.disk.open_folder(path.name, self),
            random_bytes=self.rng.randbytes,
            start=lambda work, name: self._start_checkpoint(work),
            monotonic=self.clock.monotonic,
        )

    def _build_engine(self) -> None:
        world = self.world
        config = world.settings.consensus(self.node_id, CLUSTER_ID, world.node_ids)
        self.watched = WatchedStore(self, self.store)
        core_class: type[SafeRaft] = with_points(world.core_class, self.reach)
        transport, randomness = SimTransport(self), random.Random(self.rng.random())
        self.engine = RaftEngine(
            config, self.journal, transport, self.clock, self.watched,
            randomness=randomness, core_class=core_class, snapshots=SimSnapshots(self),
            room=lambda: self.machine.disk.room, on_fatal=self.machine.refused,
        )  # fmt: skip
        self.engine._wakeup = Wakeup(self.wake)  # type: ignore[assignment]

    def _build_service(self) -> None:
        """As node/wiring does it, without the sockets."""
        self.consensus = consensus = WatchedConsensus(self, self.engine)
        time_ns = self.clock.time_ns
        guard = Guard(consensus, _METRICS, self._leader)
        guard.on_storage_failure = self._found_damage
        admission = Admission(consensus, _METRICS, leader_address=self._leader, time_ns=time_ns)
        barrier = ReadBarrier(consensus, self._leader)
        fraud = SimFraudClient(self, _METRICS)
        book = PaymentBook(self.store, _TARIFFS, PIN_KEY, time_ns)
        in_flight = InFlight()
        desk = PaymentDesk(
            book, admission, fraud, _METRICS,
            unscored_allow_max_minor=UNSCORED_ALLOW_MAX_MINOR, in_flight=in_flight, time_ns=time_ns,
        )  # fmt: skip
        desk.on_storage_failure = self._found_damage
        codes = (requests.CODE,) if self.world.settings.score_transfers else ()
        policy = ScoringPolicy(codes, UNSCORED_ALLOW_MAX_MINOR)
        transfers = TransferDesk(self.store, admission, fraud, _METRICS, policy, in_flight=in_flight, time_ns=time_ns)
        self._servicers = (
            LedgerServicer(self.store, admission, barrier, guard, PIN_KEY, transfers, time_ns),
            PaymentsServicer(book, desk, barrier, guard, admission, PIN_KEY),
            ConfigServicer(self.store, admission, barrier, guard, TariffBook(self.store, _TARIFFS), time_ns),
        )
        expiry = Expiry(WatchedConsensus(self, self.engine, "expire"), lambda: self.store.next_expiry_ns, time_ns)
        self.loop.create_task(expiry.run())

    def _found_damage(self, error: BaseException) -> None:
        """On the service's loop: production ends the process in here."""
        self.machine.found_damage(error)
        raise asyncio.CancelledError

    # The scrubber's thread

    def _scrub_later(self) -> None:
        self.world.timeline.after(SCRUB_EVERY_S, self._scrub)

    def _scrub(self) -> None:
        if not self.alive:
            return
        try:
            if not self.paused:
                self._scrubber.step()
        except DAMAGE as error:
            self.machine.found_damage(error)
        else:
            self._scrub_later()

    def _leader(self) -> str:
        return self.engine.status().leader_id

    # Crash points and time

    def reach(self, point: str) -> None:
        """On the engine's thread: an exception is the end of it."""
        self.world.points.reach(self.node_id, point)

    def reach_in_loop(self, point: str) -> bool:
        """On the service's loop, where no exception ends a process; True = it lives on."""
        if self.alive:
            self.world.points.reach(self.node_id, point, lambda: self.machine.crash(point))
        return self.alive

    def spend(self, seconds: float) -> None:
        self.clock.ahead_s += seconds

    def syncing(self, environment: str, stage: str) -> None:
        for kind in self.sync_kinds if environment == "raft" else ("ledger.checkpoint",):
            try:
                if self.alive and self._steps:
                    self.reach(f"{kind}.{stage}")
            except PowerCutError:
                self.doomed = True
                raise

    def sync_failed(self, environment: str) -> None:
        """Of the journal: not one more word. A failed checkpoint promises nothing, but must end the node soon."""
        self.death_due = self.world.timeline.now + (0.0 if environment == "raft" else CHECKPOINT_ERROR_SEEN_S)

    # The engine's thread

    def wake(self) -> None:
        self._step_at(self.world.timeline.now + self.rng.uniform(*WAKE_S))

    def _step_at(self, when: float) -> None:
        if not self.alive or self.paused:
            return
        when = max(when, self._busy_until)
        if self._step_timer is not None:
            if self._step_timer[0] <= when:
                return
            self.world.timeline.cancel(self._step_timer)
        self._step_timer = self.world.timeline.at(when, self._step)

    def _step(self) -> None:
        self._step_timer = None
        if not self.alive or self.paused:
            return
        self._guarded(self._step_engine)
        if not self.alive:
            return
        now = self.world.timeline.now
        self._busy_until = now + self.clock.ahead_s + self.rng.uniform(*WAKE_S)
        self.clock.ahead_s = 0.0
        self._step_at(self._busy_until + self.clock.world_delay_s(self.engine.wait_s()))

    def _step_engine(self) -> None:
        self.engine.step()
        self._steps += 1
        if self._steps == 1:
            self.reach("start.stepped")
        self.world.oracles.stepped(self.engine.status())
        self.machine.note_membership()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Whatever ends the engine's thread ends the process; only what was planned is no violation."""
        try:
            action()
        except PowerCutError as cut:
            self.machine.crash(str(cut))
        except InstallSnapshotNow:
            self.machine.crash("starts anew to install a snapshot", restart_after_s=0.01)
        except Exception as error:
            self.machine.stopped_by_itself(error)
        else:
            due = self.death_due
            if due is not None and self.world.timeline.now >= due and self.machine.process is self:
                self.world.oracles.violation(f"{self.node_id} went on after a failed sync")

    def _start_checkpoint(self, work: Callable[[], None]) -> SimBackground:
        self.reach("checkpoint.begins")
        return self.start_background(work)

    def start_background(self, work: Callable[[], None]) -> SimBackground:
        return SimBackground(self, work)

    def _loop_failed(self, text: str) -> None:
        self.world.oracles.violation(f"{self.node_id}: {text}")

    # Calls

    def serve(self, exchange: Exchange) -> None:
        if self.draining:
            self.world.calls.fail(exchange, CallError("UNAVAILABLE", definite=True))
            return
        self.open_calls[exchange] = None
        exchange.handler = self.loop.create_task(self._serve(exchange))

    async def _serve(self, exchange: Exchange) -> None:
        if not self.reach_in_loop("serve.arrived"):
            return
        servicer: Any = next(s for s in self._servicers if hasattr(s, exchange.method))
        try:
            response: Any = await getattr(servicer, exchange.method)(exchange.request, exchange.context)
        except AbortedError as aborted:
            response = exchange.context.error
            if not isinstance(aborted.__context__, ServiceError):
                self._loop_failed(f"{exchange.method} failed: {aborted.__context__!r}")
            if response.code == "DEADLINE_EXCEEDED" and not response.definite:
                self.world.faults["outcome_unknown"] += 1
        if not self.reach_in_loop("serve.answers"):
            return
        self.open_calls.pop(exchange, None)
        self.world.calls.answer(self.node_id, exchange, response)
        self.reach_in_loop("serve.answered")

    # The end

    def pause(self) -> None:
        self.paused = True
        self.loop.pause()

    def resume(self) -> None:
        self.paused = False
        self.loop.resume()
        for work in self.background:
            work.resume()
        self.wake()

    def hand_over(self, then: Callable[[], None]) -> None:
        async def hand_over() -> None:
            if await transfer_leadership(self.consensus):
                self.world.faults["handed_over"] += 1
            if self.alive:
                then()

        self.loop.create_task(hand_over())

    def stop(self) -> None:
        """As SIGTERM does, once the calls are done: the engine ends, then the last checkpoint is written."""
        self.engine.stop()
        self.reach("stop.engine")
        self.store.close()
        if self.doomed:
            raise PowerCutError("ledger.checkpoint")
        self.reach("stop.ledger")

    def die(self, *, silently: bool) -> None:
        self.alive = False
        self.clock.ahead_s = 0.0
        self.world.timeline.cancel(self._step_timer)
        self.loop.kill()
        calls, self.open_calls = self.open_calls, {}
        for exchange in calls:
            if not silently:
                self.world.calls.fail(exchange, CallError("UNAVAILABLE", definite=False))
