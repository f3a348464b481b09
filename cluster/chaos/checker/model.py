"""A plain double-entry ledger in ordinary Python: what the outcome of every transfer in the log has to be.

It covers what chaos sends: transfers, linked chains, pending, post and void without time-outs, the overdraft rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.chaos.checker.records import Records

LINKED, PENDING, POST, VOID = 1, 2, 4, 8
OK, CHAIN_FAILED = 0, 10
PENDING_NOT_FOUND, PENDING_WAS_REFUSED, NOT_PENDING = 60, 61, 62
ALREADY_POSTED, ALREADY_VOIDED, TOO_MUCH = 66, 67, 69
DEBITS_EXCEED_CREDITS = 107
_WAITING, _POSTED, _VOIDED = 1, 2, 3
_ENDED = {_POSTED: ALREADY_POSTED, _VOIDED: ALREADY_VOIDED}
Expected = tuple[int, int, int, int, int]  # status, then the four balances; zeros when refused


@dataclass(slots=True)
class Held:
    debit: int
    credit: int
    amount_minor: int
    state: int = _WAITING


class Books:
    def __init__(self, guarded: frozenset[int], opening_minor: Mapping[int, int]) -> None:
        self._guarded = guarded
        self.balance_minor: dict[int, int] = dict(opening_minor)
        self.reserved_minor: dict[int, int] = dict.fromkeys(opening_minor, 0)
        self.held: dict[int, Held] = {}
        self._seen: dict[int, int] = {}  # id of every decided transfer: its status

    def open(self, account: int) -> None:
        if account not in self.balance_minor:
            self.balance_minor[account] = self.reserved_minor[account] = 0

    def apply(self, number: int, debit: int, credit: int, amount_minor: int, flags: int, pending: int) -> Expected:
        """Decide one transfer outside of any chain, or one member of a chain."""
        if flags & (POST | VOID):
            held = self.held.get(pending)
            status = self._check_end(held, pending, amount_minor, flags)
            if status or held is None:
                return (status, 0, 0, 0, 0)
            self._end(held, (amount_minor or held.amount_minor) if flags & POST else 0, flags)
            debit, credit = held.debit, held.credit
        else:
            if debit in self._guarded and self.balance_minor[debit] - self.reserved_minor[debit] < amount_minor:
                return (DEBITS_EXCEED_CREDITS, 0, 0, 0, 0)
            self._move(number, debit, credit, amount_minor, flags)
        balance, reserved = self.balance_minor, self.reserved_minor
        d, c = balance[debit], balance[credit]
        return (OK, d, d - reserved[debit], c, c - reserved[credit])

    def remember(self, number: int, status: int) -> None:
        self._seen[number] = status

    def _move(self, number: int, debit: int, credit: int, amount_minor: int, flags: int) -> None:
        if flags & PENDING:
            self.reserved_minor[debit] += amount_minor
            self.held[number] = Held(debit, credit, amount_minor)
        else:
            self.balance_minor[debit] -= amount_minor
            self.balance_minor[credit] += amount_minor

    def _check_end(self, held: Held | None, pending: int, amount_minor: int, flags: int) -> int:
        if held is None:
            seen = self._seen.get(pending)
            return PENDING_NOT_FOUND if seen is None else PENDING_WAS_REFUSED if seen else NOT_PENDING
        if held.state != _WAITING:
            return _ENDED[held.state]
        return TOO_MUCH if flags & POST and amount_minor > held.amount_minor else OK

    def _end(self, held: Held, posted_minor: int, flags: int) -> None:
        self.reserved_minor[held.debit] -= held.amount_minor
        self.balance_minor[held.debit] -= posted_minor
        self.balance_minor[held.credit] += posted_minor
        held.state = _POSTED if flags & POST else _VOIDED

    def undo(self, number: int, debit: int, credit: int, amount_minor: int, flags: int, pending: int) -> None:
        if flags & (POST | VOID):
            held = self.held[pending]
            posted_minor = (amount_minor or held.amount_minor) if flags & POST else 0
            self.reserved_minor[held.debit] += held.amount_minor
            self.balance_minor[held.debit] += posted_minor
            self.balance_minor[held.credit] -= posted_minor
            held.state = _WAITING
        elif flags & PENDING:
            self.reserved_minor[debit] -= amount_minor
            del self.held[number]
        else:
            self.balance_minor[debit] += amount_minor
            self.balance_minor[credit] -= amount_minor


def replay(books: Books, log: Records) -> list[Expected]:
    """What each transfer of the ordered log has to answer."""
    rows = _rows(log)
    expected: list[Expected] = []
    flags_of = log["flags"].tolist()
    for account in {*log["debit_account"].tolist(), *log["credit_account"].tolist()}:
        books.open(account)
    at, count = 0, len(rows)
    apply, remember = books.apply, books.remember
    while at < count:
        if flags_of[at] & LINKED:
            end = at
            while end + 1 < count and flags_of[end] & LINKED:
                end += 1
            expected += _chain(books, rows[at : end + 1])
            at = end + 1
            continue
        row = rows[at]
        answer = apply(*row)
        remember(row[0], answer[0])
        expected.append(answer)
        at += 1
    return expected


Row = tuple[int, int, int, int, int, int]


def _rows(log: Records) -> list[Row]:
    columns = [log[name].tolist() for name in ("id_hi", "id_lo", "debit_account", "credit_account", "amount_minor")]
    columns += [log[name].tolist() for name in ("flags", "pending_id_hi", "pending_id_lo")]
    return [
        (high << 64 | low, debit, credit, amount, flags, pending_high << 64 | pending_low)
        for high, low, debit, credit, amount, flags, pending_high, pending_low in zip(*columns, strict=True)
    ]


def _chain(books: Books, rows: list[Row]) -> list[Expected]:
    """All or none."""
    answers: list[Expected] = []
    for row in rows:
        answer = books.apply(*row)
        if answer[0] != OK:
            for done in reversed(rows[: len(answers)]):
                books.undo(*done)
            culprit = len(answers)
            answers = [(answer[0] if i == culprit else CHAIN_FAILED, 0, 0, 0, 0) for i in range(len(rows))]
            break
        answers.append(answer)
    for row, answer in zip(rows, answers, strict=True):
        books.remember(row[0], answer[0])
    return answers
