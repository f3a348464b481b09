"""The state machine around the kernel: time, order, room, and the same bytes for the same entries."""

from __future__ import annotations

import numpy as np
import pytest

from node.ledger.columns import Column
from node.ledger.entry import MalformedEntryError
from node.ledger.history import BrokenHistoryError
from node.ledger.records import OUTCOME, TransferFlag
from node.ledger.state import EXPIRIES_MIN, ROWS_MIN, LedgerState
from node.ledger.statuses import Status
from node.ledger.tables import PENDING_TABLE_MIN
from node.payments.pin_tries import apply_verdicts
from tests.ledger.building import START_NS, commands_entry, create, transfer, transfers_entry
from tests.ledger.plain_history import PlainLedger

LINKED, PENDING, POST, VOID = TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.POST, TransferFlag.VOID
SECOND = 10**9


def opened(accounts: int = 3) -> PlainLedger:
    ledger = PlainLedger()
    ledger.apply(commands_entry([create() for _ in range(accounts)]))
    return ledger


def statuses(ledger: PlainLedger, *records: np.ndarray, timestamp_ns: int = START_NS) -> list[Status]:
    outcomes = ledger.apply(transfers_entry(list(records), timestamp_ns)).outcomes
    return [Status(int(status)) for status in outcomes.view(OUTCOME)["status"].reshape(-1)]


def history(seed: int) -> list[bytes]:
    chance = np.random.default_rng(seed)
    entries = [commands_entry([create() for _ in range(4)])]
    for n in range(40):
        batch = []
        for _ in range(30):
            debit, credit = (chance.permutation(4)[:2] + 1).tolist()
            number, amount = (int(x) for x in chance.integers(1, 700, 2))
            kind = int(chance.integers(0, 4))
            if kind < 2:
                batch.append(
                    transfer(number, debit, credit, amount, flags=(0, LINKED)[int(chance.integers(0, 5)) == 0])
                )
            elif kind == 2:
                batch.append(transfer(number, debit, credit, amount, flags=PENDING, timeout_s=number % 3))
            else:
                batch.append(transfer(number, flags=(POST, VOID)[number % 2], pending_id=amount))
        entries.append(transfers_entry(batch, START_NS + n * SECOND // 2))
        entries += [b""] if n % 7 == 0 else []
    return entries


def test_same_entries_same_bytes() -> None:
    one, other = PlainLedger(), PlainLedger()
    other.state.ids.reserve(50_000)  # however full its tables
    other.state._reserve_pending(4_000)
    entries = history(1)
    for data in entries:
        assert one.apply(data).chain_hash == other.apply(data).chain_hash
        assert one.state.state_hash() == other.state.state_hash()
    assert np.array_equal(one.state.transfer_counts, other.state.transfer_counts)
    changed = PlainLedger()
    for data in [*entries[:-1], bytes(entries[-1][:-1]) + b"x"]:  # one byte of a narrative
        changed.apply(data)
    assert changed.state.chain_hash != one.state.chain_hash


def test_time_never_goes_back() -> None:
    ledger = opened()
    stamps = [ledger.apply(transfers_entry([], ns)).timestamp_ns for ns in (START_NS + 5, START_NS, START_NS + 7)]
    assert stamps == [START_NS + 5, START_NS + 6, START_NS + 7]
    assert ledger.apply(b"").timestamp_ns == START_NS + 7


def test_only_the_next_position_is_applied() -> None:
    ledger = opened()
    for position in (0, 1, 3):
        with pytest.raises(BrokenHistoryError, match="does not follow"):
            ledger.state.apply(position, b"", ledger.history, ledger.history)
    with pytest.raises(MalformedEntryError):
        LedgerState(apply_verdicts).apply(1, b"rubbish", ledger.history, ledger.history)


def test_rows_grow_and_keep_their_content() -> None:
    ledger = opened(ROWS_MIN + 10)
    assert statuses(ledger, transfer(1, ROWS_MIN + 10, 1, 5)) == [Status.OK]
    assert int(ledger.state.columns[ROWS_MIN + 10, Column.DEBITS_POSTED]) == 5
    assert (ledger.state.columns[1 : ROWS_MIN + 11, Column.LEDGER] == 404).all()


def test_hundreds_of_ended_transfers_are_judged_in_one_entry() -> None:
    """More than the pending table holds: none of those brought back may be dropped when it is made anew."""
    ledger = opened()
    total = 2 * PENDING_TABLE_MIN
    for first in range(1, total, 8):
        pending = [transfer(first + k, 1, 2, 1, flags=PENDING) for k in range(8)]
        ended = [transfer(10_000 + first + k, flags=VOID, pending_id=first + k) for k in range(8)]
        assert statuses(ledger, *pending, *ended) == [Status.OK] * 16
    again = [transfer(20_000 + k, flags=POST, pending_id=k) for k in range(1, total)]
    assert set(statuses(ledger, *again)) == {Status.PENDING_TRANSFER_ALREADY_VOIDED}


def test_what_expires_in_an_entry_is_expired_for_its_transfers() -> None:
    """Also when the same entry needs so much room that the pending table is made anew."""
    ledger = opened()
    assert statuses(ledger, transfer(1, 1, 2, 5, flags=PENDING, timeout_s=1)) == [Status.OK]
    many = [transfer(100 + k, 1, 2, 1, flags=PENDING) for k in range(PENDING_TABLE_MIN)]
    late = [transfer(2, flags=POST, pending_id=1), *many, transfer(3, flags=VOID, pending_id=1)]
    found = statuses(ledger, *late, timestamp_ns=START_NS + 2 * SECOND)
    assert (found[0], found[-1]) == (Status.PENDING_TRANSFER_EXPIRED, Status.PENDING_TRANSFER_EXPIRED)
    assert set(found[1:-1]) == {Status.OK}


def test_time_is_up_exactly_at_the_second() -> None:
    for early, status in ((1, Status.OK), (0, Status.PENDING_TRANSFER_EXPIRED)):
        ledger = opened()
        batch = ledger.apply(transfers_entry([transfer(1, 1, 2, 5, flags=PENDING, timeout_s=1)]))
        expires_ns = batch.timestamp_ns + SECOND
        assert ledger.state.next_expiry_ns == expires_ns
        end = transfer(2, flags=POST, pending_id=1)
        assert statuses(ledger, end, timestamp_ns=expires_ns - early) == [status]


def test_time_outs_end_in_the_order_of_their_time() -> None:
    ledger = opened()
    timeouts = [3, 1, 2, 1, 3]
    records = [transfer(n + 1, 1, 2, 1, flags=PENDING, timeout_s=s) for n, s in enumerate(timeouts)]
    at = ledger.apply(transfers_entry(records)).position << 16
    batch = ledger.apply(transfers_entry([], START_NS + 9 * SECOND))
    assert batch.expired == tuple(at | offset for offset in (1, 3, 2, 0, 4))
    assert not ledger.state.columns[:, Column.DEBITS_PENDING].any()


def test_a_chain_that_reserves_posts_and_fails_leaves_nothing() -> None:
    ledger = opened()
    before = ledger.state.state_hash()
    chain = [
        transfer(1, 1, 2, 9, flags=PENDING | LINKED, timeout_s=1),
        transfer(2, flags=POST | LINKED, pending_id=1, amount=4),
        transfer(3, 1, 99, 1),
    ]
    failed = Status.LINKED_CHAIN_FAILED
    assert statuses(ledger, *chain) == [failed, failed, Status.CREDIT_ACCOUNT_NOT_FOUND]
    assert ledger.state.state_hash() == before
    assert statuses(ledger, transfer(4, flags=VOID, pending_id=1)) == [Status.PENDING_TRANSFER_WAS_REFUSED]
    assert ledger.apply(transfers_entry([], START_NS + 5 * SECOND)).expired == ()


def test_a_later_member_of_the_chain_is_not_there_yet() -> None:
    ledger = opened()
    chain = [transfer(1, flags=POST | LINKED, pending_id=2), transfer(2, 1, 2, 9, flags=PENDING)]
    assert statuses(ledger, *chain)[0] is Status.PENDING_TRANSFER_NOT_FOUND


def test_a_retried_chain_must_be_the_very_same() -> None:
    ledger = opened()
    a, b, c = transfer(1, 1, 2, 1, flags=LINKED), transfer(2, 1, 2, 1, flags=LINKED), transfer(3, 1, 2, 1)
    assert statuses(ledger, a, b, c) == [Status.OK] * 3
    outside, used, failed = (
        Status.ID_USED_OUTSIDE_THIS_CHAIN,
        Status.ID_USED_FOR_ANOTHER_TRANSFER,
        Status.LINKED_CHAIN_FAILED,
    )
    assert statuses(ledger, a, c) == [outside, outside]  # a member is missing
    assert statuses(ledger, b, a, c) == [outside] * 3  # in another order
    assert statuses(ledger, a, b, transfer(4, 1, 2, 1)) == [outside, outside, failed]  # another end
    assert statuses(ledger, a, transfer(2, 1, 2, 2, flags=LINKED), c) == [outside, used, outside]
    assert statuses(ledger, transfer(4, 1, 2, 1)) == [failed]  # its id was used up by the refused chain
    assert int(ledger.state.columns[1, Column.DEBITS_POSTED]) == 3


def test_features_see_only_what_succeeded() -> None:
    ledger = opened()
    before = ledger.state.columns[:, Column.FEATURES :].copy()
    chain = [transfer(1, 1, 2, 9, flags=LINKED, code=2), transfer(2, 1, 99, 9, code=2)]
    statuses(ledger, *chain, transfer(3, 1, 2, 0, code=2))
    assert np.array_equal(ledger.state.columns[:, Column.FEATURES :], before)
    statuses(ledger, transfer(4, 1, 2, 9, code=2), transfer(5, 1, 2, 9, code=3))
    changed = (ledger.state.columns[:, Column.FEATURES :] != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [1, 2]


def test_what_was_posted_does_not_stay_among_the_time_outs() -> None:
    """A till that reserves and posts all day, each with a time-out of a day, needs no more memory than what waits."""
    ledger = opened()
    for n in range(0, 4 * EXPIRIES_MIN, 16):
        held = [transfer(1 + 2 * k, 3, 1, 1, flags=PENDING, timeout_s=86_400) for k in range(n, n + 16)]
        posts = [transfer(2 + 2 * k, flags=POST, pending_id=1 + 2 * k) for k in range(n, n + 15)]
        assert set(statuses(ledger, *held, *posts, timestamp_ns=START_NS + n)) == {Status.OK}
    waiting = 4 * EXPIRIES_MIN // 16
    assert waiting <= len(ledger.state._expiries) <= EXPIRIES_MIN + waiting
    assert len(ledger.apply(transfers_entry([], START_NS + 86_401 * SECOND)).expired) == waiting
