"""What became of payments of the past, for payments that are about another: whether its money moved, what has been
taken back of it, how what it reserved ended."""

from __future__ import annotations

from base64 import b85decode, b85encode
from typing import Any

from node.ledger import kernel
from node.ledger.records import TransferFlag
from node.ledger.statuses import PaymentStatus
from node.payments.plan import derived_id
from node.storage.ledger_store import LedgerStore, StoredPayment

REVERSALS_OF_A_PAYMENT_MAX = 32
_PENDING = int(TransferFlag.PENDING)
_GONE = (kernel.VOIDED, kernel.EXPIRED)


def id_of(stored: StoredPayment) -> int:
    return int(stored.record["id_hi"]) << 64 | int(stored.record["id_lo"])


def id_as_reference(payment_id: int) -> bytes:
    """A payment's id as the reference of another: 16 bytes as 20 printable ones."""
    return b85encode(payment_id.to_bytes(16, "big"))


def reference_as_id(reference: Any) -> bytes:
    """The 16 bytes of the other payment's id; empty = it is none."""
    try:
        raw = b85decode(bytes(reference))
    except ValueError:
        raw = b""
    return raw if len(raw) == 16 else b""


class PaymentPast:
    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    def payment(self, payment_id: int) -> StoredPayment | None:
        return self._store.lookup_payment(payment_id) if payment_id else None

    def named(self, raw: bytes) -> StoredPayment | None:
        """By an id as requests carry it; anything but 16 bytes is nobody's."""
        return self.payment(int.from_bytes(raw, "big")) if len(raw) == 16 else None

    def end(self, stored: StoredPayment) -> int:
        """How what it reserved ended: kernel.POSTED, VOIDED, EXPIRED; ACTIVE = it still waits; 0 = it reserved nothing,
        or was refused."""
        if not len(stored.legs) or int(stored.legs["status"][0]) or not int(stored.transfers["flags"][0]) & _PENDING:
            return 0
        reference = stored.position << 16 | int(stored.record["first_transfer"])
        return self._store.pending_end(reference) or kernel.ACTIVE

    def moved(self, stored: StoredPayment) -> bool:
        """Its money is where it was sent."""
        if not len(stored.legs) or any(stored.legs["status"].tolist()):
            return False
        if int(stored.record["status"]) == PaymentStatus.OK:
            return True
        return self.end(stored) == kernel.POSTED

    def reversals(self, payment_id: int) -> tuple[int, int]:
        """(how many there were, the sum of those that took or reserved money). The next has that number, and the ledger
        takes each number once, so the sum is what it was when the next is applied."""
        sum_minor = 0
        for number in range(REVERSALS_OF_A_PAYMENT_MAX):
            transfer = self._store.lookup_transfer(derived_id(payment_id, "reversal", number))
            if transfer is None:
                return number, sum_minor
            if int(transfer.outcome["status"]):
                continue
            is_pending = int(transfer.record["flags"]) & _PENDING
            reference = transfer.position << 16 | transfer.offset
            if not is_pending or self._store.pending_end(reference) not in _GONE:
                sum_minor += int(transfer.record["amount_minor"])
        return REVERSALS_OF_A_PAYMENT_MAX, sum_minor
