"""The model, the compiled ledger, and the compiled ledger over a real LMDB store, side by side: every step goes into
all three, and after every step they must say the same."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from node.consensus.contract import LogEntry
from node.ledger import usage
from node.ledger.columns import Column
from node.ledger.history import CommandOutcome
from node.ledger.records import OUTCOME, OutcomeFlag, Records
from node.ledger.statuses import CommandStatus, Status
from node.storage.ledger_store import EntryResult, LedgerStore, StoreConfig
from tests.ledger import building
from tests.ledger.building import START_NS, commands_entry, create, tiers_document, transfers_entry
from tests.ledger.model import Account, Answer, Counted, Model, Tier, Transfer
from tests.ledger.plain_history import PlainLedger

COLUMNS = {
    "ledger": Column.LEDGER,
    "flags": Column.FLAGS,
    "overdraft_limit": Column.OVERDRAFT_LIMIT,
    "debits_posted": Column.DEBITS_POSTED,
    "credits_posted": Column.CREDITS_POSTED,
    "debits_pending": Column.DEBITS_PENDING,
    "credits_pending": Column.CREDITS_PENDING,
    "last": Column.LAST_REFERENCE,
}
PAGE = 3  # of statements: small, so that every history takes several


class Twins:
    def __init__(self, folder: Path, *, model: Model | None = None, checkpoint_transfers_max: int = 400_000) -> None:
        self.folder = folder
        self.config = StoreConfig("test", "n1", map_bytes=1 << 28, checkpoint_transfers_max=checkpoint_transfers_max)
        self.model = model or Model()
        self.plain = PlainLedger()
        self.store = LedgerStore(folder, self.config)
        self.log: list[bytes] = []
        self.now_ns = START_NS

    # --- steps ----------------------------------------------------------------------------------------------------

    def create_account(self, ledger: int, flags: int = 0, overdraft_limit: int = 0) -> int:
        outcome = self._command(create(ledger, flags=flags, overdraft_limit_minor=overdraft_limit))
        assert outcome.status is CommandStatus.OK
        self.model.create_account(outcome.account_number, ledger, flags, overdraft_limit)
        return outcome.account_number

    def change(self, command: Any) -> None:
        """Set flags, tier or the overdraft limit of an account that exists."""
        outcome = self._command(command)
        if command.HasField("set_tier"):
            self.model.accounts[command.set_tier.account_number].tier = command.set_tier.tier
            done = True
        elif command.HasField("set_flags"):
            done = self.model.set_flags(command.set_flags.account_number, command.set_flags.flags)
        else:
            action = command.set_overdraft_limit
            done = self.model.set_overdraft_limit(action.account_number, action.overdraft_limit_minor)
        assert (outcome.status is CommandStatus.OK) == done, outcome
        self._compare_columns()

    def tiers(self, tiers: dict[int, Tier]) -> None:
        assert self._command(building.tiers(tiers_document(tiers))).status is CommandStatus.OK
        self.model.tiers = tiers

    def transfers(self, records: list[Records], *, scored: bool = False) -> list[Answer]:
        """`scored`: these are records as a leader has written them after the fraud check."""
        data = transfers_entry(records, self.now_ns, scored=scored)
        result, answers = self._enter(data, records, scored=scored)
        _assert_same("reply", [_numbers(reply) for reply in result.replies], [_as_reply(a) for a in answers])
        self._compare_columns()
        return answers

    def no_op(self) -> None:
        self.model.no_op()
        self.plain.apply(b"")
        self._store_apply(b"")

    def wait(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds

    def checkpoint(self, *, wait: bool) -> None:
        self.store.checkpoint(wait=wait)

    def restart(self) -> None:
        """In good order: what is in memory is written first."""
        self.store.close()
        self._open()

    def crash(self) -> None:
        """Memory is lost; the log brings back what the last checkpoint does not have."""
        writer = self.store._writer
        if writer is not None:
            writer.join()
        self.store._db.close()
        self._open()

    def _open(self) -> None:
        self.store = LedgerStore(self.folder, self.config)
        for data in self.log[self.store.applied_position :]:
            self.store.apply([LogEntry(self.store.applied_position + 1, 1, data)])
        assert self.store.chain_hash == self.plain.state.chain_hash
        self._compare_columns()

    def _command(self, command: Any) -> CommandOutcome:
        result, _ = self._enter(commands_entry([command], self.now_ns), [])
        return result.commands[0]

    def _enter(self, data: bytes, records: list[Records], *, scored: bool = False) -> tuple[EntryResult, list[Answer]]:
        expired = self.model.next_entry(self.now_ns)
        answers = self.model.transfers([Transfer.of(record[0], scored=scored) for record in records])
        batch = self.plain.apply(data)
        assert list(batch.expired) == expired
        outcomes = batch.outcomes.view(OUTCOME).reshape(-1)
        _assert_same("outcome", [_numbers(outcome) for outcome in outcomes], [_as_outcome(a) for a in answers])
        return self._store_apply(data), answers

    def _store_apply(self, data: bytes) -> EntryResult:
        self.log.append(data)
        result = self.store.apply([LogEntry(len(self.log), 1, data)])[0]
        assert self.store.chain_hash == self.plain.state.chain_hash
        assert self.store.state_hash() == self.plain.state.state_hash()
        return result

    # --- comparisons ----------------------------------------------------------------------------------------------

    def _compare_columns(self) -> None:
        for columns in (self.plain.state.columns, self.store.columns):
            for number, account in self.model.accounts.items():
                found = {name: int(columns[number, column]) for name, column in COLUMNS.items()}
                expected = {name: int(getattr(account, name)) for name in COLUMNS}
                assert found == expected, f"account {number}: the ledger says {found}, the model {expected}"
            _assert_conserved(columns)
            self._compare_usage(columns)

    def _compare_usage(self, columns: Any) -> None:
        """What counts now; sums of days and months that are over may stand in the rows as they like."""
        for number, account in self.model.accounts.items():
            row, today = columns[number], self.model.today(account)
            assert int(row[Column.TIER]) & 0xFF == account.tier
            last = date(1970, 1, 1) + timedelta(days=int(usage.last_day(row[Column.TIER])))
            for period, minor in zip(("day", "week", "month"), usage.used(columns, number), strict=True):
                is_now = Account(0, counted=[Counted(last, 1)]).used(today, period)
                found, expected = int(minor) * is_now, account.used(today, period)
                assert found == expected, f"account {number} has used {found} of its {period}, the model {expected}"

    def check_histories(self) -> None:
        """Statements along the links, page by page; lookups by id; and the store's own proof."""
        stored = {
            answer.position << 16 | answer.offset: (answer, number)
            for number, answer in ((number, decided.answer) for number, decided in self.model.decided.items())
        }
        for number, account in self.model.accounts.items():
            reference, before = account.last, 0
            while page := self.store.statement(number, before, PAGE):
                for line in page:
                    assert line.position << 16 | line.offset == reference
                    answer, transfer_id = stored[reference]
                    assert _numbers(line.outcome) == _as_outcome(answer)
                    assert int(line.record["id_hi"]) << 64 | int(line.record["id_lo"]) == transfer_id
                    is_debit = int(line.record["debit_account"]) == number
                    assert is_debit or int(line.record["credit_account"]) == number
                    reference = answer.previous[0 if is_debit else 1]
                before = page[-1].position << 16 | page[-1].offset
            assert reference == 0
        for number, decided in self.model.decided.items():
            found = self.store.lookup_transfer(number)
            assert found is not None
            assert (found.position, found.offset) == (decided.answer.position, decided.answer.offset)
            assert _numbers(found.outcome) == _as_outcome(decided.answer)

    def check_books(self) -> None:
        self.store.checkpoint(wait=True)
        report = self.store.verify()
        assert report.ok, report.problems
        assert report.chain_hash == self.store.chain_hash
        assert report.state_hash == self.store.state_hash()


def _assert_conserved(columns: Any) -> None:
    for ledger in np.unique(columns[1:, Column.LEDGER]).tolist():
        of_ledger = columns[columns[:, Column.LEDGER] == ledger]
        sums = [int(sum(of_ledger[:, column].tolist())) for column in list(COLUMNS.values())[3:7]]
        assert sums[0] == sums[1], f"ledger {ledger}: posted {sums}"
        assert sums[2] == sums[3], f"ledger {ledger}: reserved {sums}"


def _assert_same(what: str, found: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
    for offset, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, f"{what} {offset}: the ledger says {one}, the model {other}"


def _numbers(record: Any) -> tuple[int, ...]:
    return tuple(int(record[name]) for name in record.dtype.names)


def _flags(answer: Answer) -> int:
    return (OutcomeFlag.DUPLICATE if answer.duplicate else 0) | (OutcomeFlag.HELD if answer.held else 0)


def _as_outcome(answer: Answer) -> tuple[int, ...]:
    return (answer.status, _flags(answer), 0, *answer.balances, *answer.previous, answer.original)


def _as_reply(answer: Answer) -> tuple[int, ...]:
    status = Status.HELD_FOR_REVIEW if answer.held else answer.status
    return (status, _flags(answer), answer.offset, answer.position, answer.timestamp_ns, *answer.balances, 1)
