"""The transition kernel: a batch of transfers against the account rows. Integers only; no clock, no I/O, no chance.

All arrays are int64 and C-contiguous: `words` is the batch viewed as (n, 16), `outcomes` (n, 8), `columns`
(rows, COLUMN_COUNT). Ids are compared as two words. What a batch needs to know of ids comes in: `known_refs` (where
each was seen before, also earlier in the batch; 0 = never) and `known_same` (1 = in an earlier batch with the very
same content). `scored` says whose the words' scoring halves are: 1 = the leader's (records.py), 0 = the clients'.

Order in a chain: ids first (retries and reuse), then each member is checked and applied on top of the ones before it;
the first broken rule undoes them all. After the last member "the chain must succeed": links of the accounts' history
and the fraud features follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ledger.columns import AccountFlag, Column
from node.ledger.compiled import inlined, njit
from node.ledger.features import update as update_features
from node.ledger.records import SCORING_DECISION_MASK, SCORING_NOT_ZERO, OutcomeFlag, TransferFlag
from node.ledger.statuses import FraudDecision, Status
from node.ledger.tables import find_id, find_pending, insert_pending
from node.ledger.usage import B_ACCOUNT, TIER, TIER_MASK, check_limits, count, give_back, is_counted, restore

I64_MAX = np.int64((1 << 63) - 1)

# Words of a transfer and of an outcome.
ID_LO, ID_HI, DEBIT, CREDIT, AMOUNT, PENDING_LO, PENDING_HI, W_TIMEOUT_LEDGER, W_CODE_FLAGS = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    10,
    11,
)
O_STATUS, O_DEBIT_BALANCE, O_DEBIT_AVAILABLE, O_CREDIT_BALANCE, O_CREDIT_AVAILABLE = 0, 1, 2, 3, 4
O_DEBIT_PREVIOUS, O_CREDIT_PREVIOUS, O_ORIGINAL = 5, 6, 7

# Fields of a pending table's row, and its states. Above the ledger's 32 bits stands the day that the reservation counts
# in against its payer's limits, plus one; 0 = it does not count.
P_STATE, P_REF, P_DEBIT, P_CREDIT, P_AMOUNT, P_EXPIRES_NS, P_LEDGER, P_CODE = 0, 1, 2, 3, 4, 5, 6, 7
PENDING_FIELDS = 8
ACTIVE, POSTED, VOIDED, EXPIRED, REFUSED, NOT_PENDING = 1, 2, 3, 4, 5, 6

LINKED, PENDING, POST, VOID = (
    int(f) for f in (TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.POST, TransferFlag.VOID)
)
KNOWN_FLAGS = LINKED | PENDING | POST | VOID
DUPLICATE = int(OutcomeFlag.DUPLICATE) << 16  # within the outcome's first word
HELD = int(OutcomeFlag.HELD) << 16
TOLD_AGAIN = 0xFFFF | HELD  # of a first outcome's first word, in that of its repetition
HELD_CODE = 1 << 16  # within P_CODE, beside the transfer's code: the fraud check made it wait
DECISION_MASK = SCORING_DECISION_MASK
HOLD, HOLD_UNSCORED = int(FraudDecision.HOLD), int(FraudDecision.HOLD_UNSCORED)
REFUSE, NOT_ZERO = int(FraudDecision.REFUSE), SCORING_NOT_ZERO

LEDGER, FLAGS, OVERDRAFT, LAST = (
    int(Column.LEDGER),
    int(Column.FLAGS),
    int(Column.OVERDRAFT_LIMIT),
    int(Column.LAST_REFERENCE),
)
D_POSTED, C_POSTED = int(Column.DEBITS_POSTED), int(Column.CREDITS_POSTED)
D_PENDING, C_PENDING = int(Column.DEBITS_PENDING), int(Column.CREDITS_PENDING)
NO_OVERDRAW = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
FROZEN, CLOSED = int(AccountFlag.FROZEN), int(AccountFlag.CLOSED)

OK = int(Status.OK)
CHAIN_FAILED, CHAIN_OPEN = int(Status.LINKED_CHAIN_FAILED), int(Status.LINKED_CHAIN_LEFT_OPEN)
ID_ZERO, ID_ONES = int(Status.ID_MUST_NOT_BE_ZERO), int(Status.ID_MUST_NOT_BE_ALL_ONES)
ID_USED, ID_OUTSIDE = int(Status.ID_USED_FOR_ANOTHER_TRANSFER), int(Status.ID_USED_OUTSIDE_THIS_CHAIN)
RESERVED, FLAGS_UNKNOWN, FLAGS_EXCLUDE = (
    int(Status.RESERVED_MUST_BE_ZERO),
    int(Status.FLAGS_UNKNOWN),
    int(Status.FLAGS_EXCLUDE_EACH_OTHER),
)
AMOUNT_NEGATIVE, AMOUNT_ZERO = int(Status.AMOUNT_MUST_NOT_BE_NEGATIVE), int(Status.AMOUNT_MUST_NOT_BE_ZERO)
CODE_ZERO, LEDGER_ZERO = int(Status.CODE_MUST_NOT_BE_ZERO), int(Status.LEDGER_MUST_NOT_BE_ZERO)
DEBIT_ZERO, CREDIT_ZERO = int(Status.DEBIT_ACCOUNT_MUST_NOT_BE_ZERO), int(Status.CREDIT_ACCOUNT_MUST_NOT_BE_ZERO)
SAME_ACCOUNT, TIMEOUT_ONLY = int(Status.ACCOUNTS_MUST_DIFFER), int(Status.TIMEOUT_ONLY_WITH_PENDING)
PENDING_ID_ONLY, PENDING_ID_ZERO = (
    int(Status.PENDING_ID_ONLY_WITH_POST_OR_VOID),
    int(Status.PENDING_ID_MUST_NOT_BE_ZERO),
)
PENDING_ID_SAME = int(Status.PENDING_ID_MUST_DIFFER_FROM_ID)
P_NOT_FOUND, P_REFUSED, P_NOT = (
    int(Status.PENDING_TRANSFER_NOT_FOUND),
    int(Status.PENDING_TRANSFER_WAS_REFUSED),
    int(Status.TRANSFER_IS_NOT_PENDING),
)
P_OTHER_DEBIT = int(Status.PENDING_TRANSFER_HAS_ANOTHER_DEBIT_ACCOUNT)
P_OTHER_CREDIT = int(Status.PENDING_TRANSFER_HAS_ANOTHER_CREDIT_ACCOUNT)
P_OTHER_LEDGER = int(Status.PENDING_TRANSFER_HAS_ANOTHER_LEDGER)
P_POSTED, P_VOIDED = int(Status.PENDING_TRANSFER_ALREADY_POSTED), int(Status.PENDING_TRANSFER_ALREADY_VOIDED)
P_EXPIRED, P_TOO_MUCH = int(Status.PENDING_TRANSFER_EXPIRED), int(Status.AMOUNT_EXCEEDS_PENDING_AMOUNT)
P_VOID_AMOUNT = int(Status.VOID_AMOUNT_MUST_BE_ZERO_OR_PENDING_AMOUNT)
NO_DEBIT, NO_CREDIT = int(Status.DEBIT_ACCOUNT_NOT_FOUND), int(Status.CREDIT_ACCOUNT_NOT_FOUND)
LEDGERS_DIFFER, LEDGER_DIFFERS = int(Status.ACCOUNTS_HAVE_DIFFERENT_LEDGERS), int(Status.LEDGER_DIFFERS_FROM_ACCOUNTS)
DEBIT_CLOSED, CREDIT_CLOSED = int(Status.DEBIT_ACCOUNT_CLOSED), int(Status.CREDIT_ACCOUNT_CLOSED)
DEBIT_FROZEN, CREDIT_FROZEN = int(Status.DEBIT_ACCOUNT_FROZEN), int(Status.CREDIT_ACCOUNT_FROZEN)
OVER_D_PENDING, OVER_C_PENDING = int(Status.DEBITS_PENDING_OVERFLOW), int(Status.CREDITS_PENDING_OVERFLOW)
OVER_D_POSTED, OVER_C_POSTED = int(Status.DEBITS_POSTED_OVERFLOW), int(Status.CREDITS_POSTED_OVERFLOW)
OVER_D, OVER_C, OVER_EXPIRY = int(Status.DEBITS_OVERFLOW), int(Status.CREDITS_OVERFLOW), int(Status.EXPIRY_OVERFLOW)
NO_FUNDS = int(Status.DEBITS_EXCEED_CREDITS)
FRAUD_REFUSED = int(Status.REFUSED_BY_FRAUD_CHECK)

i64 = np.int64


@inlined
def _flags(words: Any, i: int) -> int:
    return (words[i, W_CODE_FLAGS] >> 16) & 0xFFFF


@inlined
def _decision(words: Any, i: int, scored: int) -> int:
    """The leader's FraudDecision; 0 = not scored."""
    return (words[i, W_CODE_FLAGS] >> 32) & DECISION_MASK if scored != 0 else i64(0)


@inlined
def _is_held(decision: int) -> bool:
    return decision in (HOLD, HOLD_UNSCORED)


@inlined
def _check_form(words: Any, i: int, scored: int) -> int:
    """The rules that need no state."""
    packed = words[i, W_CODE_FLAGS]
    code, flags, scoring = packed & 0xFFFF, (packed >> 16) & 0xFFFF, (packed >> 32) & 0xFFFFFFFF
    if (scored == 0 and scoring != 0) or (scored != 0 and scoring & DECISION_MASK == NOT_ZERO):
        return RESERVED
    if flags & ~KNOWN_FLAGS:
        return FLAGS_UNKNOWN
    kinds = flags & (PENDING | POST | VOID)
    if kinds & (kinds - 1):
        return FLAGS_EXCLUDE
    ends = (flags & (POST | VOID)) != 0
    amount, debit, credit = words[i, AMOUNT], words[i, DEBIT], words[i, CREDIT]
    if amount < 0:
        return AMOUNT_NEGATIVE
    if amount == 0 and not ends:
        return AMOUNT_ZERO
    if code == 0 and not ends:
        return CODE_ZERO
    timeout_s, ledger = words[i, W_TIMEOUT_LEDGER] & 0xFFFFFFFF, (words[i, W_TIMEOUT_LEDGER] >> 32) & 0xFFFFFFFF
    if ledger == 0 and not ends:
        return LEDGER_ZERO
    if debit == 0 and not ends:
        return DEBIT_ZERO
    if credit == 0 and not ends:
        return CREDIT_ZERO
    if debit == credit and debit != 0:
        return SAME_ACCOUNT
    if timeout_s != 0 and not flags & PENDING:
        return TIMEOUT_ONLY
    has_pending_id = words[i, PENDING_LO] != 0 or words[i, PENDING_HI] != 0
    if has_pending_id and not ends:
        return PENDING_ID_ONLY
    if ends and not has_pending_id:
        return PENDING_ID_ZERO
    if ends and words[i, PENDING_LO] == words[i, ID_LO] and words[i, PENDING_HI] == words[i, ID_HI]:
        return PENDING_ID_SAME
    return OK


@inlined
def _check_accounts(columns: Any, words: Any, i: int, timestamp_ns: int, tiers: Any) -> int:
    """The rules of a transfer that moves or reserves money."""
    debit, credit, amount = words[i, DEBIT], words[i, CREDIT], words[i, AMOUNT]
    rows = columns.shape[0]
    if debit < 0 or debit >= rows or columns[debit, LEDGER] == 0:
        return NO_DEBIT
    if credit < 0 or credit >= rows or columns[credit, LEDGER] == 0:
        return NO_CREDIT
    if columns[debit, LEDGER] != columns[credit, LEDGER]:
        return LEDGERS_DIFFER
    if columns[debit, LEDGER] != ((words[i, W_TIMEOUT_LEDGER] >> 32) & 0xFFFFFFFF):
        return LEDGER_DIFFERS
    if columns[debit, FLAGS] & CLOSED:
        return DEBIT_CLOSED
    if columns[credit, FLAGS] & CLOSED:
        return CREDIT_CLOSED
    if columns[debit, FLAGS] & FROZEN:
        return DEBIT_FROZEN
    if columns[credit, FLAGS] & FROZEN:
        return CREDIT_FROZEN
    if (columns[debit, TIER] | columns[credit, TIER]) & TIER_MASK and is_counted(words[i, W_CODE_FLAGS] & 0xFFFF):
        status = check_limits(columns, tiers, debit, credit, amount, timestamp_ns)
        if status != OK:
            return status
    pending = (_flags(words, i) & PENDING) != 0
    if pending and amount > I64_MAX - columns[debit, D_PENDING]:
        return OVER_D_PENDING
    if pending and amount > I64_MAX - columns[credit, C_PENDING]:
        return OVER_C_PENDING
    if not pending and amount > I64_MAX - columns[debit, D_POSTED]:
        return OVER_D_POSTED
    if not pending and amount > I64_MAX - columns[credit, C_POSTED]:
        return OVER_C_POSTED
    # Posted and reserved together never pass the maximum, so ending a pending transfer cannot overflow.
    if amount > I64_MAX - columns[debit, D_POSTED] - columns[debit, D_PENDING]:
        return OVER_D
    if amount > I64_MAX - columns[credit, C_POSTED] - columns[credit, C_PENDING]:
        return OVER_C
    if (words[i, W_TIMEOUT_LEDGER] & 0xFFFFFFFF) * 1_000_000_000 > I64_MAX - timestamp_ns:
        return OVER_EXPIRY
    if columns[debit, FLAGS] & NO_OVERDRAW:
        available = columns[debit, C_POSTED] - columns[debit, D_POSTED] - columns[debit, D_PENDING]
        limit = columns[debit, OVERDRAFT]
        # Written so that neither side can overflow.
        if (available < 0 and amount > limit + available) or (available >= 0 and amount - available > limit):
            return NO_FUNDS
    return OK


@njit
def _check_pending(words: Any, i: int, row: Any) -> int:
    """The rules of a post or void, against the pending transfer that it names."""
    state = row[P_STATE]
    if state == REFUSED:
        return P_REFUSED
    if state == NOT_PENDING:
        return P_NOT
    debit, credit, amount = words[i, DEBIT], words[i, CREDIT], words[i, AMOUNT]
    ledger = (words[i, W_TIMEOUT_LEDGER] >> 32) & 0xFFFFFFFF
    if debit != 0 and debit != row[P_DEBIT]:
        return P_OTHER_DEBIT
    if credit != 0 and credit != row[P_CREDIT]:
        return P_OTHER_CREDIT
    if ledger != 0 and ledger != row[P_LEDGER] & 0xFFFFFFFF:
        return P_OTHER_LEDGER
    if state == POSTED:
        return P_POSTED
    if state == VOIDED:
        return P_VOIDED
    if state == EXPIRED:
        return P_EXPIRED
    if _flags(words, i) & VOID:
        return P_VOID_AMOUNT if amount != 0 and amount != row[P_AMOUNT] else OK
    return P_TOO_MUCH if amount > row[P_AMOUNT] else OK


@njit
def _same_batch_state(outcomes: Any, i: int, ref: int, position: int) -> int:
    """What an id of this very batch is to transfer i, when it is not in the pending table."""
    if ref == 0 or ref >> 16 != position:
        return 0
    j = ref & 0xFFFF
    if j > i:  # a later member of the same chain: it is not there yet
        return 0
    if outcomes[j, O_STATUS] & 0xFFFF != OK:
        return REFUSED
    return NOT_PENDING


@inlined
def _write_balances(columns: Any, outcomes: Any, i: int, debit: int, credit: int) -> None:
    for row, at in ((debit, O_DEBIT_BALANCE), (credit, O_CREDIT_BALANCE)):
        balance = columns[row, C_POSTED] - columns[row, D_POSTED]
        outcomes[i, at] = balance
        outcomes[i, at + 1] = balance - columns[row, D_PENDING]


@njit
def _end_pending(columns: Any, row: Any, posted_minor: int, state: int, before: Any) -> None:
    """Release the reservation and move `posted_minor` of it."""
    debit, credit, reserved = row[P_DEBIT], row[P_CREDIT], row[P_AMOUNT]
    columns[debit, D_PENDING] -= reserved
    columns[credit, C_PENDING] -= reserved
    columns[debit, D_POSTED] += posted_minor
    columns[credit, C_POSTED] += posted_minor
    row[P_STATE] = state
    counted_day = (row[P_LEDGER] >> 32) - 1
    if counted_day >= 0 and posted_minor < reserved:
        give_back(columns, debit, reserved - posted_minor, counted_day, before)


@inlined
def _move(columns: Any, debit: int, credit: int, amount: int, pending: bool) -> None:
    if pending:
        columns[debit, D_PENDING] += amount
        columns[credit, C_PENDING] += amount
    else:
        columns[debit, D_POSTED] += amount
        columns[credit, C_POSTED] += amount


@inlined
def _apply_one(
    columns: Any, words: Any, scored: int, outcomes: Any, i: int, position: int, timestamp_ns: int,
    ids: Any, pending_keys: Any, pending_rows: Any, pending_at: Any, tiers: Any, usage: Any,
) -> int:  # fmt: skip
    """Check one transfer and apply it; leaves `pending_at[i]` and `usage[i]` for the undo."""
    status = _check_form(words, i, scored)
    if status != OK:
        return status
    flags, amount = _flags(words, i), words[i, AMOUNT]
    if flags & (POST | VOID):
        at = find_pending(pending_keys, pending_rows, words[i, PENDING_LO], words[i, PENDING_HI])
        if at < 0:
            ref = find_id(ids[0], ids[1], ids[2], ids[3], words[i, PENDING_LO], words[i, PENDING_HI])
            state = _same_batch_state(outcomes, i, ref, position)
            if state == 0:
                return P_NOT_FOUND
            return P_REFUSED if state == REFUSED else P_NOT
        row = pending_rows[at]
        status = _check_pending(words, i, row)
        if status != OK:
            return status
        posted = i64(0)
        if flags & POST:
            posted = amount if amount != 0 else row[P_AMOUNT]
        _end_pending(columns, row, posted, POSTED if flags & POST else VOIDED, usage[i])
        pending_at[i] = at
        outcomes[i, O_ORIGINAL] = row[P_REF]
        _write_balances(columns, outcomes, i, row[P_DEBIT], row[P_CREDIT])
        return OK
    status = _check_accounts(columns, words, i, timestamp_ns, tiers)
    if status != OK:
        return status
    decision = _decision(words, i, scored)
    if decision == REFUSE:
        return FRAUD_REFUSED
    debit, credit = words[i, DEBIT], words[i, CREDIT]
    _move(columns, debit, credit, amount, (flags & PENDING) != 0)
    counted_day = i64(-1)
    if columns[debit, TIER] & TIER_MASK and is_counted(words[i, W_CODE_FLAGS] & 0xFFFF):
        counted_day = count(columns, tiers, debit, amount, usage[i])
    if flags & PENDING:
        at = insert_pending(pending_keys, pending_rows, words[i, ID_LO], words[i, ID_HI])
        timeout_s = words[i, W_TIMEOUT_LEDGER] & 0xFFFFFFFF
        row = pending_rows[at]
        row[P_STATE], row[P_REF] = ACTIVE, (position << 16) | i
        row[P_DEBIT], row[P_CREDIT], row[P_AMOUNT] = debit, credit, amount
        row[P_EXPIRES_NS] = timestamp_ns + timeout_s * 1_000_000_000 if timeout_s != 0 else 0
        row[P_LEDGER], row[P_CODE] = columns[debit, LEDGER], words[i, W_CODE_FLAGS] & 0xFFFF
        row[P_LEDGER] |= (counted_day + 1) << 32
        if _is_held(decision):
            row[P_CODE] |= HELD_CODE
        pending_at[i] = at
    _write_balances(columns, outcomes, i, debit, credit)
    return OK


@njit
def _undo_one(columns: Any, words: Any, outcomes: Any, i: int, pending_rows: Any, pending_at: Any, usage: Any) -> None:
    flags, amount = _flags(words, i), words[i, AMOUNT]
    if flags & (POST | VOID):
        row = pending_rows[pending_at[i]]
        posted = i64(0)
        if flags & POST:
            posted = amount if amount != 0 else row[P_AMOUNT]
        debit, credit, reserved = row[P_DEBIT], row[P_CREDIT], row[P_AMOUNT]
        columns[debit, D_PENDING] += reserved
        columns[credit, C_PENDING] += reserved
        columns[debit, D_POSTED] -= posted
        columns[credit, C_POSTED] -= posted
        row[P_STATE] = ACTIVE
    else:
        _move(columns, words[i, DEBIT], words[i, CREDIT], -amount, (flags & PENDING) != 0)
        if flags & PENDING:
            pending_rows[pending_at[i], P_STATE] = REFUSED
    if usage[i, B_ACCOUNT] != 0:
        restore(columns, usage[i])
    pending_at[i] = -1
    for at in range(1, 8):
        outcomes[i, at] = 0


@inlined
def _finish_one(
    columns: Any, words: Any, scored: int, outcomes: Any, i: int, position: int, timestamp_ns: int,
    pending_rows: Any, pending_at: Any, dirty: Any,
) -> None:  # fmt: skip
    """The chain has succeeded: link the accounts' history and let the fraud features see it."""
    if _is_held(_decision(words, i, scored)):
        outcomes[i, O_STATUS] = HELD
    debit, credit = words[i, DEBIT], words[i, CREDIT]
    ends = _flags(words, i) & (POST | VOID)
    if ends:
        row = pending_rows[pending_at[i]]
        debit, credit = row[P_DEBIT], row[P_CREDIT]
    ref = (position << 16) | i
    outcomes[i, O_DEBIT_PREVIOUS] = columns[debit, LAST]
    outcomes[i, O_CREDIT_PREVIOUS] = columns[credit, LAST]
    columns[debit, LAST] = ref
    columns[credit, LAST] = ref
    dirty[debit] = 1
    dirty[credit] = 1
    if not ends:
        update_features(columns, debit, credit, words[i, AMOUNT], words[i, W_CODE_FLAGS] & 0xFFFF, timestamp_ns)


@inlined
def _asked(words: Any, i: int, scored: int) -> tuple[int, int]:
    """The words with time-out and with code, flags and scoring, as the client sent them."""
    timed, packed = words[i, W_TIMEOUT_LEDGER], words[i, W_CODE_FLAGS]
    if scored != 0:
        decision = (packed >> 32) & DECISION_MASK
        packed &= 0xFFFFFFFF
        if decision == NOT_ZERO:
            packed |= -0x100000000
        if _is_held(decision):
            packed &= ~(PENDING << 16)
            timed &= -0x100000000
    return timed, packed


@njit
def same_asked(words: Any, i: int, scored: int, others: Any, j: int, others_scored: int) -> bool:
    """Whether a client sent the same twice: the leader's additions are no content (records.py)."""
    for at in range(16):
        if at != W_TIMEOUT_LEDGER and at != W_CODE_FLAGS and words[i, at] != others[j, at]:
            return False
    return _asked(words, i, scored) == _asked(others, j, others_scored)


@inlined
def _check_ids(
    words: Any, scored: int, outcomes: Any, start: int, end: int, position: int,
    known_refs: Any, known_same: Any, seen: Any,
) -> int:  # fmt: skip
    """Retries and reused ids of a chain.

    Returns 1 when the chain is new and to be applied, 0 when its outcomes are settled here. `seen[i]` is left as the
    reference of the first appearance."""
    found = 0
    failed = False
    for i in range(start, end):
        outcomes[i, O_STATUS] = OK
        lo, hi = words[i, ID_LO], words[i, ID_HI]
        seen[i] = 0
        if lo == 0 and hi == 0:
            outcomes[i, O_STATUS] = ID_ZERO
            failed = True
            continue
        if lo == -1 and hi == -1:
            outcomes[i, O_STATUS] = ID_ONES
            failed = True
            continue
        ref, same = known_refs[i], known_same[i] != 0
        if ref == 0:
            continue
        if ref >> 16 == position:
            same = same_asked(words, i, scored, words, ref & 0xFFFF, scored)
        seen[i] = ref
        found += 1
        if not same:
            outcomes[i, O_STATUS] = ID_USED
            failed = True
    if found == 0 and not failed:
        return 1
    retried = found == end - start and not failed
    for i in range(start, end):
        if seen[i] != seen[start] + (i - start) or (seen[i] >> 16 == position and (seen[i] & 0xFFFF) >= start):
            retried = False
    if retried:
        for i in range(start, end):
            outcomes[i, O_STATUS] = DUPLICATE
            outcomes[i, O_ORIGINAL] = seen[i]
        return 0
    for i in range(start, end):
        if outcomes[i, O_STATUS] == OK:
            outcomes[i, O_STATUS] = ID_OUTSIDE if seen[i] != 0 else CHAIN_FAILED
    return 0


@njit
def _fail_chain(outcomes: Any, start: int, end: int, culprit: int, status: int) -> None:
    for i in range(start, end):
        outcomes[i, O_STATUS] = status if i == culprit else CHAIN_FAILED


@njit
def apply_batch(
    columns: Any, words: Any, scored: int, outcomes: Any, position: int, timestamp_ns: int,
    ids: Any, known_refs: Any, known_same: Any,
    pending_keys: Any, pending_rows: Any, pending_at: Any, dirty: Any, seen: Any, counts: Any, tiers: Any, usage: Any,
) -> None:  # fmt: skip
    """Apply a whole batch. `ids` is the table that has the batch's ids already (slots, ids, refs, top), `known_refs`
    says where each was seen before. `outcomes` is zero on entry; `pending_at` is -1 on entry and afterwards says which
    row of the pending table a successful pending, post or void transfer touched. counts[0] += OK, counts[1] +=
    duplicates, counts[2] += pending rows inserted. `tiers` is what Tiers.rows_at says of now; `usage` is room for what
    usage.keep keeps of each transfer."""
    n = words.shape[0]
    start = 0
    while start < n:
        end = start
        while end < n and _flags(words, end) & LINKED:
            end += 1
        left_open = end == n
        end = min(end + 1, n)
        if _check_ids(words, scored, outcomes, start, end, position, known_refs, known_same, seen):
            if left_open:
                _fail_chain(outcomes, start, end, end - 1, CHAIN_OPEN)
            else:
                _apply_chain(
                    columns, words, scored, outcomes, start, end, position, timestamp_ns, ids,
                    pending_keys, pending_rows, pending_at, dirty, counts, tiers, usage,
                )  # fmt: skip
        elif outcomes[start, O_STATUS] == DUPLICATE:
            counts[1] += end - start
            _copy_first_outcomes(outcomes, start, end, position)
        start = end


@njit
def _copy_first_outcomes(outcomes: Any, start: int, end: int, position: int) -> None:
    """Retries of this very batch; those of earlier batches are filled in by the caller, who has them."""
    for i in range(start, end):
        ref = outcomes[i, O_ORIGINAL]
        if ref >> 16 == position:
            j = ref & 0xFFFF
            outcomes[i, O_STATUS] = (outcomes[j, O_STATUS] & TOLD_AGAIN) | DUPLICATE
            for at in range(O_DEBIT_BALANCE, O_CREDIT_AVAILABLE + 1):
                outcomes[i, at] = outcomes[j, at]


@inlined
def _apply_chain(
    columns: Any, words: Any, scored: int, outcomes: Any, start: int, end: int, position: int, timestamp_ns: int,
    ids: Any, pending_keys: Any, pending_rows: Any, pending_at: Any, dirty: Any, counts: Any, tiers: Any, usage: Any,
) -> None:  # fmt: skip
    if end - start > 1:  # a transfer alone is never undone
        for i in range(start, end):
            usage[i, B_ACCOUNT] = 0
    for i in range(start, end):
        status = _apply_one(
            columns, words, scored, outcomes, i, position, timestamp_ns, ids, pending_keys, pending_rows,
            pending_at, tiers, usage,
        )  # fmt: skip
        if pending_at[i] >= 0 and _flags(words, i) & PENDING:
            counts[2] += 1
        if status != OK:
            for j in range(i - 1, start - 1, -1):
                _undo_one(columns, words, outcomes, j, pending_rows, pending_at, usage)
            _fail_chain(outcomes, start, end, i, status)
            return
    # After this point the chain must succeed.
    for i in range(start, end):
        _finish_one(columns, words, scored, outcomes, i, position, timestamp_ns, pending_rows, pending_at, dirty)
    counts[0] += end - start


@njit
def expire_pending(
    columns: Any, pending_keys: Any, pending_rows: Any, lo: int, hi: int, dirty: Any, before: Any
) -> int:
    """End a pending transfer whose time is up; returns its reference, or 0 when it has ended already."""
    at = find_pending(pending_keys, pending_rows, lo, hi)
    if at < 0 or pending_rows[at, P_STATE] != ACTIVE:
        return 0
    row = pending_rows[at]
    _end_pending(columns, row, i64(0), EXPIRED, before)
    dirty[row[P_DEBIT]] = 1
    dirty[row[P_CREDIT]] = 1
    return i64(row[P_REF])
