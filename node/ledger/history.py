"""What a state transition may ask of the past, and what it leaves: the line between the pure ledger and storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from node.ledger.statuses import CommandStatus

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    status: CommandStatus
    account_number: int  # of a document: its version
    position: int
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    handles: tuple[tuple[str, str], ...]
    language: str = ""  # of its owner, as ISO 639 has it; empty = none chosen


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document; versions of a kind and key count from 1, and none is ever taken back."""

    kind: str
    key: str
    version: int
    body: bytes
    author: str
    position: int
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of a command, with the hash of what was asked."""

    content_hash: bytes  # 16 bytes
    outcome: CommandOutcome


@dataclass(slots=True)
class AppliedBatch:
    """One log entry and all that came of it."""

    position: int
    timestamp_ns: int
    entry: bytes
    outcomes: Int64s  # (n, 8)
    expired: tuple[int, ...]  # references of the pending transfers whose time was up
    chain_hash: bytes
    command_outcomes: list[CommandOutcome] = field(default_factory=list)
    pin_tries: list[int] = field(default_factory=list)
    first_seen: Int64s | None = None  # of duplicates: reference of the first, else 0
    first_timestamps_ns: dict[int, int] = field(default_factory=dict)  # of duplicates, by reference
    recorded: Int64s | None = None  # offsets of the transfers whose ids are new
    ended: list[tuple[int, int]] = field(default_factory=list)  # (pending reference, state) of what ended here


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """A stored transfer, as needed to answer a retry or to end a pending one."""

    words: Int64s  # 16
    outcome: Int64s  # 8
    timestamp_ns: int
    scored: bool = False  # its entry has HeaderFlag.SCORED


class History(Protocol):
    """Lookups behind the state: memory first, then disk."""

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        """Fill `out` (zero on entry) with the reference of each transfer's id where it was recorded before; ids that
        the state's own table holds may be left out, since it looks there itself."""
        ...

    def first_seen(self, reference: int) -> FirstSeen:
        """Raises BrokenHistoryError when the reference leads nowhere."""
        ...

    def pending_end(self, reference: int) -> int:
        """The state in which a pending transfer ended, 0 = it has not."""
        ...

    def account_by_handle(self, ledger: int, key: str, value: str) -> int: ...

    def remembered(self, request_id: bytes) -> Remembered | None: ...

    def profile(self, account_number: int) -> Profile | None: ...

    def document(self, kind: str, key: str) -> Document | None:
        """The version in force."""
        ...


class Facts(Protocol):
    """Where commands leave what is not a column."""

    def set_handle(self, ledger: int, key: str, value: str, account_number: int) -> None: ...

    def set_profile(self, account_number: int, profile: Profile) -> None: ...

    def set_document(self, document: Document) -> None: ...

    def remember(self, request_id: bytes, remembered: Remembered) -> None: ...


class BrokenHistoryError(Exception):
    """Stored data contradicts itself: the node must stop."""
