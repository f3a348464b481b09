"""How each planned fault is done to the world, and how all of them end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from node.consensus.seams import Room
from tests.simulation.ageing import OlderCopy, flip_a_bit
from tests.simulation.network import Weather
from tests.simulation.plan import Fault, Settings
from tests.simulation.points import POINTS

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

NEED_A_DEATH = ("start.", "lead.", "send.request_vote", "send.vote", "send.pre_vote")
OFTEN_OF_THE_LEADER = ("pause", "isolate", "crash", "power_cut")
NEED_A_LOST_DISK = ("snapshot.", "install.", "send.snapshot", "send.promote")
NEED_A_CUT = ("journal.truncate", "send.term_hint")
HOUR_NS = 3_600 * 10**9
SLOW_DISK_FACTOR = 200.0
OFTEN_PASSED = frozenset(point for point in POINTS if point.startswith(("journal.entries", "send.", "apply", "serve")))


class FaultInjector:
    def __init__(self, world: World) -> None:
        self._world = world
        self._quiet = False
        self._rng = world.rng("faults")

    def set_weather(self, settings: Settings) -> None:
        self._world.network.weather = Weather((0.000_2, settings.delay_max_s), settings.duplicate, settings.reorder)

    @property
    def is_quiet(self) -> bool:
        return self._quiet

    def _may_forget(self) -> bool:
        """One at a time: a majority must never have forgotten what it promised."""
        return not any(machine.may_have_forgotten for machine in self._world.machines.values())

    def schedule(self, faults: tuple[Fault, ...], start: float) -> None:
        for fault in faults:
            self._world.timeline.at(start + fault.at_s, partial(self._do, fault))

    def heal(self) -> None:
        """From here on nothing goes wrong any more; what is down comes up, what is slow is quick."""
        world = self._world
        self._quiet = True
        world.trace.note("everything heals")
        world.points.disarm()
        world.network.heal()
        world.calls.lost = 0.0
        world.calls.unreachable.clear()
        world.sidecar.mode = "honest"
        for machine in world.machines.values():
            machine.disk.slowness, machine.disk.fail_syncs, machine.disk.room = 1.0, 0, Room.OK
            machine.clock.set_rate(1.0)
            machine.resume()
            machine.start()

    def _do(self, fault: Fault) -> None:
        if self._quiet:
            return
        world = self._world
        world.trace.note(fault.line())
        world.faults[fault.kind] += 1
        machine = world.machines[world.node_ids[fault.node]]
        if fault.kind in OFTEN_OF_THE_LEADER and fault.amount < 0.5:
            machine = self._leading(machine)
        action: Callable[[Fault, Machine], None] = getattr(self, f"_{fault.kind}")
        action(fault, machine)

    def _later(self, fault: Fault, action: Callable[[], None]) -> None:
        self._world.timeline.after(fault.duration_s, lambda: None if self._quiet else action())

    # One method for each kind of fault

    def _crash(self, fault: Fault, machine: Machine) -> None:
        if machine.alive:
            machine.crash("kill -9", restart_after_s=fault.duration_s)

    def _power_cut(self, fault: Fault, machine: Machine) -> None:
        if machine.alive:
            machine.crash("power cut", silently=True, restart_after_s=fault.duration_s)

    def _cluster_power_cut(self, fault: Fault, machine: Machine) -> None:
        for number, each in enumerate(self._world.machines.values()):
            if each.alive:
                each.crash("power cut of all", silently=True, restart_after_s=fault.duration_s * (1 + number / 3))

    def _crash_at_point(self, fault: Fault, machine: Machine) -> None:
        """Some points need a push before anybody comes by."""
        self._world.points.arm(fault.point, int(fault.amount * 4) if fault.point in OFTEN_PASSED else 0)
        if fault.point.startswith("send.timeout_now"):
            self._handover(fault, machine)
        elif fault.point.startswith(NEED_A_CUT):
            self._isolate(replace(fault, duration_s=1.5), self._leading(machine))
        elif fault.point.startswith(NEED_A_LOST_DISK):
            self._disk_lost(replace(fault, duration_s=0.3), machine)
        elif fault.point.startswith("stop."):
            machine.restart_cleanly()
        elif fault.point.startswith(NEED_A_DEATH) and machine.alive:
            machine.crash("kill -9", restart_after_s=fault.duration_s)

    def _leading(self, other: Machine) -> Machine:
        machines = self._world.machines.values()
        leads = [m for m in machines if m.process is not None and m.process.engine.status().role == "leader"]
        return leads[0] if leads else other

    def _lose_majority(self, fault: Fault, machine: Machine) -> None:
        """Two nodes alone can commit; one of them dies in its sync, the other one soon after it, and the first comes
        back to those who knew nothing: whatever the two acknowledged too early is lost."""
        world = self._world
        leader = self._leading(machine)
        others = [m for m in world.machines.values() if m is not leader]
        witness = others[int(fault.amount * 1_000) % len(others)]
        majority = len(world.machines) // 2
        cut_off = [m for m in others if m is not witness][: len(others) - majority]
        pairs = [(m.node_id, other) for m in cut_off for other in world.node_ids if other != m.node_id]
        self._cut_pairs(replace(fault, duration_s=1.0), pairs)

        def leader_follows() -> None:
            if leader.alive and not self._quiet:
                leader.crash("power cut after its witness", silently=True, restart_after_s=3.0)

        point = ("journal.entries.before", "journal.entries.torn")[int(fault.amount * 100) % 2]
        world.points.arm(
            point, int(fault.amount * 10_000) % 3, witness.node_id,
            lambda: world.timeline.after(fault.amount * 0.03, leader_follows) and None,
        )  # fmt: skip

    def _pause(self, fault: Fault, machine: Machine) -> None:
        machine.pause(fault.duration_s)

    def _cut(self, fault: Fault, machine: Machine) -> None:
        network, source, target = self._world.network, machine.node_id, self._world.node_ids[fault.other]
        network.cut(source, target)
        self._later(fault, lambda: network.uncut(source, target))

    def _isolate(self, fault: Fault, machine: Machine) -> None:
        """From all peers in both directions, but not from clients."""
        pairs = [(machine.node_id, other) for other in self._world.node_ids if other != machine.node_id]
        self._cut_pairs(fault, pairs)

    def _bridge(self, fault: Fault, machine: Machine) -> None:
        """All but one node lose sight of each other; that one sees everybody."""
        others = [node for node in self._world.node_ids if node != machine.node_id]
        self._cut_pairs(fault, [(a, b) for a in others for b in others if a < b])

    def _cut_pairs(self, fault: Fault, pairs: list[tuple[str, str]]) -> None:
        network = self._world.network
        both = pairs + [(b, a) for a, b in pairs]
        for source, target in both:
            network.cut(source, target)

        def uncut() -> None:
            for source, target in both:
                network.uncut(source, target)

        self._later(fault, uncut)

    def _reset(self, fault: Fault, machine: Machine) -> None:
        self._world.network.reset(machine.node_id, self._world.node_ids[fault.other])

    def _slow_link(self, fault: Fault, machine: Machine) -> None:
        network, source, target = self._world.network, machine.node_id, self._world.node_ids[fault.other]
        network.slow_down(source, target, fault.amount * 0.3)
        self._later(fault, lambda: network.slow_down(source, target, 0.0))

    def _slow_disk(self, fault: Fault, machine: Machine) -> None:
        machine.disk.slowness = 1 + fault.amount * SLOW_DISK_FACTOR

        def quick_again() -> None:
            machine.disk.slowness = 1.0

        self._later(fault, quick_again)

    def _failing_sync(self, fault: Fault, machine: Machine) -> None:
        machine.disk.fail_syncs = 1

    def _disk_full(self, fault: Fault, machine: Machine) -> None:
        machine.disk.room = Room.LOW if fault.amount < 0.4 else Room.FULL

        def room_again() -> None:
            machine.disk.room = Room.OK

        self._later(fault, room_again)

    def _disk_lost(self, fault: Fault, machine: Machine) -> None:
        if self._may_forget():
            self._world.faults["disk_really_lost"] += 1
            machine.lose_disk(fault.duration_s)

    def _bit_rot(self, fault: Fault, machine: Machine) -> None:
        if not self._may_forget():
            return
        machine.flip = flip_a_bit(machine.disk, self._rng)
        if machine.flip is not None:
            machine.may_have_forgotten.add("flipped")
            self._world.faults["bit_flipped"] += 1
            self._world.trace.note(f"{machine.node_id} has a flipped bit in {machine.flip.where}")

    def _older_copy(self, fault: Fault, machine: Machine) -> None:
        if self._may_forget() and machine.alive:
            OlderCopy(machine, 0.3 + fault.duration_s)

    def _wall_jump(self, fault: Fault, machine: Machine) -> None:
        machine.clock.wall_offset_ns += int((fault.amount - 0.5) * 48 * HOUR_NS)

    def _clock_rate(self, fault: Fault, machine: Machine) -> None:
        machine.clock.set_rate(0.7 + fault.amount * 0.6)

    def _clock_leap(self, fault: Fault, machine: Machine) -> None:
        machine.clock.jump(fault.duration_s)

    def _clean_restart(self, fault: Fault, machine: Machine) -> None:
        machine.restart_cleanly()

    def _handover(self, fault: Fault, machine: Machine) -> None:
        """Asked of every node: whoever leads gives it up."""
        for each in self._world.machines.values():
            each.hand_over()

    def _rolling_restart(self, fault: Fault, machine: Machine) -> None:
        for number, each in enumerate(self._world.machines.values()):
            self._later(replace(fault, duration_s=number * 1.2), each.restart_cleanly)

    def _sidecar(self, fault: Fault, machine: Machine) -> None:
        sidecar = self._world.sidecar
        sidecar.mode = fault.point

        def honest_again() -> None:
            sidecar.mode = "honest"

        self._later(fault, honest_again)

    def _clients_cut(self, fault: Fault, machine: Machine) -> None:
        unreachable = self._world.calls.unreachable
        unreachable.add(machine.node_id)
        self._later(fault, lambda: unreachable.discard(machine.node_id))

    def _answers_lost(self, fault: Fault, machine: Machine) -> None:
        calls = self._world.calls
        calls.lost = 0.1 + fault.amount / 2

        def arrive_again() -> None:
            calls.lost = 0.0

        self._later(fault, arrive_again)
