"""The last payments of an account, newest first: when, with whom, and what each moved in all, its fee included."""

from __future__ import annotations

from kibubu.payments.v1 import payments_pb2

from node.ledger.records import TransferFlag, reference_of
from node.service.limits import RECENT_PAYMENTS_MAX, RECENT_WALK_MAX
from node.service.payment_parties import PaymentParties
from node.storage.ledger_store import LedgerStore
from node.storage.replies import StoredTransfer

_NOT_MOVED = int(TransferFlag.PENDING | TransferFlag.VOID)


def recent_payments(
    store: LedgerStore, parties: PaymentParties, account: int, count: int
) -> list[payments_pb2.RecentPayment]:
    """What only reserved money is left out until it is posted. A look back ends after RECENT_WALK_MAX transfers."""
    found: list[payments_pb2.RecentPayment] = []
    groups: list[int] = []
    before = walked = 0
    while walked < RECENT_WALK_MAX:
        page = store.statement(account, before, RECENT_PAYMENTS_MAX)
        for stored in page:
            if int(stored.record["flags"]) & _NOT_MOVED:
                continue
            group = int(stored.record["group_id_hi"]) << 64 | int(stored.record["group_id_lo"])
            if group and groups and groups[-1] == group:
                _add(found[-1], stored, account, parties)
            elif len(found) == count:
                return found
            else:
                groups.append(group)
                found.append(payments_pb2.RecentPayment(timestamp_ns=stored.timestamp_ns))
                _add(found[-1], stored, account, parties)
        if len(page) < RECENT_PAYMENTS_MAX:
            break
        walked += len(page)
        before = reference_of(page[-1].position, page[-1].offset)
    return found


def _add(payment: payments_pb2.RecentPayment, stored: StoredTransfer, account: int, parties: PaymentParties) -> None:
    """Legs come last first, so the principal, which says with whom, is the last to be added."""
    pays = int(stored.record["debit_account"]) == account
    amount_minor = int(stored.record["amount_minor"])
    payment.amount_minor += -amount_minor if pays else amount_minor
    payment.other_name = parties.name_of(int(stored.record["credit_account" if pays else "debit_account"]))
