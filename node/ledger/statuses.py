"""What the ledger answers: each status is a sentence about one rule, in order of precedence (the first one broken
wins). The numbers are on disk and on the wire: statuses are only ever added, at the end of their section's gap."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    OK = 0
    # the chain (10)
    LINKED_CHAIN_FAILED = 10  # another member of the chain broke a rule
    LINKED_CHAIN_LEFT_OPEN = 11  # the batch ended inside a chain
    # the id (20)
    ID_MUST_NOT_BE_ZERO = 20
    ID_MUST_NOT_BE_ALL_ONES = 21
    ID_USED_FOR_ANOTHER_TRANSFER = 22
    ID_USED_OUTSIDE_THIS_CHAIN = 23  # a member was seen before, but not as part of this very chain
    # the record (30)
    RESERVED_MUST_BE_ZERO = 30
    FLAGS_UNKNOWN = 31
    FLAGS_EXCLUDE_EACH_OTHER = 32
    AMOUNT_MUST_NOT_BE_NEGATIVE = 33
    AMOUNT_MUST_NOT_BE_ZERO = 34
    CODE_MUST_NOT_BE_ZERO = 35
    LEDGER_MUST_NOT_BE_ZERO = 36
    DEBIT_ACCOUNT_MUST_NOT_BE_ZERO = 37
    CREDIT_ACCOUNT_MUST_NOT_BE_ZERO = 38
    ACCOUNTS_MUST_DIFFER = 39
    TIMEOUT_ONLY_WITH_PENDING = 40
    PENDING_ID_ONLY_WITH_POST_OR_VOID = 41
    PENDING_ID_MUST_NOT_BE_ZERO = 42
    PENDING_ID_MUST_DIFFER_FROM_ID = 43
    # the pending transfer (60)
    PENDING_TRANSFER_NOT_FOUND = 60
    PENDING_TRANSFER_WAS_REFUSED = 61
    TRANSFER_IS_NOT_PENDING = 62
    PENDING_TRANSFER_HAS_ANOTHER_DEBIT_ACCOUNT = 63
    PENDING_TRANSFER_HAS_ANOTHER_CREDIT_ACCOUNT = 64
    PENDING_TRANSFER_HAS_ANOTHER_LEDGER = 65
    PENDING_TRANSFER_ALREADY_POSTED = 66
    PENDING_TRANSFER_ALREADY_VOIDED = 67
    PENDING_TRANSFER_EXPIRED = 68
    AMOUNT_EXCEEDS_PENDING_AMOUNT = 69
    VOID_AMOUNT_MUST_BE_ZERO_OR_PENDING_AMOUNT = 70
    # the accounts (80)
    DEBIT_ACCOUNT_NOT_FOUND = 80
    CREDIT_ACCOUNT_NOT_FOUND = 81
    ACCOUNTS_HAVE_DIFFERENT_LEDGERS = 82
    LEDGER_DIFFERS_FROM_ACCOUNTS = 83
    DEBIT_ACCOUNT_CLOSED = 84
    CREDIT_ACCOUNT_CLOSED = 85
    DEBIT_ACCOUNT_FROZEN = 86
    CREDIT_ACCOUNT_FROZEN = 87
    # the tiers (88): of transfers whose code is in COUNTED_CODES
    DEBIT_ACCOUNT_DORMANT = 88  # nothing moved for as long as its tier allows
    DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM = 89
    DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT = 90
    DEBIT_ACCOUNT_OVER_DAY_LIMIT = 91  # of its tier's local day
    DEBIT_ACCOUNT_OVER_WEEK_LIMIT = 92
    DEBIT_ACCOUNT_OVER_MONTH_LIMIT = 93
    CREDIT_ACCOUNT_OVER_BALANCE_LIMIT = 94
    # the sums (100)
    DEBITS_PENDING_OVERFLOW = 100
    CREDITS_PENDING_OVERFLOW = 101
    DEBITS_POSTED_OVERFLOW = 102
    CREDITS_POSTED_OVERFLOW = 103
    DEBITS_OVERFLOW = 104  # posted + pending
    CREDITS_OVERFLOW = 105
    EXPIRY_OVERFLOW = 106
    DEBITS_EXCEED_CREDITS = 107  # available balance + overdraft limit is less than the amount
    # the fraud check (120)
    REFUSED_BY_FRAUD_CHECK = 120
    HELD_FOR_REVIEW = 121  # in replies alone, no rule is broken: the money is reserved until an analyst or a time-out


class CommandStatus(IntEnum):
    """Outcomes of the commands that are not transfers (accounts, handles, flags, PIN)."""

    OK = 0
    EXISTS = 1  # the same request was applied before: this is that outcome
    REQUEST_ID_MUST_NOT_BE_ZERO = 10
    REQUEST_ID_USED_FOR_ANOTHER_REQUEST = 11
    COMMAND_UNKNOWN = 12
    LEDGER_UNKNOWN = 20
    KIND_UNKNOWN = 21
    FLAGS_UNKNOWN = 22
    OVERDRAFT_LIMIT_MUST_NOT_BE_NEGATIVE = 23
    HANDLE_KEY_UNKNOWN = 24
    HANDLE_VALUE_MALFORMED = 25
    HANDLE_USED_BY_ANOTHER_ACCOUNT = 26
    HANDLES_TOO_MANY = 27
    NAME_TOO_LONG = 28
    ACCOUNT_NOT_FOUND = 29
    ACCOUNT_CLOSED = 30
    ACCOUNT_HAS_BALANCE = 31  # only an account with nothing posted and nothing reserved can be closed
    ACCOUNTS_TOO_MANY = 32
    PIN_VERIFIER_MALFORMED = 33
    DOCUMENT_KIND_MALFORMED = 40
    DOCUMENT_KEY_MALFORMED = 41
    DOCUMENT_TOO_LARGE = 42
    DOCUMENT_AUTHOR_MALFORMED = 43  # empty, or too long
    DOCUMENT_VERSION_DIFFERS = 44  # another version is in force than the one that was to be replaced
    DOCUMENT_BREAKS_ITS_RULES = 45  # those of a kind that the ledger itself reads
    TIER_UNKNOWN = 46
    TIER_HAS_ANOTHER_CURRENCY = 47
    SIM_SWAP_TIME_MALFORMED = 48  # before 1970, or in the future
    LANGUAGE_MALFORMED = 80


class PaymentStatus(IntEnum):
    """Why a payment was refused before any money was proposed to move; OK = its transfers decide."""

    OK = 0
    PAYMENT_ID_MUST_NOT_BE_ZERO = 1
    PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT = 2
    KIND_UNKNOWN = 3
    AMOUNT_MUST_BE_POSITIVE = 4
    AMOUNT_OUTSIDE_TARIFF = 5  # below the minimum or above the maximum of the tariff
    REFERENCE_MALFORMED = 6
    PAYER_NOT_FOUND = 7
    PAYEE_NOT_FOUND = 8
    PAYER_IS_PAYEE = 9
    CURRENCY_DIFFERS = 10
    PAYER_CLOSED = 11
    PAYER_FROZEN = 12
    PAYEE_CLOSED = 13
    PAYEE_FROZEN = 14
    PIN_NOT_SET = 15
    PIN_MALFORMED = 16
    PIN_LOCKED = 17
    PIN_WRONG = 18
    PIN_WRONG_AND_NOW_LOCKED = 19
    INSUFFICIENT_FUNDS = 20
    REFUSED_BY_FRAUD_CHECK = 21
    HELD_FOR_REVIEW = 22  # the money is reserved; an analyst posts or voids it
    REFUSED_BY_LEDGER = 23  # a leg broke another rule: see its transfer status
    TARIFF_MISSING = 24  # the operator has no tariff for this kind, currency and day
    # tiers and account states (25)
    AMOUNT_UNDER_TIER_MINIMUM = 25
    AMOUNT_OVER_TIER_MAXIMUM = 26
    DAY_LIMIT_EXCEEDED = 27
    WEEK_LIMIT_EXCEEDED = 28
    MONTH_LIMIT_EXCEEDED = 29
    PAYEE_BALANCE_LIMIT_EXCEEDED = 30
    PAYER_DORMANT = 31  # not used for as long as its tier allows; a new PIN wakes it
    PIN_IS_TEMPORARY = 32  # an operator has set it: it must be changed first
    NEW_PIN_TOO_EASY = 33  # not four digits, or one that everybody guesses first
    NEW_PIN_IS_THE_OLD_ONE = 34
    # agents and merchants (50)
    PAYER_IS_NO_AGENT = 50
    PAYER_IS_NO_MERCHANT = 51
    AGENT_HAS_NOT_ENOUGH_FLOAT = 52
    OPERATOR_ACCOUNT_MISSING = 53  # an account of the operator that this kind needs: see columns.HANDLE_KEYS
    # reversals and refunds (54)
    ORIGINAL_NOT_FOUND = 54
    ORIGINAL_IS_NOT_REVERSIBLE = 55  # its kind cannot be reversed, or its money has not moved
    PAYER_IS_NO_PARTY_OF_THE_ORIGINAL = 56
    REVERSAL_WINDOW_IS_OVER = 57
    REVERSALS_EXCEED_ORIGINAL = 58  # what was reversed before and this together are more than the original
    RECEIVER_HAS_NOT_THE_MONEY = 59
    ANOTHER_REVERSAL_CAME_BETWEEN = 60  # ask for another with a new id
    REVERSAL_IS_RESERVED = 61  # the receiver's money is reserved: the receiver or an operator posts it, or it ends
    # vouchers (62)
    PAYEE_IS_REGISTERED = 62
    VOUCHER_WAITS = 63  # the money is reserved until the voucher is redeemed, or goes back
    VOUCHER_NOT_FOUND = 64
    VOUCHER_SECRET_WRONG = 65
    VOUCHER_LOCKED = 66  # too many wrong secrets
    VOUCHER_ALREADY_REDEEMED = 67
    VOUCHER_EXPIRED = 68
    # requests to pay (69)
    REQUEST_NOT_FOUND = 69
    REQUEST_EXPIRED = 70
    REQUEST_WAS_DECLINED = 71
    REQUEST_ALREADY_PAID = 72
    PAYMENT_DIFFERS_FROM_REQUEST = 73
    # providers (74)
    PROVIDER_HAS_NOT_ANSWERED = 74  # the money is reserved; posted or voided when the provider answers
    PROVIDER_REFUSED = 75
    # remittances (76)
    QUOTE_MALFORMED = 76  # not one that this operator gave for this very payment
    QUOTE_HAS_EXPIRED = 77
    RATE_MISSING = 78  # the operator does not sell that currency now: no rate, or no liquidity
    AMOUNT_TOO_SMALL_TO_CONVERT = 79
    LANGUAGE_MALFORMED = 80
    PAYMENT_ONLY_IN_A_BATCH = 81  # two persons must have approved it


class PaymentKind(IntEnum):
    SEND_MONEY = 1
    PAY_TILL = 2
    PAY_BILL = 3
    BUY_AIRTIME = 4
    CHECK_BALANCE = 5  # no money moves; counted PIN tries only
    SEND_TO_UNREGISTERED = 6
    CASH_IN = 7
    CASH_OUT = 8
    AGENT_FLOAT = 9
    MERCHANT_PAYOUT = 10
    REDEEM_VOUCHER = 11
    REVERSAL = 12
    REFUND = 13
    REMITTANCE = 14
    PAY_REQUEST = 15
    BULK_PAYOUT = 16


class TransferCode(IntEnum):
    """Codes that the platform itself uses; clients of the raw ledger may use any above 1,000."""

    ISSUE = 1  # e-money issued against the trust account
    PRINCIPAL = 2
    FEE = 3
    EXCISE_DUTY = 4
    COMMISSION = 5
    AIRTIME = 6
    VERDICT = 7  # an analyst posts or voids what was held; the narrative says who
    PAYEE_FEE = 8  # the payee's share of the charge, out of the amount
    REVERSAL = 9  # of another payment, whose id is the narrative in hex
    FEE_RETURNED = 10
    EXCISE_RETURNED = 11
    VOUCHER = 12  # waits with the operator for somebody without an account
    VOUCHER_END = 13  # posts or voids what the voucher reserved
    REVERSAL_END = 14  # posts or voids what a reversal reserved; the narrative says who
    PROVIDER_END = 15  # posts or voids what a purchase reserved, as the provider answered
    CONVERTED = 16  # the other currency's side of a remittance


COUNTED_CODES = frozenset({TransferCode.PRINCIPAL, TransferCode.AIRTIME, TransferCode.VOUCHER, TransferCode.CONVERTED})
"""What a person moves: it counts against the payer's limits and the payee's largest balance (usage.py). Fees, duties,
commissions and what comes back do not. Codes below 62 only."""


class PinVerdict(IntEnum):
    NOT_CHECKED = 0
    RIGHT = 1
    WRONG = 2


class FraudDecision(IntEnum):
    NOT_SCORED = 0
    ALLOW = 1
    HOLD = 2
    REFUSE = 3
    ALLOW_UNSCORED = 4  # the sidecar did not answer; small amount, passed on rules alone
    HOLD_UNSCORED = 5  # the sidecar did not answer; held by policy
