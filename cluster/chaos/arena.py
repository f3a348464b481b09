"""A temporary cluster, prepared for what it will suffer: networks, disks and clocks of its own."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from cluster import lifecycle
from cluster.chaos.faults.kinds import Need
from cluster.layout import Layout, free_port_base

Say = Callable[[str], None]


@contextmanager
def arena(beside: Layout, needs: Collection[Need], say: Say, *, keep: bool = False) -> Iterator[Layout]:
    home = beside.home / "temporary" / f"chaos-{secrets.token_hex(4)}"
    layout = Layout(home=home, port_base=free_port_base(), python=beside.python, fraud_model_dir=beside.fraud_model_dir)
    say(f"starting a temporary cluster in {home}")
    try:
        lifecycle.up(layout, lambda _: None, with_prometheus="prometheus" in needs)
        yield layout
    finally:
        lifecycle.down(layout, lambda _: None)
        if keep:
            say(f"left for inspection: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
