"""A real store whose background writer a test holds and lets go, so that every stage of a checkpoint can be met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from node.consensus.contract import LogEntry
from node.storage.host import Host
from node.storage.ledger_store import EntryResult, LedgerStore, StoreConfig


@dataclass
class HeldWork:
    """Work that begins when somebody waits for it, or when the test says so."""

    work: Callable[[], None]
    done: bool = False

    def is_alive(self) -> bool:
        return not self.done

    def join(self) -> None:
        if not self.done:
            self.work()
            self.done = True


@dataclass
class HeldHost:
    started: list[HeldWork] = field(default_factory=list)
    now_s: float = 0.0

    def start(self, work: Callable[[], None], _: str) -> HeldWork:
        self.started.append(HeldWork(work))
        return self.started[-1]

    def host(self) -> Host:
        return Host(start=self.start, monotonic=lambda: self.now_s)


def open_store(
    folder: Path, *, held: HeldHost | None = None, map_bytes: int = 1 << 28, **config: int | float
) -> LedgerStore:
    settings = StoreConfig("test", "n1", map_bytes=map_bytes, **config)  # type: ignore[arg-type]
    return LedgerStore(folder, settings, held.host()) if held is not None else LedgerStore(folder, settings)


def write(store: LedgerStore, data: bytes) -> EntryResult:
    return store.apply([LogEntry(store.applied_position + 1, 1, data)])[0]
