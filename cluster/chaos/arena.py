"""A temporary cluster, prepared for what it will suffer: networks, disks and clocks of its own where needed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster import lifecycle
from cluster.chaos import shim
from cluster.chaos.faults.kinds import Need
from cluster.chaos.network import Network, open_network
from cluster.chaos.shim import Shim
from cluster.chaos.volumes import Volume, open_volume
from cluster.layout import NODE_IDS, Launch, Layout, free_port_base

Say = Callable[[str], None]


@dataclass(slots=True)
class Arena:
    layout: Layout
    network: Network | None = None
    shims: dict[str, Shim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    keep: bool = False  # the files stay for inspection


@contextmanager
def open_arena(beside: Layout, needs: Collection[Need], say: Say, *, keep: bool = False) -> Iterator[Arena]:
    home = beside.home / "temporary" / f"chaos-{secrets.token_hex(4)}"
    home.mkdir(parents=True, mode=0o700)
    say(f"starting a temporary cluster in {home}")
    try:
        with contextlib.ExitStack() as stack:
            prepared = _prepare(stack, beside, home, needs)
            prepared.keep = keep
            stack.callback(lifecycle.down, prepared.layout, lambda _: None)
            lifecycle.up(prepared.layout, lambda _: None, with_prometheus="prometheus" in needs, with_sms=False)
            yield prepared
            keep = prepared.keep
            if keep:
                say(f"left for inspection: {_copy(prepared, home)}")
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def _prepare(stack: contextlib.ExitStack, beside: Layout, home: Path, needs: Collection[Need]) -> Arena:
    """Everything that has to be there before the first process starts."""
    plain = Layout(home=home, port_base=free_port_base(), python=beside.python, fraud_model_dir=beside.fraud_model_dir)
    arena = Arena(plain)
    if "network" in needs or "hub" in needs:
        arena.network = stack.enter_context(open_network(home, with_hub="hub" in needs))
    if "volumes" in needs:
        for node_id in NODE_IDS:
            image = home / "volumes" / f"{node_id}.image"
            arena.volumes[node_id] = stack.enter_context(open_volume(image, plain.data_dir(node_id)))
    if "shim" in needs:
        library = shim.build(home / "shim")
        for node_id in NODE_IDS:
            plain.data_dir(node_id).mkdir(parents=True, exist_ok=True, mode=0o700)
            arena.shims[node_id] = Shim(library, home / "shim" / f"{node_id}.control", plain.data_dir(node_id))
    arena.layout = Layout(
        home=home,
        port_base=plain.port_base,
        python=beside.python,
        fraud_model_dir=beside.fraud_model_dir,
        hosts=arena.network.hosts if arena.network else {},
        launches=_launches(arena),
    )
    return arena


def _launches(arena: Arena) -> dict[str, Launch]:
    launches = arena.network.launches() if arena.network else {}
    for node_id, one in arena.shims.items():
        launches[node_id] = Launch(launches.get(node_id, Launch()).prefix, one.environment())
    return launches


def _copy(arena: Arena, home: Path) -> Path:
    """What lies on volumes goes with them, so it is copied before they are unmounted."""
    for node_id, volume in arena.volumes.items():
        with contextlib.suppress(shutil.Error):  # a volume without power gives nothing
            shutil.copytree(volume.folder, home / "kept" / node_id, dirs_exist_ok=True)
    return home
