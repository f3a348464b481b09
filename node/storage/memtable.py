"""What was applied since a checkpoint and is not on disk yet. Two of them exist at most: one that grows and one that
is being written."""

from __future__ import annotations

from dataclasses import dataclass, field

from node.ledger.entry import decode_entry
from node.ledger.history import AppliedBatch, Document, Profile, Remembered
from node.ledger.records import reference_of
from node.ledger.tables import IdTable


@dataclass(slots=True)
class Memtable:
    ids: IdTable
    batches: dict[int, AppliedBatch] = field(default_factory=dict)
    payments: dict[int, int] = field(default_factory=dict)  # payment id -> reference
    handles: dict[tuple[int, str, str], int] = field(default_factory=dict)
    profiles: dict[int, Profile] = field(default_factory=dict)
    requests: dict[bytes, Remembered] = field(default_factory=dict)
    documents: dict[tuple[str, str], list[Document]] = field(default_factory=dict)  # versions, oldest first
    documents_set: int = 0
    ended: dict[int, int] = field(default_factory=dict)  # pending reference -> state in which it ended
    transfers: int = 0
    bytes_held: int = 0

    # Facts, as commands leave them.

    def set_handle(self, ledger: int, key: str, value: str, account_number: int) -> None:
        self.handles[ledger, key, value] = account_number

    def set_profile(self, account_number: int, profile: Profile) -> None:
        self.profiles[account_number] = profile

    def set_document(self, document: Document) -> None:
        self.documents.setdefault((document.kind, document.key), []).append(document)
        self.documents_set += 1

    def remember(self, request_id: bytes, remembered: Remembered) -> None:
        self.requests[request_id] = remembered

    def add(self, batch: AppliedBatch) -> None:
        self.batches[batch.position] = batch
        self.transfers += len(batch.outcomes)
        self.bytes_held += len(batch.entry) + batch.outcomes.nbytes
        self.note(batch)

    def note(self, batch: AppliedBatch) -> None:
        """What is looked up by other keys than position and transfer id. The first payment of an id stands."""
        self.ended.update(batch.ended)
        if batch.entry:
            payments = decode_entry(batch.entry).payments
            if len(payments):
                lows, highs = payments["id_lo"].tolist(), payments["id_hi"].tolist()
                for offset, (low, high) in enumerate(zip(lows, highs, strict=True)):
                    self.payments.setdefault(high << 64 | low, reference_of(batch.position, offset))
