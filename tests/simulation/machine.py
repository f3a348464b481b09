"""A node's machine: what outlives its processes (disk, clock), and the ways in which a process begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.storage.damage import DAMAGE
from node.storage.member import Seen
from tests.simulation.ageing import FileFlip, Flip
from tests.simulation.calls import Exchange
from tests.simulation.clock import NodeClock, Timer
from tests.simulation.disk import DiskFailedError
from tests.simulation.points import PowerCutError
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

DRAIN_S = 0.3


class Machine:
    """Implements network.Station and calls.Server."""

    def __init__(self, world: World, node_id: str) -> None:
        self.world, self.node_id = world, node_id
        self.clock = NodeClock(world.timeline)
        self.disk = world.make_disk(node_id)
        self.process: Process | None = None
        self.starts = 0
        self.was_wiped = False  # a journal that is made from now on is of a node that has forgotten everything
        # Why it may not remember what it promised: of one machine at a time, and until it has joined anew.
        self.may_have_forgotten: set[str] = set()
        self.flip: Flip | FileFlip | None = None
        self._restart: Timer | None = None
        self._backlog: list[Exchange] = []
        self._rng = world.rng("machine", node_id)

    @property
    def alive(self) -> bool:
        return self.process is not None

    # Processes

    def start(self) -> None:
        self.world.timeline.cancel(self._restart)
        self._restart = None
        if self.process is not None:
            return
        self.world.trace.note(f"{self.node_id} starts")
        self.starts += 1
        self.clock.ahead_s = 0.0
        try:
            self.process = Process(self)
        except PowerCutError as cut:
            self.crash(str(cut))
        except DiskFailedError as error:  # the start itself is counted in the journal
            self.world.faults["stopped_on_sync_error"] += 1
            self.crash(str(error))
        except DAMAGE as error:
            self.found_damage(error)
        except Exception as error:
            self.world.oracles.violation(f"{self.node_id} cannot start: {type(error).__name__}: {error}")
        else:
            self.clock.ahead_s = 0.0
            self.world.network.node_started(self.node_id)

    def crash(self, why: str, *, silently: bool = False, restart_after_s: float | None = None) -> None:
        """Kill -9, or with `silently` a power cut: memory and everything that was not synced is gone."""
        self.world.trace.note(f"{self.node_id} dies: {why}")
        self._end(silently=silently)
        delay_s = self._rng.uniform(*self.world.settings.restart_s) if restart_after_s is None else restart_after_s
        self.world.timeline.cancel(self._restart)
        self._restart = self.world.timeline.after(delay_s, self.start)

    def stopped_by_itself(self, error: Exception) -> None:
        """Production's exit at once. Only an injected disk error is a good reason."""
        process = self.process
        if isinstance(error, DAMAGE):
            self.found_damage(error)
            return
        if process is not None and process.death_due is not None:
            self.world.faults["stopped_on_sync_error"] += 1
        else:
            self.world.oracles.violation(f"{self.node_id} stopped: {type(error).__name__}: {error}")
        self.crash(f"{type(error).__name__}: {error}")

    def found_damage(self, error: BaseException) -> None:
        """Production's die(): the data is set aside, and the node joins anew, as one whose disk was lost."""
        if self.flip is None:
            self.world.oracles.violation(
                f"{self.node_id} finds damage that nobody did: {type(error).__name__}: {error}"
            )
        self.world.trace.note(f"{self.node_id} is damaged: {type(error).__name__}: {error}")
        self.world.faults["damage_found"] += 1
        self.lose_disk(0.05)

    def refused(self, reason: str) -> None:
        """The others know it better: it stops, and somebody removes its folder."""
        if "older" not in self.may_have_forgotten:
            self.world.oracles.violation(f"{self.node_id} is refused: {reason}")
        self.world.faults["older_copy_refused"] += 1
        self.lose_disk(0.1)

    def restart_cleanly(self) -> None:
        """SIGTERM: the lead is handed over, no new calls come, those that run may end, then the process ends in order
        and starts again."""
        process = self.process
        if process is None or process.draining or process.paused:
            return
        self.world.trace.note(f"{self.node_id} shall stop")

        def drain() -> None:
            process.draining = True
            self.world.timeline.after(DRAIN_S, lambda: self._stop(process))

        process.hand_over(drain)

    def hand_over(self) -> None:
        if self.process is not None:
            self.process.hand_over(lambda: None)

    def _stop(self, process: Process) -> None:
        if self.process is not process:
            return
        try:
            process.stop()
        except PowerCutError as cut:
            self.crash(str(cut))
        except Exception as error:
            self.stopped_by_itself(error)
        else:
            self.crash("stopped as asked", restart_after_s=self._rng.uniform(0.05, 0.5))

    def _end(self, *, silently: bool) -> None:
        process, self.process = self.process, None
        self._backlog.clear()
        if process is not None:
            process.die(silently=silently)
            self.world.network.node_died(self.node_id, silently=silently)
        if silently:
            self.disk.lose_power()

    def pause(self, seconds: float) -> None:
        process = self.process
        if process is None or process.paused:
            return
        self.world.trace.note(f"{self.node_id} pauses for {seconds:.2f} s")
        self.world.faults["pause"] += 1
        process.pause()
        self.world.timeline.after(seconds, lambda: self.resume(process))

    def resume(self, process: Process | None = None) -> None:
        process = process or self.process
        if process is None or process is not self.process or not process.paused:
            return
        self.world.trace.note(f"{self.node_id} goes on")
        process.resume()
        backlog, self._backlog = self._backlog, []
        for exchange in backlog:
            process.serve(exchange)

    def lose_disk(self, seconds: float) -> None:
        """The machine gets a new, empty disk; its node joins as one that may not vote yet."""
        self.world.trace.note(f"{self.node_id} loses its disk")
        self._end(silently=True)
        self.disk.wipe()
        self.was_wiped, self.flip = True, None
        self.may_have_forgotten = {"wiped"}
        self.world.timeline.cancel(self._restart)
        self._restart = self.world.timeline.after(seconds, self.start)

    def note_membership(self) -> None:
        """After each step: a node that may vote again is one of whom another may lose its disk."""
        if "wiped" in self.may_have_forgotten and self.process is not None and self.process.journal.member.voter:
            self.may_have_forgotten.discard("wiped")
            self.world.faults["rejoined"] += 1
        if self.flip is not None and not self.flip.is_there():
            self.world.faults["bit_overwritten"] += 1
            self.flip = None
            self.may_have_forgotten.discard("flipped")

    # Network and calls

    def greets(self, other: Machine) -> bool:
        """As the hello of a stream: who comes with an older life than one that was met is turned away, and stops."""
        if self.process is None or other.process is None:
            return False
        life, voter = other.process.engine.introduction()
        seen = Seen(life, other.process.incarnation)
        reason = self.process.engine.introduced(other.node_id, seen, voter=voter)
        if reason:
            other.process.engine.outdated(reason)
        return not reason

    def frame_arrived(self, source: str, frame: bytes) -> bool:
        return self.process is not None and self.process.engine.received(source, frame)

    def link_changed(self, peer: str, connected: bool) -> None:
        if self.process is not None:
            engine = self.process.engine
            (engine.connected if connected else engine.disconnected)(peer)

    def call_arrived(self, exchange: Exchange) -> None:
        if self.process is None:
            return
        if self.process.paused:
            self._backlog.append(exchange)  # in the kernel's socket
        else:
            self.process.serve(exchange)
