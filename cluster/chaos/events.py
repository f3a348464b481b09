"""What was done to the cluster and when, and who led it meanwhile: notes of the fault side, for the report."""

from __future__ import annotations

import bisect
import threading
import time
from dataclasses import dataclass, field

from cluster.calls import Caller, operator_caller
from cluster.health import node_status
from cluster.layout import Layout

_WATCH_S = 0.1


@dataclass(slots=True)
class Event:
    """One strike. `healed_ns`: the fault is over; `recovered_ns`: every node serves again."""

    fault: str
    target: str
    started_ns: int
    healed_ns: int = 0
    recovered_ns: int = 0
    leader_changes: int = 0
    notes: dict[str, float] = field(default_factory=dict)  # what this kind of fault measures besides


class LeaderWatch(threading.Thread):
    """Notes every change of the leader that any node reports."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(name="leader-watch", daemon=True)
        self._layout = layout
        self._stopping = threading.Event()
        self._changes_ns: list[int] = []
        self._term = 0

    def run(self) -> None:
        with operator_caller(self._layout) as caller:
            while not self._stopping.wait(_WATCH_S):
                self._look(caller)

    def _look(self, caller: Caller) -> None:
        for node_id in self._layout.node_ids:
            status = node_status(caller, self._layout.api_address(node_id), timeout_s=_WATCH_S)
            if status is not None and status.role == "leader" and status.term > self._term:
                self._term = status.term
                self._changes_ns.append(time.monotonic_ns())

    def changes(self, started_ns: int, ended_ns: int) -> int:
        return bisect.bisect(self._changes_ns, ended_ns) - bisect.bisect(self._changes_ns, started_ns)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
