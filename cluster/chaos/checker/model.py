"""A plain double-entry ledger in ordinary Python: what the outcome of every transfer in the log has to be.

It covers what chaos sends: transfers, linked chains, pending, post, void and time-out, the overdraft rule.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cluster.chaos.checker.records import Records

LINKED, PENDING, POST, VOID = 1, 2, 4, 8
OK, CHAIN_FAILED = 0, 10
PENDING_NOT_FOUND, PENDING_WAS_REFUSED, NOT_PENDING = 60, 61, 62
ALREADY_POSTED, ALREADY_VOIDED, TIMED_OUT, TOO_MUCH = 66, 67, 68, 69
DEBITS_EXCEED_CREDITS = 107
REFUSED_BY_FRAUD, HELD_FOR_REVIEW = 120, 121
GOOD = (OK, HELD_FOR_REVIEW)
FRAUD_HOLDS, FRAUD_REFUSES = (2, 5), 3  # decisions
HELD_S = 86_400
BY_FRAUD_HELD, BY_FRAUD_REFUSED = 1 << 16, 1 << 17  # beside a client's flags
_WAITING, _POSTED, _VOIDED, _EXPIRED = 1, 2, 3, 4
_ENDED = {_POSTED: ALREADY_POSTED, _VOIDED: ALREADY_VOIDED, _EXPIRED: TIMED_OUT}
_SECOND_NS = 1_000_000_000
_NEVER = (1 << 63) - 1
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
            if flags & BY_FRAUD_REFUSED:
                return (REFUSED_BY_FRAUD, 0, 0, 0, 0)
            self._move(number, debit, credit, amount_minor, flags)
        balance, reserved = self.balance_minor, self.reserved_minor
        d, c = balance[debit], balance[credit]
        status = HELD_FOR_REVIEW if flags & BY_FRAUD_HELD else OK
        return (status, d, d - reserved[debit], c, c - reserved[credit])

    def remember(self, number: int, status: int) -> None:
        self._seen[number] = OK if status in GOOD else status

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


@dataclass(slots=True)
class Replayed:
    expected: list[Expected] = field(default_factory=list)  # what each transfer of the log has to answer
    wrong_time_outs: list[str] = field(default_factory=list)
    # Account, place in the order, balance and available balance after it, of each time-out.
    timed_out: list[tuple[int, int, int, int]] = field(default_factory=list)


class _TimeOuts:
    """The nodes' time-outs against those that are due, in the order of time and place."""

    def __init__(self, books: Books, expired: Records, told: Replayed) -> None:
        self._books, self._told = books, told
        self._listed: list[tuple[int, int, int, int]] = expired.tolist()
        self._next = 0
        self._due: list[tuple[int, int, int]] = []  # when, place of the pending transfer, its id
        self.next_position = self._listed[0][0] if self._listed else _NEVER
        self.next_ns = _NEVER

    def wait(self, number: int, order: int, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, order, number))
        self.next_ns = self._due[0][0]

    def upto(self, position: int, timestamp_ns: int) -> None:
        """Everything that timed out up to an entry, whose transfers come after it."""
        while self._next < len(self._listed) and self._listed[self._next][0] <= position:
            at, when_ns, pending_position, offset = self._listed[self._next]
            self._next += 1
            self._take(at, when_ns, pending_position << 16 | offset)
        self.next_position = self._listed[self._next][0] if self._next < len(self._listed) else _NEVER
        while (top := self._top()) is not None and top[0] <= timestamp_ns:
            self._wrong(f"position {position}: what waits since {top[1] >> 16} is due, and has not timed out")
            self._end(position, heapq.heappop(self._due)[2])
        self.next_ns = self._due[0][0] if self._due else _NEVER

    def _take(self, position: int, when_ns: int, order: int) -> None:
        top = self._top()
        if top is None or top[1] != order:
            self._wrong(f"position {position}: {order >> 16} timed out, {top[1] >> 16 if top else 'nothing'} is next")
            return
        if top[0] > when_ns:
            self._wrong(f"position {position}: {order >> 16} timed out {(top[0] - when_ns) / 1e9:.3f} s too early")
        self._end(position, heapq.heappop(self._due)[2])

    def _top(self) -> tuple[int, int, int] | None:
        while self._due and self._books.held[self._due[0][2]].state != _WAITING:
            heapq.heappop(self._due)
        return self._due[0] if self._due else None

    def _end(self, position: int, number: int) -> None:
        books = self._books
        held = books.held[number]
        held.state = _EXPIRED
        books.reserved_minor[held.debit] -= held.amount_minor
        for account in (held.debit, held.credit):
            balance = books.balance_minor[account]
            state = (account, position << 16, balance, balance - books.reserved_minor[account])
            self._told.timed_out.append(state)

    def _wrong(self, text: str) -> None:
        self._told.wrong_time_outs.append(text)


def replay(books: Books, log: Records, expired: Records) -> Replayed:
    """Decides the ordered log again."""
    told = Replayed()
    time_outs = _TimeOuts(books, expired, told)
    flags, timeouts_s = _as_decided(log)
    rows, expected = _rows(log, flags), told.expected
    flags_of, positions, times = flags.tolist(), log["position"].tolist(), log["timestamp_ns"].tolist()
    for account in {*log["debit_account"].tolist(), *log["credit_account"].tolist()}:
        books.open(account)
    timed = set(np.flatnonzero((flags & PENDING != 0) & (timeouts_s != 0)).tolist())
    at, count = 0, len(rows)
    apply, remember = books.apply, books.remember
    while at < count:
        if time_outs.next_position <= positions[at] or time_outs.next_ns <= times[at]:
            time_outs.upto(positions[at], times[at])
        end = at
        if flags_of[at] & LINKED:
            while end + 1 < count and flags_of[end] & LINKED:
                end += 1
            expected += _chain(books, rows[at : end + 1])
        else:
            answer = apply(*rows[at])
            remember(rows[at][0], answer[0])
            expected.append(answer)
        for row in timed.intersection(range(at, end + 1)) if timed else ():
            if expected[row][0] in GOOD:
                order = positions[row] << 16 | int(log["offset"][row])
                time_outs.wait(rows[row][0], order, times[row] + int(timeouts_s[row]) * _SECOND_NS)
        at = end + 1
    time_outs.upto(_NEVER, 0)
    return told


Row = tuple[int, int, int, int, int, int]


def _as_decided(log: Records) -> tuple[Records, Records]:
    """Flags and time-outs as what the fraud check decided makes them."""
    held, refused = np.isin(log["decision"], FRAUD_HOLDS), log["decision"] == FRAUD_REFUSES
    flags = log["flags"].astype(np.int64) | held * (PENDING | BY_FRAUD_HELD) | refused * BY_FRAUD_REFUSED
    return flags, np.where(held, HELD_S, log["timeout_s"])


def _rows(log: Records, flags: Records) -> list[Row]:
    columns = [log[name].tolist() for name in ("id_hi", "id_lo", "debit_account", "credit_account", "amount_minor")]
    columns += [flags.tolist(), *(log[name].tolist() for name in ("pending_id_hi", "pending_id_lo"))]
    return [
        (high << 64 | low, debit, credit, amount, flags, pending_high << 64 | pending_low)
        for high, low, debit, credit, amount, flags, pending_high, pending_low in zip(*columns, strict=True)
    ]


def _chain(books: Books, rows: list[Row]) -> list[Expected]:
    """All or none."""
    answers: list[Expected] = []
    for row in rows:
        answer = books.apply(*row)
        if answer[0] not in GOOD:
            for done in reversed(rows[: len(answers)]):
                books.undo(*done)
            culprit = len(answers)
            answers = [(answer[0] if i == culprit else CHAIN_FAILED, 0, 0, 0, 0) for i in range(len(rows))]
            break
        answers.append(answer)
    for row, answer in zip(rows, answers, strict=True):
        books.remember(row[0], answer[0])
    return answers
