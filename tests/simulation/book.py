"""A plain second ledger: it adds up what the log says was applied, without the kernel, and compares balances."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from node.ledger.columns import AccountFlag, Column
from node.ledger.records import TransferFlag
from node.storage.ledger_store import LedgerStore

_LIMITED = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)


class Book:
    def __init__(self) -> None:
        self._balance: dict[int, int] = {}
        self._pending: dict[int, tuple[int, int, int]] = {}  # id -> debit, credit, amount
        self._positions: dict[int, list[int]] = {}  # account -> where its balance changed
        self._balances: dict[int, list[int]] = {}

    def apply(self, number: int, record: tuple[Any, ...], position: int) -> None:
        """A transfer that was applied, as records.TRANSFER has it."""
        _, _, debit, credit, amount_minor, pending_lo, pending_hi, *_, flags, _, _ = record
        if flags & TransferFlag.PENDING:
            self._pending[number] = (debit, credit, amount_minor)
            return
        if flags & TransferFlag.VOID:
            return
        if flags & TransferFlag.POST:
            debit, credit, reserved_minor = self._pending.pop(pending_hi << 64 | pending_lo)
            amount_minor = amount_minor or reserved_minor
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
