"""How much memory the nodes use for each account: what a node held before any was made is told apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cluster import processes
from cluster.layout import Layout

ACCOUNT_BYTES_MAX = 400  # the target


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """Resident bytes; `file_bytes` of them are pages of files (LMDB's map), which the system may take back."""

    resident_bytes: int
    file_bytes: int


def node_memory(layout: Layout) -> dict[str, NodeMemory]:
    found = {node_id: processes.find_process(layout.pid_file(node_id)) for node_id in layout.node_ids}
    shown = {node_id: process.memory_info() for node_id, process in found.items() if process is not None}
    return {node_id: NodeMemory(info.rss, info.shared) for node_id, info in shown.items()}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of the node that needs most. Growth = since the node had no such account, pages of files left out."""

    accounts: int
    stored: int
    resident_bytes: int
    file_bytes: int
    resident_bytes_each: float
    growth_bytes_each: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"memory: {self.accounts:,} accounts, {self.stored:,} transfers stored: the largest node has "
            f"{self.resident_bytes / 1e6:,.0f} MB, {self.file_bytes / 1e6:,.0f} of them pages of files; "
            f"{self.resident_bytes_each:,.0f} bytes per account, {self.growth_bytes_each:,.0f} of growth "
            f"(target: {ACCOUNT_BYTES_MAX})"
        )


def footprint(before: dict[str, NodeMemory], now: dict[str, NodeMemory], accounts: int, stored: int) -> Footprint:
    """Raises ValueError when no node runs that ran before."""
    if not set(before) & set(now):
        raise ValueError("no node runs whose memory was read before")
    own = {node: now[node].resident_bytes - now[node].file_bytes for node in now}
    growth = max(own[node] - before[node].resident_bytes + before[node].file_bytes for node in now if node in before)
    largest = max(now.values(), key=lambda memory: memory.resident_bytes)
    return Footprint(
        accounts, stored, largest.resident_bytes, largest.file_bytes,
        largest.resident_bytes / accounts, growth / accounts,
    )  # fmt: skip
