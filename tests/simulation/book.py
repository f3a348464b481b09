"""A plain second ledger: it adds up what the log says was applied, without the kernel, and compares balances."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from node.ledger.columns import AccountFlag, Column
from node.ledger.records import TransferFlag
from node.ledger.statuses import COUNTED_CODES
from node.ledger.usage import TIER_MASK
from node.storage.ledger_store import LedgerStore

DAY_LIMIT_MINOR, UTC_OFFSET_S = 1_200_000, 3 * 3_600  # of the customers' tier
_LIMITED = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)


class Book:
    def __init__(self) -> None:
        self._balance: dict[int, int] = {}
        self._pending: dict[int, tuple[int, int, int, int, int]] = {}  # id -> debit, credit, amount, code, local day
        self._paid: dict[tuple[int, int], int] = {}  # account and local day -> what it paid, by the day of reserving
        self._paid_now: set[tuple[int, int]] = set()  # in the newest entry
        self._positions: dict[int, list[int]] = {}  # account -> where its balance changed
        self._balances: dict[int, list[int]] = {}

    def apply(self, number: int, record: tuple[Any, ...], position: int, timestamp_ns: int) -> None:
        """A transfer that was applied, as records.TRANSFER has it."""
        _, _, debit, credit, amount_minor, pending_lo, pending_hi, *_, code, flags, _, _ = record
        day = (timestamp_ns // 10**9 + UTC_OFFSET_S) // 86_400
        if flags & TransferFlag.PENDING:
            self._pending[number] = (debit, credit, amount_minor, code, day)
            return
        if flags & TransferFlag.VOID:
            return
        if flags & TransferFlag.POST:
            debit, credit, reserved_minor, code, day = self._pending.pop(pending_hi << 64 | pending_lo)
            amount_minor = amount_minor or reserved_minor
        if code in COUNTED_CODES:
            self._paid[debit, day] = self._paid.get((debit, day), 0) + amount_minor
            self._paid_now.add((debit, day))
        self._move(debit, -amount_minor, position)
        self._move(credit, amount_minor, position)

    def _move(self, account: int, amount_minor: int, position: int) -> None:
        balance_minor = self._balance.get(account, 0) + amount_minor
        self._balance[account] = balance_minor
        positions, balances = self._positions.setdefault(account, []), self._balances.setdefault(account, [])
        if positions and positions[-1] == position:
            balances[-1] = balance_minor
        else:
            positions.append(position)
            balances.append(balance_minor)

    def compare(self, position: int, store: LedgerStore) -> Iterator[str]:
        """Problems with the kernel's columns after the entry at `position`."""
        rows = store.columns[1 : store.accounts_total + 1]
        debits, credits_ = rows[:, Column.DEBITS_POSTED].tolist(), rows[:, Column.CREDITS_POSTED].tolist()
        if sum(debits) != sum(credits_):
            yield f"debits {sum(debits)} and credits {sum(credits_)} differ"
        reserved, flags = rows[:, Column.DEBITS_PENDING].tolist(), rows[:, Column.FLAGS].tolist()
        for account, day in self._paid_now:
            if store.columns[account, Column.TIER] & TIER_MASK and self._paid[account, day] > DAY_LIMIT_MINOR:
                yield f"account {account} has paid {self._paid[account, day]} on day {day}, over its tier's limit"
        self._paid_now.clear()
        for account, (debit, credit, held, flag) in enumerate(zip(debits, credits_, reserved, flags, strict=True), 1):
            if credit - debit != self._balance.get(account, 0):
                yield f"account {account} has {credit - debit}, its transfers add up to {self._balance.get(account, 0)}"
            if flag & _LIMITED and credit - debit - held < 0:
                yield f"account {account} has spent more than it had: {credit - debit - held}"

    def had_balance(self, account: int, balance_minor: int, since: int) -> bool:
        """At `since` or at any later position."""
        positions, balances = self._positions.get(account, []), self._balances.get(account, [])
        at = bisect_right(positions, since) - 1
        return balance_minor in (balances[at:] if at >= 0 else [0, *balances])

    def last_change(self, account: int, upto: int) -> int:
        """The position of the account's newest change of balance at or before `upto`, 0 = none."""
        positions = self._positions.get(account, [])
        at = bisect_right(positions, upto) - 1
        return positions[at] if at >= 0 else 0
