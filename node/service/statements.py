"""Statements of a span of time, the balance at a moment, the trial balance. Each call does a bounded part of the work,
in a thread, and says where the next goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from node.ledger.columns import Column
from node.ledger.history import Int64s
from node.ledger.records import reference_of
from node.service.limits import STATEMENT_WALK_MAX, TRIAL_BALANCE_PAGE_BYTES_MAX
from node.storage.ledger_store import LedgerStore, StoredTransfer
from node.storage.postings import postings_of

_KINDS_MAX = 1 << 16
_SUMS = ("debits_minor", "credits_minor", "span_debits_minor", "span_credits_minor")


@dataclass(frozen=True, slots=True)
class StatementPage:
    transfers: list[StoredTransfer]
    next_reference: int  # of the last transfer that was looked at; 0 = the end


def statement_page(store: LedgerStore, account: int, before: int, size: int, from_ns: int, to_ns: int) -> StatementPage:
    """Newest first, of from_ns <= time < to_ns (0 = without an end). Raises UnknownReferenceError."""
    page: list[StoredTransfer] = []
    walked = 0
    while len(page) < size and walked < STATEMENT_WALK_MAX:
        wanted = size - len(page)
        part = store.statement(account, before, wanted)
        for stored in part:
            if stored.timestamp_ns < from_ns:
                return StatementPage(page, 0)
            if not to_ns or stored.timestamp_ns < to_ns:
                page.append(stored)
        if len(part) < wanted:
            return StatementPage(page, 0)
        walked += len(part)
        before = reference_of(part[-1].position, part[-1].offset)
    return StatementPage(page, before)


def balance_at(store: LedgerStore, account: int, before: int, time_ns: int) -> ledger_pb2.GetBalanceAtResponse:
    """The balance that the account's last transfer before time_ns left. Raises UnknownReferenceError."""
    found = statement_page(store, account, before, 1, 0, time_ns)
    if not found.transfers:
        return ledger_pb2.GetBalanceAtResponse(next_page_token=str(found.next_reference or ""))
    (stored,) = found.transfers
    side = "debit" if int(stored.record["debit_account"]) == account else "credit"
    return ledger_pb2.GetBalanceAtResponse(
        balance_minor=int(stored.outcome[f"{side}_balance_minor"]),
        position=stored.position,
        offset=stored.offset,
        timestamp_ns=stored.timestamp_ns,
    )


@dataclass(frozen=True, slots=True)
class TrialPage:
    """Which part of the log a page takes: from `next_position` on, of a log that ended at `as_of`; 0 = the first."""

    next_position: int = 0
    as_of: int = 0

    @classmethod
    def parse(cls, token: str) -> TrialPage | None:
        """None = no token of this service."""
        if not token:
            return cls()
        numbers = token.split(".")
        if len(token) > 41 or len(numbers) != 2 or not all(n.isascii() and n.isdecimal() for n in numbers):
            return None
        page = cls(*map(int, numbers))
        return page if 0 < page.next_position <= page.as_of else None

    def __str__(self) -> str:
        return f"{self.next_position}.{self.as_of}" if self.next_position <= self.as_of else ""


def trial_balance(store: LedgerStore, at: TrialPage, from_ns: int, to_ns: int) -> ledger_pb2.GetTrialBalanceResponse:
    """The sums of now as the first page; then, forwards, what was posted after to_ns taken off and what was posted
    from from_ns on told as the span's."""
    if not at.next_position:
        position, rows = store.posted_by_account()
        first = store.position_at(from_ns or to_ns) if from_ns or to_ns else position + 1
        sums = _by_kind(rows[:, 0], rows[:, 1], {"debits_minor": rows[:, 2], "credits_minor": rows[:, 3]})
        return _response(sums, TrialPage(first, position))
    totals: dict[tuple[int, int], dict[str, int]] = {}
    batches = store.export(at.next_position, at.as_of, TRIAL_BALANCE_PAGE_BYTES_MAX)
    for batch in batches:
        postings = postings_of(batch, store.first_seen)
        later = bool(to_ns) and batch.timestamp_ns >= to_ns
        for column, name in ((0, "debits_minor"), (1, "credits_minor")):
            numbers, amounts = postings[:, column], postings[:, 2]
            of_accounts = store.columns[numbers]
            change = {name: -amounts} if later else {f"span_{name}": amounts}
            _add(totals, _by_kind(of_accounts[:, Column.LEDGER], of_accounts[:, Column.KIND], change))
    return _response(totals, TrialPage(at.next_position + len(batches), at.as_of))


def _by_kind(ledgers: Int64s, kinds: Int64s, columns: dict[str, Int64s]) -> dict[tuple[int, int], dict[str, int]]:
    keys, places = np.unique(ledgers * _KINDS_MAX + kinds, return_inverse=True)
    sums = {name: np.zeros(len(keys), dtype=np.int64) for name in columns}
    for name, amounts in columns.items():
        np.add.at(sums[name], places, amounts)
    return {
        divmod(key, _KINDS_MAX): {name: int(sums[name][at]) for name in columns} for at, key in enumerate(keys.tolist())
    }


def _add(totals: dict[tuple[int, int], dict[str, int]], more: dict[tuple[int, int], dict[str, int]]) -> None:
    for key, sums in more.items():
        row = totals.setdefault(key, dict.fromkeys(_SUMS, 0))
        for name, amount_minor in sums.items():
            row[name] += amount_minor


def _response(
    totals: dict[tuple[int, int], dict[str, int]], following: TrialPage
) -> ledger_pb2.GetTrialBalanceResponse:
    rows = [
        ledger_pb2.TrialBalanceRow(ledger=ledger, kind=kind, **sums) for (ledger, kind), sums in sorted(totals.items())
    ]
    return ledger_pb2.GetTrialBalanceResponse(rows=rows, next_page_token=str(following), as_of_position=following.as_of)
