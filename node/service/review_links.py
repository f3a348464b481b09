"""Who paid whom around a held payment: its two accounts, whom they dealt with lately, and these among each other. So an
analyst sees that a payee collects from strangers, or that payer and payee have long shared a shop."""

from __future__ import annotations

from collections.abc import Iterable

from kibubu.review.v1 import review_pb2

from node.ledger.columns import AccountKind, Column
from node.ledger.records import TransferFlag
from node.ledger.statuses import TransferCode
from node.service.limits import REVIEW_HISTORY_MAX, REVIEW_NEIGHBOUR_HISTORY_MAX, REVIEW_NEIGHBOURS_MAX
from node.storage.ledger_store import LedgerStore, StoredTransfer

_NOT_PEOPLES = (TransferCode.FEE, TransferCode.EXCISE_DUTY, TransferCode.COMMISSION)
_THE_OPERATORS = (AccountKind.ISSUANCE, AccountKind.FEE_REVENUE, AccountKind.EXCISE_DUTY, AccountKind.AIRTIME)


def links_around(store: LedgerStore, payer: int, payee: int) -> list[review_pb2.Link]:
    """Each pair once in each direction, the largest sums first."""
    transfers = _transfers(store, (payer, payee), REVIEW_HISTORY_MAX)
    shown = {payer, payee}
    for account in (payer, payee):
        shown |= _neighbours(store, transfers.values(), account, REVIEW_NEIGHBOURS_MAX)
    transfers |= _transfers(store, shown - {payer, payee}, REVIEW_NEIGHBOUR_HISTORY_MAX)
    links: dict[tuple[int, int], review_pb2.Link] = {}
    for stored in transfers.values():
        debit, credit = int(stored.record["debit_account"]), int(stored.record["credit_account"])
        if debit not in shown or credit not in shown:
            continue
        link = links.setdefault((debit, credit), review_pb2.Link(from_account=debit, to_account=credit))
        link.payments += 1
        link.amount_minor += int(stored.record["amount_minor"])
        link.last_time_ns = max(link.last_time_ns, stored.timestamp_ns)
    for link in links.values():
        link.from_name, link.to_name = _name(store, link.from_account), _name(store, link.to_account)
    return sorted(links.values(), key=lambda link: -link.amount_minor)


def _transfers(store: LedgerStore, accounts: Iterable[int], limit: int) -> dict[tuple[int, int], StoredTransfer]:
    """Of people, by their ids; what two accounts share is there once."""
    return {
        (int(stored.record["id_hi"]), int(stored.record["id_lo"])): stored
        for account in accounts
        for stored in store.statement(account, 0, limit)
        if int(stored.record["code"]) not in _NOT_PEOPLES
        and not int(stored.record["flags"]) & (TransferFlag.POST | TransferFlag.VOID)
    }


def _neighbours(store: LedgerStore, transfers: Iterable[StoredTransfer], account: int, limit: int) -> set[int]:
    """The latest first; the operator's own accounts know everybody and say nothing."""
    found: list[int] = []
    for stored in sorted(transfers, key=lambda one: -one.timestamp_ns):
        pair = int(stored.record["debit_account"]), int(stored.record["credit_account"])
        if account in pair:
            other = pair[0] if pair[1] == account else pair[1]
            if other not in found and int(store.columns[other, Column.KIND]) not in _THE_OPERATORS:
                found.append(other)
    return set(found[:limit])


def _name(store: LedgerStore, account: int) -> str:
    profile = store.profile(account)
    return profile.name if profile is not None and profile.name else f"account {account}"
