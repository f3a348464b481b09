"""The pinned pysyncobj. Its private names are overridden (raft_state.py and the layers above it), so only the source
that was studied may run: each file is checked before it is imported. Its module globals for time, randomness, journal
and poller are bound to the engine that steps on the calling thread, so that several engines (a simulator) can live in
one process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import threading
from pathlib import Path
from typing import Any

from node.consensus.contract import Clock

VERSION = "0.3.17"
SOURCES_SHA256 = {
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
}


class UnexpectedEngineError(ImportError):
    """The installed pysyncobj is not the one whose hazards are guarded against."""


def check_sources(folder: Path) -> None:
    for name, expected in SOURCES_SHA256.items():
        actual = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if actual != expected:
            raise UnexpectedEngineError(f"pysyncobj {name} has sha256 {actual}, pinned is {expected} ({VERSION})")


def _checked_folder() -> Path:
    spec = importlib.util.find_spec("pysyncobj")
    if spec is None or spec.origin is None:
        raise UnexpectedEngineError(f"pysyncobj {VERSION} is not installed")
    folder = Path(spec.origin).parent
    check_sources(folder)
    return folder


_checked_folder()

import pysyncobj.syncobj as _syncobj  # noqa: E402
from pysyncobj.config import SyncObjConf  # noqa: E402
from pysyncobj.journal import Journal  # noqa: E402
from pysyncobj.node import Node  # noqa: E402
from pysyncobj.syncobj import _RAFT_STATE as RAFT_STATE  # noqa: E402
from pysyncobj.syncobj import SyncObj  # noqa: E402
from pysyncobj.transport import Transport  # noqa: E402

__all__ = ["RAFT_STATE", "Journal", "Node", "SyncObj", "SyncObjConf", "Transport", "bind"]


class _Stepping(threading.local):
    clock: Clock
    randomness: random.Random


_stepping = _Stepping()


def bind(clock: Clock, randomness: random.Random) -> None:
    """From here on, pysyncobj code on this thread sees this clock and this randomness."""
    _stepping.clock = clock
    _stepping.randomness = randomness


class _Randomness:
    def random(self) -> float:
        return _stepping.randomness.random()


class _NoPoller:
    """The engine waits by itself; pysyncobj must never."""

    def poll(self, timeout: float) -> None:
        return None


def _given_journal(journal: Any) -> Any:
    return journal


def _no_poller(kind: str) -> _NoPoller:
    return _NoPoller()


def _now() -> float:
    return _stepping.clock.monotonic()


_syncobj.monotonicTime = _now
_syncobj.random = _Randomness()
_syncobj.createJournal = _given_journal
_syncobj.createPoller = _no_poller
_syncobj.PIPE_NOTIFIER_ENABLED = False
