"""A consensus engine that a test drives by hand: it decides when, and how, each proposal ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from node.consensus.contract import EngineStatus, ProposalCallback, ProposalOutcome, ProposalStatus, ReadCallback
from node.ledger.entry import Entry, decode_entry
from node.ledger.records import REPLY


@dataclass
class Result:
    position: int
    timestamp_ns: int
    commands: list[object]
    replies: np.ndarray
    pin_tries: list[int]


class HandDriven:
    def __init__(self) -> None:
        self.proposals: list[tuple[Entry, ProposalCallback]] = []
        self.reads: list[ReadCallback] = []
        self.position = 0
        self.is_leader = True

    def propose(self, data: bytes, callback: ProposalCallback) -> None:
        self.proposals.append((decode_entry(data), callback))

    def read_index(self, callback: ReadCallback) -> None:
        self.reads.append(callback)

    def status(self) -> EngineStatus:
        role = "leader" if self.is_leader else "follower"
        return EngineStatus("n1", role, 1, "n1", 0, 0, 0, 0, 2, {}, self.is_leader)

    def end(self, status: ProposalStatus) -> None:
        _, callback = self.proposals.pop(0)
        callback(ProposalOutcome(status))

    def apply(self) -> Entry:
        """Apply the oldest proposal; each reply echoes its transfer's reference as the debit balance."""
        entry, callback = self.proposals.pop(0)
        self.position += 1
        replies = np.zeros(len(entry.transfers), dtype=REPLY)
        replies["position"] = self.position
        replies["offset"] = np.arange(len(replies))
        replies["debit_balance_minor"] = entry.transfers["reference"]
        result = Result(self.position, entry.timestamp_ns, [], replies, [0] * len(entry.payments))
        callback(ProposalOutcome(ProposalStatus.APPLIED, self.position, result))
        return entry
