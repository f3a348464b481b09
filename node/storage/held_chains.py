"""A chain of raw transfers that the fraud check holds: all of it, from any member, out of its stored batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from node.ledger.records import OutcomeFlag, Records, TransferFlag
from node.storage.batch_codec import OpenBatch


@dataclass(frozen=True, slots=True)
class HeldChain:
    records: Records  # TRANSFER, as the leader wrote them
    position: int
    first_offset: int  # of its first member
    timestamp_ns: int
    model_version: int
    thresholds_version: int

    @property
    def ids(self) -> list[int]:
        lows, highs = self.records["id_lo"].tolist(), self.records["id_hi"].tolist()
        return [high << 64 | low for low, high in zip(lows, highs, strict=True)]

    @property
    def total_minor(self) -> int:
        return int(self.records["amount_minor"].sum())

    @property
    def first_reference(self) -> int:
        return self.position << 16 | self.first_offset


def held_chain_in(opened: OpenBatch, offset: int) -> HeldChain | None:
    """None = this transfer was not held by the fraud check."""
    if not int(opened.outcome_records()["flags"][offset]) & OutcomeFlag.HELD:
        return None
    transfers = opened.entry.transfers
    ends = np.flatnonzero(transfers["flags"] & TransferFlag.LINKED == 0)
    at = int(np.searchsorted(ends, offset))
    first, last = int(ends[at - 1]) + 1 if at else 0, int(ends[at])
    batch, entry = opened.batch, opened.entry
    return HeldChain(
        transfers[first : last + 1].copy(), batch.position, first, batch.timestamp_ns, entry.model_version,
        entry.thresholds_version,
    )  # fmt: skip
