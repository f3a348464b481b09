"""The columns of an account: one row of int64 per account, row number = account number (row 0 is never used).

Only the kernel and the pure functions beside it write here, and only while an entry is applied; so the rows are the
same bytes on every node.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Column(IntEnum):
    LEDGER = 0  # currency, ISO 4217 number; 0 = the row is not in use
    TIER = 1  # tier, SIM's last change, last day that counted: see usage.py
    FLAGS = 2  # AccountFlag
    OVERDRAFT_LIMIT = 3  # minor units that debits may exceed credits by
    DEBITS_POSTED = 4
    CREDITS_POSTED = 5
    DEBITS_PENDING = 6
    CREDITS_PENDING = 7
    LAST_REFERENCE = 8  # head of the account's linked history, 0 = none
    CREATED_NS = 9
    PIN_TRIES = 10  # wrong tries since the last right one
    PIN_VERIFIER_0 = 11  # HMAC-SHA256 cut to 16 bytes, two words; all zero = no PIN set
    PIN_VERIFIER_1 = 12
    KIND = 13  # AccountKind
    USED_1 = 14  # what counts against the tier's limits: see usage.py
    PIN_SET_NS = 15
    FEATURES = 16  # first of the fraud feature columns, owned by node/ledger/features; the last is 46
    USED_2 = 47


COLUMN_COUNT = 48  # 384 bytes an account: six cache lines, the first of them all that a plain transfer is judged by


class AccountFlag(IntFlag):
    DEBITS_MUST_NOT_EXCEED_CREDITS = 1
    FROZEN = 2  # no transfer in or out, except the end of pending ones
    CLOSED = 4  # no transfer at all, for ever
    PIN_LOCKED = 8  # too many wrong tries, or blocked by its owner: nothing goes out until an operator resets the PIN
    PIN_TEMPORARY = 16  # set by an operator: good for nothing but choosing another


class AccountKind(IntEnum):
    CUSTOMER = 1
    TILL = 2  # merchant
    PAYBILL = 3  # biller
    AGENT = 4
    ISSUANCE = 5  # the trust account that e-money is issued from
    FEE_REVENUE = 6
    EXCISE_DUTY = 7
    AIRTIME = 8  # the airtime provider
    LIQUIDITY = 9  # cross-border
    SUSPENSE = 10
    OTHER = 11


HANDLE_KEYS = ("msisdn", "till", "paybill", "agent", "walletid", "system")
"""Known handle keys; `system` names the operator's own accounts per ledger: KES/fees, KES/excise, KES/airtime,
KES/issuance, KES/commissions (what agents are paid from: an expense, so without the flag that forbids an overdraft),
KES/vouchers (money that waits for people without an account), KES/liquidity (what remittances come and go through)."""
