"""What a seed means: the cluster's settings, what clients ask for, and what goes wrong when. All of it is drawn before
the run begins, so that a failing run can be repeated with less."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from node.consensus.seams import ConsensusConfig
from tests.simulation.profiles import PROFILES
from tests.simulation.sidecar import MODES

CALM_S = 2.0  # election and accounts, before anything goes wrong


@dataclass(frozen=True, slots=True)
class Settings:
    profile: str
    nodes: int
    seconds: float  # of the safety phase, after the calm
    clients: int
    delay_max_s: float
    duplicate: float
    reorder: float
    checkpoint_interval_s: float
    journal_memory_bytes: int
    batch_entries_max: int
    window_bytes: int
    trailing_entries: int
    cut_power_at_the_end: bool
    log_kept_bytes: int  # for a node that is away
    snapshot_chunk_bytes: int
    deadline_s: float  # of a client's call
    score_transfers: bool  # raw ones, too
    restart_s: tuple[float, float]  # until whoever watches a process starts it again

    def consensus(self, node_id: str, cluster_id: str, node_ids: list[str]) -> ConsensusConfig:
        return ConsensusConfig(
            node_id=node_id,
            cluster_id=cluster_id,
            peers=dict.fromkeys(node_ids, ""),
            batch_entries_max=self.batch_entries_max,
            window_bytes=self.window_bytes,
            log_trailing_entries=self.trailing_entries,
            log_kept_bytes_max=self.log_kept_bytes,
            snapshot_chunk_bytes=self.snapshot_chunk_bytes,
            snapshot_window_bytes=4 * self.snapshot_chunk_bytes,
            compact_every_s=0.3,  # what production does once in many entries happens within a short run
            compact_entries_min=8,
        )


@dataclass(frozen=True, slots=True)
class Op:
    number: int
    client: int
    kind: str
    think_s: float
    debit: int  # which of the customers
    credit: int
    amount_minor: int
    choice: float  # 0 to 1: whatever else the kind decides


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    at_s: float  # after the calm
    kind: str
    node: int
    other: int
    duration_s: float
    point: str = ""
    amount: float = 0.0

    def line(self) -> str:
        what = f" at {self.point}" if self.point else ""
        return (
            f"fault {self.number} +{self.at_s:.3f}s {self.kind}{what} n{self.node + 1} "
            f"(other n{self.other + 1}, {self.duration_s:.2f} s, amount {self.amount:.3f})"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    settings: Settings
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]

    def only(self, *, faults: set[int] | None = None, ops: set[int] | None = None) -> Plan:
        return replace(
            self,
            faults=tuple(fault for fault in self.faults if faults is None or fault.number in faults),
            ops=tuple(op for op in self.ops if ops is None or op.number in ops),
        )


def make_plan(seed: int, profile: str = "") -> Plan:
    """`profile`: a test may ask for one; otherwise the seed decides."""
    rng = random.Random(seed)
    drawn = rng.choices(list(PROFILES), [each.weight for each in PROFILES.values()])[0]
    profile = profile or drawn
    # Drawn apart, so that all else is as it was before raw transfers could be scored.
    scored = random.Random(f"{seed}/scored").random() < PROFILES[profile].scored
    settings = replace(_settings(rng, profile), score_transfers=scored)
    ops = tuple(_op(rng, number, settings) for number in range(rng.randint(40, PROFILES[profile].ops_max)))
    return Plan(seed, settings, ops, tuple(_faults(rng, settings)))


def _settings(rng: random.Random, name: str) -> Settings:
    profile = PROFILES[name]
    rough = rng.random() < profile.rough
    return Settings(
        profile=name,
        nodes=5 if rng.random() < profile.five_nodes else 3,
        seconds=rng.choice([3.0, 5.0, 8.0]),
        clients=rng.randint(2, 5),
        delay_max_s=rng.choice(profile.delays_max_s),
        duplicate=rng.choice(profile.duplicates) if rough else 0.0,
        reorder=rng.choice([0.02, 0.1]) if rough else 0.0,
        checkpoint_interval_s=rng.choice([0.2, 0.5, 1.0, 5.0]),
        journal_memory_bytes=rng.choice([256, 4_096, 64 << 20]),
        batch_entries_max=rng.choice([1, 3, 4_096]),
        window_bytes=rng.choice([512, 8_192, 16 << 20]),
        trailing_entries=rng.choice([0, 5, 40]),
        cut_power_at_the_end=rng.random() < 0.3,
        log_kept_bytes=rng.choice(profile.logs_kept_bytes),
        snapshot_chunk_bytes=rng.choice([512, 4_096, 256 << 10]),
        deadline_s=rng.choice(profile.deadlines_s),
        score_transfers=False,
        restart_s=profile.restart_s,
    )


def _op(rng: random.Random, number: int, settings: Settings) -> Op:
    profile, client = PROFILES[settings.profile], rng.randrange(settings.clients)
    kinds = profile.reads if profile.reads and client % 2 else profile.ops
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    return Op(
        number=number,
        client=client,
        kind=kind,
        think_s=rng.expovariate(1 / 0.08),
        debit=rng.randrange(4),
        credit=rng.randrange(4),
        amount_minor=rng.choice([1, 100, 2_500, 60_000, 900_000]),
        choice=rng.random(),
    )


def _faults(rng: random.Random, settings: Settings) -> list[Fault]:
    """A handful of kinds for each run, so that each can do its harm undisturbed by all the others."""
    profile = PROFILES[settings.profile]
    kinds = rng.sample(list(profile.faults), min(len(profile.faults), rng.randint(*profile.kinds)))
    weights = [profile.faults[kind] for kind in kinds]
    count = rng.randint(2, int(profile.faults_a_second * settings.seconds) + 2)
    moments = sorted(rng.uniform(0.0, settings.seconds) for _ in range(count))
    return [_fault(rng, number, at_s, rng.choices(kinds, weights)[0], settings) for number, at_s in enumerate(moments)]


def _fault(rng: random.Random, number: int, at_s: float, kind: str, settings: Settings) -> Fault:
    profile = PROFILES[settings.profile]
    node = rng.randrange(settings.nodes)
    other = (node + rng.randrange(1, settings.nodes)) % settings.nodes
    fault = Fault(number, at_s, kind, node, other, rng.choice(profile.durations_s), amount=rng.random())
    if kind == "crash_at_point":
        return replace(fault, point=rng.choice(profile.points))
    if kind == "sidecar":
        return replace(fault, point=rng.choice(MODES[1:]))
    return fault
