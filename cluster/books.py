"""What `kibubu statement`, `balance --at` and `trial-balance` ask the ledger, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.calls import Caller
from node.ledger.currencies import BY_NUMBER

PAGE_SIZE = 500
LOCAL = timedelta(hours=3)  # days of the books are East African ones
_NS = 1_000_000_000
_PENDING, _POST, _VOID = 2, 4, 8


@dataclass(frozen=True, slots=True)
class Line:
    """One transfer as its account sees it: `amount_minor` below zero went out, 0 = only reserved or released."""

    position: int
    offset: int
    time: datetime  # local
    transfer_id: str
    amount_minor: int
    balance_minor: int
    other_account: int
    other_name: str
    code: int
    note: str


@dataclass(frozen=True, slots=True)
class TrialRow:
    ledger: int
    kind: int
    debits_minor: int
    credits_minor: int
    span_debits_minor: int
    span_credits_minor: int

    @property
    def balance_minor(self) -> int:
        return self.credits_minor - self.debits_minor


def currency_of(ledger: int) -> tuple[str, int]:
    """Letters, and decimals of the unit."""
    known = BY_NUMBER.get(ledger)
    return (known.letters, known.exponent) if known is not None else (str(ledger), 2)


def day_start_ns(day: date) -> int:
    return int((datetime(day.year, day.month, day.day, tzinfo=UTC) - LOCAL).timestamp()) * _NS


def local_time(timestamp_ns: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ns // _NS, UTC) + LOCAL


def statement(
    caller: Caller, account: int, from_ns: int = 0, to_ns: int = 0, rows_max: int | None = None
) -> Iterator[Line]:
    """Newest first."""
    token, told = "", 0
    while rows_max is None or told < rows_max:
        size = PAGE_SIZE if rows_max is None else min(PAGE_SIZE, rows_max - told)
        page = caller.leader(
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).GetStatement,
            ledger_pb2.GetStatementRequest(
                account_number=account, page_size=size, page_token=token, from_time_ns=from_ns, to_time_ns=to_ns
            ),
        )
        names = _names(caller, {_other(stored, account) for stored in page.transfers})
        for stored in page.transfers:
            yield _line(stored, account, names)
        told += len(page.transfers)
        token = page.next_page_token
        if not token:
            return


def _other(stored: ledger_pb2.StoredTransfer, account: int) -> int:
    entry = stored.transfer
    return entry.credit_account if entry.debit_account == account else entry.debit_account


def _names(caller: Caller, numbers: set[int]) -> dict[int, str]:
    if not numbers:
        return {}
    request = ledger_pb2.LookupAccountsRequest(account_numbers=sorted(numbers))
    found = caller.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).LookupAccounts, request)
    return {account.account_number: account.name for account in found.accounts}


def _line(stored: ledger_pb2.StoredTransfer, account: int, names: dict[int, str]) -> Line:
    entry, result = stored.transfer, stored.result
    out = entry.debit_account == account
    notes = {_PENDING: "reserved", _POST: "posted", _VOID: "released"}
    said = [text for flag, text in notes.items() if entry.flags & flag]
    moved = not entry.flags & (_PENDING | _VOID)
    other = _other(stored, account)
    return Line(
        position=result.position,
        offset=result.offset,
        time=local_time(result.timestamp_ns),
        transfer_id=entry.id.hex(),
        amount_minor=(-entry.amount_minor if out else entry.amount_minor) if moved else 0,
        balance_minor=result.debit_balance_minor if out else result.credit_balance_minor,
        other_account=other,
        other_name=names.get(other, ""),
        code=entry.code,
        note=" ".join([*said, entry.narrative]).strip(),
    )


def balance_at(caller: Caller, account: int, time_ns: int) -> int:
    """In minor units, before what was posted at that time or later."""
    token = ""
    while True:
        answer = caller.leader(
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).GetBalanceAt,
            ledger_pb2.GetBalanceAtRequest(account_number=account, time_ns=time_ns, page_token=token),
        )
        token = answer.next_page_token
        if not token:
            return answer.balance_minor


def trial_balance(caller: Caller, day: date | None) -> list[TrialRow]:
    """At the end of a day, and what was posted on it; None = now, and since the beginning of today."""
    start_ns = day_start_ns(day or local_time(int(datetime.now(UTC).timestamp()) * _NS).date())
    end_ns = day_start_ns(day + timedelta(days=1)) if day else 0
    sums: dict[tuple[int, int], list[int]] = {}
    token = ""
    while True:
        page = caller.leader(
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).GetTrialBalance,
            ledger_pb2.GetTrialBalanceRequest(from_time_ns=start_ns, to_time_ns=end_ns, page_token=token),
        )
        for row in page.rows:
            have = sums.setdefault((row.ledger, row.kind), [0, 0, 0, 0])
            more = (row.debits_minor, row.credits_minor, row.span_debits_minor, row.span_credits_minor)
            sums[row.ledger, row.kind] = [a + b for a, b in zip(have, more, strict=True)]
        token = page.next_page_token
        if not token:
            return [TrialRow(*key, *row) for key, row in sorted(sums.items())]
