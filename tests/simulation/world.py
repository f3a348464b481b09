"""All of one run: timeline, machines, network, clients, faults and oracles, wired together from a plan."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from node.consensus.core import SafeRaft
from tests.simulation.calls import CallNetwork
from tests.simulation.clients import Clients
from tests.simulation.clock import NodeClock, Timeline
from tests.simulation.disk import SimDisk
from tests.simulation.faults import FaultInjector
from tests.simulation.loop import SimLoop
from tests.simulation.machine import Machine
from tests.simulation.network import SimNetwork
from tests.simulation.oracles import Oracles
from tests.simulation.plan import CALM_S, Plan
from tests.simulation.points import CrashPoints
from tests.simulation.real_disk import RealDisk
from tests.simulation.sidecar import SidecarScript
from tests.simulation.trace import Trace

SETUP_S = 30.0
HEAL_S = 30.0  # virtual seconds in which everything must agree once nothing goes wrong any more


class World:
    def __init__(
        self,
        plan: Plan,
        *,
        core_class: type[SafeRaft] = SafeRaft,
        keep_trace: bool = False,
        disk_folder: Path | None = None,
    ) -> None:
        """`disk_folder`: where real LMDB keeps its files, instead of the simulated one."""
        self.disk_folder = disk_folder
        self.plan, self.settings, self.core_class = plan, plan.settings, core_class
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, keep=keep_trace)
        self.faults: Counter[str] = Counter()
        self.points = CrashPoints()
        self.oracles = Oracles(self.trace)
        self.node_ids = [f"n{number + 1}" for number in range(self.settings.nodes)]
        self.network = SimNetwork(self.timeline, self.rng("network"), self.trace, self.faults)
        self.sidecar = SidecarScript(self.rng("sidecar"), self.faults)
        self.client_loop = SimLoop(self.timeline, NodeClock(self.timeline), self.oracles.violation)
        self.calls = CallNetwork(self.timeline, self.rng("calls"), self.client_loop, self.faults)
        self.machines = {node: Machine(self, node) for node in self.node_ids}
        self.network.connect_all(self.machines)
        self.calls.servers = self.machines
        self.injector = FaultInjector(self)
        self.clients = Clients(self)

    def rng(self, *name: str) -> random.Random:
        """A stream of its own for each part, so that one part's draws do not move another's."""
        return random.Random(f"{self.plan.seed}/{'/'.join(name)}")

    def make_disk(self, node_id: str) -> SimDisk:
        rng = self.rng("disk", node_id)
        if self.disk_folder is not None:
            return RealDisk(rng, self.faults, self.disk_folder / node_id)
        return SimDisk(rng, self.faults)

    def run(self) -> None:
        """Calm, faults, healing. What was wrong stands in oracles.violations."""
        for machine in self.machines.values():
            machine.start()
        self.client_loop.create_task(self.clients.set_up())
        if not self.timeline.run(SETUP_S, lambda: self.clients.is_set_up):
            self.oracles.violation("no accounts in a calm cluster")
            return
        self.timeline.run(max(0.0, CALM_S - self.timeline.now))
        self._safety_phase()
        if not self.oracles.violations:
            self._liveness_phase()

    def close(self) -> None:
        """End every coroutine: what is left of a world is garbage, and says nothing about it."""
        self.client_loop.kill()
        for machine in self.machines.values():
            if machine.process is not None:
                machine.process.loop.kill()
            machine.disk.close()

    def _safety_phase(self) -> None:
        self.injector.set_weather(self.settings)
        self.injector.schedule(self.plan.faults, self.timeline.now)
        self.clients.start()
        self.timeline.run(self.settings.seconds, lambda: bool(self.oracles.violations))

    def _liveness_phase(self) -> None:
        if self.settings.cut_power_at_the_end:
            for machine in self.machines.values():
                if machine.alive:
                    self.faults["cluster_power_cut"] += 1
                    machine.crash("power cut of all", silently=True)
        self.injector.heal()
        self.clients.stop_asking()
        agreed = self.timeline.run(HEAL_S, lambda: self._all_agree() or bool(self.oracles.violations))
        if not agreed:
            self.oracles.violation(f"no agreement {HEAL_S:.0f} s after everything healed: {self._state()}")
        if self.oracles.violations:
            return
        self.client_loop.create_task(self.clients.resolve())
        if not self.timeline.run(HEAL_S, lambda: self.clients.is_resolved):
            self.oracles.violation("unknown outcomes cannot be resolved in a healed cluster")
        self.timeline.run(HEAL_S, self._all_agree)
        self.oracles.finish(self.clients.history, [(node, self._store(node)) for node in self.node_ids])

    def _store(self, node: str) -> object:
        process = self.machines[node].process
        return process.store if process is not None else None

    def _all_agree(self) -> bool:
        processes = [machine.process for machine in self.machines.values()]
        if any(process is None or process.draining for process in processes) or not self.clients.is_idle:
            return False
        if any(machine.may_have_forgotten for machine in self.machines.values()):
            return False  # a bit is still flipped, or an older disk still in use
        statuses = [process.engine.status() for process in processes if process is not None]
        leaders = [status for status in statuses if status.ready]
        return bool(leaders) and all(
            status.voter and status.applied_position == leaders[0].last_index == status.last_index
            for status in statuses
        )

    def _state(self) -> str:
        parts = []
        for node, machine in self.machines.items():
            if machine.process is None:
                parts.append(f"{node} down")
            else:
                status = machine.process.engine.status()
                parts.append(f"{node} {status.role} term {status.term} {status.applied_position}/{status.last_index}")
            if machine.may_have_forgotten:
                parts.append(f"{node} has been {' and '.join(sorted(machine.may_have_forgotten))}")
        return ", ".join(parts)
