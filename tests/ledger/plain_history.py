"""All of history in dicts: what LedgerState asks storage for, without storage."""

from __future__ import annotations

import numpy as np

from node.ledger.entry import decode_entry
from node.ledger.history import AppliedBatch, Document, FirstSeen, Int64s, Profile, Remembered
from node.ledger.records import TRANSFER_WORDS
from node.ledger.state import LedgerState
from node.payments.pin_tries import apply_verdicts


class PlainHistory:
    """Implements history.History and history.Facts."""

    def __init__(self) -> None:
        self.ids: dict[tuple[int, int], int] = {}
        self.first: dict[int, FirstSeen] = {}
        self.ended: dict[int, int] = {}
        self.handles: dict[tuple[int, str, str], int] = {}
        self.profiles: dict[int, Profile] = {}
        self.requests: dict[bytes, Remembered] = {}
        self.documents: dict[tuple[str, str], list[Document]] = {}

    def add(self, batch: AppliedBatch) -> None:
        self.ended.update(batch.ended)
        if batch.recorded is None:
            return
        entry = decode_entry(batch.entry)
        words = entry.transfers.copy().view(np.int64).reshape(-1, TRANSFER_WORDS)
        for offset in batch.recorded.tolist():
            reference = batch.position << 16 | offset
            key = (int(words[offset, 0]), int(words[offset, 1]))
            assert key not in self.ids
            self.ids[key] = reference
            outcome = batch.outcomes[offset]
            self.first[reference] = FirstSeen(words[offset], outcome, batch.timestamp_ns, entry.scored)

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        for i in range(len(words)):
            out[i] = self.ids.get((int(words[i, 0]), int(words[i, 1])), 0)

    def first_seen(self, reference: int) -> FirstSeen:
        return self.first[reference]

    def pending_end(self, reference: int) -> int:
        return self.ended.get(reference, 0)

    def account_by_handle(self, ledger: int, key: str, value: str) -> int:
        return self.handles.get((ledger, key, value), 0)

    def remembered(self, request_id: bytes) -> Remembered | None:
        return self.requests.get(request_id)

    def profile(self, account_number: int) -> Profile | None:
        return self.profiles.get(account_number)

    def set_handle(self, ledger: int, key: str, value: str, account_number: int) -> None:
        self.handles[ledger, key, value] = account_number

    def set_profile(self, account_number: int, profile: Profile) -> None:
        self.profiles[account_number] = profile

    def document(self, kind: str, key: str) -> Document | None:
        return self.documents.get((kind, key), [None])[-1]

    def set_document(self, document: Document) -> None:
        self.documents.setdefault((document.kind, document.key), []).append(document)

    def remember(self, request_id: bytes, remembered: Remembered) -> None:
        self.requests[request_id] = remembered


class PlainLedger:
    """The state machine with such a history."""

    def __init__(self) -> None:
        self.state = LedgerState(apply_verdicts)
        self.history = PlainHistory()

    def apply(self, data: bytes) -> AppliedBatch:
        batch = self.state.apply(self.state.position + 1, data, self.history, self.history)
        self.history.add(batch)
        return batch
