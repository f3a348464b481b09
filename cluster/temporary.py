"""A cluster of its own for a measurement or an ordeal, so that neither touches the operator's data.

It lives in the state folder and not in /tmp, which may be memory: what is measured must be synced to the real disk.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster import lifecycle
from cluster.layout import Layout, free_port_base

Say = Callable[[str], None]


@contextmanager
def temporary_cluster(beside: Layout, purpose: str, say: Say, *, keep: bool = False) -> Iterator[Layout]:
    home = beside.home / "temporary" / f"{purpose}-{secrets.token_hex(4)}"
    layout = Layout(home=home, port_base=free_port_base(), python=beside.python, fraud_model_dir=beside.fraud_model_dir)
    say(f"starting a temporary cluster in {home}")
    try:
        lifecycle.up(layout, lambda _: None, with_prometheus=False, with_sms=False)
        yield layout
    finally:
        lifecycle.down(layout, lambda _: None)
        if keep:
            say(f"left for inspection: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
