"""Every payment status in the error vocabulary of the GSMA Mobile Money API 1.2.0: code and category.

The codes are the API's own 38; where several of our rules share one of them, the status says which rule it was.
"""

from __future__ import annotations

from typing import NamedTuple

from node.ledger.statuses import PaymentStatus as P


class GsmaError(NamedTuple):
    category: str
    code: str


CATEGORIES = {
    "businessRule": 400,
    "validation": 400,
    "authorisation": 401,
    "identification": 404,
    "internal": 500,
    "serviceUnavailable": 503,
}
"""Each with the HTTP status that the API answers it with."""

CODES = frozenset((
    "genericError", "dailyVolumeLimitExceeded", "weeklyVolumeLimitExceeded", "monthlyVolumeLimitExceeded",
    "dailyValueLimitExceeded", "weeklyValueLimitExceeded", "monthlyValueLimitExceeded",
    "accountMaxTotalVolumeExceeded", "accountMaxTotalValueExceeded", "lessThanTransactionMinValue",
    "greaterThanTransactionMaxValue", "maxBalanceExceeded", "samePartiesError", "duplicateRequest",
    "insufficientFunds", "incorrectState", "underPaymentNotAllowed", "overPaymentNotAllowed", "rateLimitError",
    "transactionTypeError", "noMandateAuthority", "linkViolation", "countryofOriginNotPermitted",
    "nationalityNotPermitted", "idDocumentNotSupported", "issuingCountryNotSupported", "quoteHasExpired",
    "identifierError", "lengthError", "formatError", "negativeValue", "currencyNotSupported",
    "mandatoryValueNotSupplied", "invalidOffset", "clientAuthorisationError", "requestDeclined",
    "servicingPartyAuthorisationError", "requestingPartyAuthorisationError",
))  # fmt: skip

_NONE = GsmaError("", "")
_STATE = GsmaError("businessRule", "incorrectState")
_FUNDS = GsmaError("businessRule", "insufficientFunds")
_IDENTIFIER = GsmaError("identification", "identifierError")
_FORMAT = GsmaError("validation", "formatError")
_PIN = GsmaError("authorisation", "requestingPartyAuthorisationError")
_DECLINED = GsmaError("authorisation", "requestDeclined")
_TYPE = GsmaError("businessRule", "transactionTypeError")
_INTERNAL = GsmaError("internal", "genericError")

GSMA: dict[P, GsmaError] = {
    P.OK: _NONE,
    P.PAYMENT_ID_MUST_NOT_BE_ZERO: GsmaError("validation", "mandatoryValueNotSupplied"),
    P.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT: GsmaError("businessRule", "duplicateRequest"),
    P.KIND_UNKNOWN: _TYPE,
    P.AMOUNT_MUST_BE_POSITIVE: GsmaError("validation", "negativeValue"),
    P.AMOUNT_OUTSIDE_TARIFF: GsmaError("businessRule", "greaterThanTransactionMaxValue"),
    P.REFERENCE_MALFORMED: _FORMAT,
    P.PAYER_NOT_FOUND: _IDENTIFIER,
    P.PAYEE_NOT_FOUND: _IDENTIFIER,
    P.PAYER_IS_PAYEE: GsmaError("businessRule", "samePartiesError"),
    P.CURRENCY_DIFFERS: GsmaError("validation", "currencyNotSupported"),
    P.PAYER_CLOSED: _STATE,
    P.PAYER_FROZEN: _STATE,
    P.PAYEE_CLOSED: _STATE,
    P.PAYEE_FROZEN: _STATE,
    P.PIN_NOT_SET: _PIN,
    P.PIN_MALFORMED: GsmaError("validation", "lengthError"),
    P.PIN_LOCKED: _PIN,
    P.PIN_WRONG: _PIN,
    P.PIN_WRONG_AND_NOW_LOCKED: _PIN,
    P.INSUFFICIENT_FUNDS: _FUNDS,
    P.REFUSED_BY_FRAUD_CHECK: _DECLINED,
    P.HELD_FOR_REVIEW: _NONE,  # not an error: the API's `pending`
    P.REFUSED_BY_LEDGER: _INTERNAL,
    P.TARIFF_MISSING: _TYPE,
    P.AMOUNT_UNDER_TIER_MINIMUM: GsmaError("businessRule", "lessThanTransactionMinValue"),
    P.AMOUNT_OVER_TIER_MAXIMUM: GsmaError("businessRule", "greaterThanTransactionMaxValue"),
    P.DAY_LIMIT_EXCEEDED: GsmaError("businessRule", "dailyValueLimitExceeded"),
    P.WEEK_LIMIT_EXCEEDED: GsmaError("businessRule", "weeklyValueLimitExceeded"),
    P.MONTH_LIMIT_EXCEEDED: GsmaError("businessRule", "monthlyValueLimitExceeded"),
    P.PAYEE_BALANCE_LIMIT_EXCEEDED: GsmaError("businessRule", "maxBalanceExceeded"),
    P.PAYER_DORMANT: _STATE,
    P.PIN_IS_TEMPORARY: _PIN,
    P.NEW_PIN_TOO_EASY: _FORMAT,
    P.NEW_PIN_IS_THE_OLD_ONE: _FORMAT,
    P.PAYER_IS_NO_AGENT: _IDENTIFIER,
    P.PAYER_IS_NO_MERCHANT: _IDENTIFIER,
    P.AGENT_HAS_NOT_ENOUGH_FLOAT: _FUNDS,
    P.OPERATOR_ACCOUNT_MISSING: _INTERNAL,
    P.ORIGINAL_NOT_FOUND: _IDENTIFIER,
    P.ORIGINAL_IS_NOT_REVERSIBLE: _STATE,
    P.PAYER_IS_NO_PARTY_OF_THE_ORIGINAL: GsmaError("authorisation", "servicingPartyAuthorisationError"),
    P.REVERSAL_WINDOW_IS_OVER: _STATE,
    P.REVERSALS_EXCEED_ORIGINAL: GsmaError("businessRule", "overPaymentNotAllowed"),
    P.RECEIVER_HAS_NOT_THE_MONEY: _FUNDS,
    P.ANOTHER_REVERSAL_CAME_BETWEEN: _STATE,
    P.REVERSAL_IS_RESERVED: _NONE,
    P.PAYEE_IS_REGISTERED: _TYPE,
    P.VOUCHER_WAITS: _NONE,
    P.VOUCHER_NOT_FOUND: _IDENTIFIER,
    P.VOUCHER_SECRET_WRONG: _PIN,
    P.VOUCHER_LOCKED: _PIN,
    P.VOUCHER_ALREADY_REDEEMED: _STATE,
    P.VOUCHER_EXPIRED: _STATE,
    P.REQUEST_NOT_FOUND: _IDENTIFIER,
    P.REQUEST_EXPIRED: _STATE,
    P.REQUEST_WAS_DECLINED: _DECLINED,
    P.REQUEST_ALREADY_PAID: GsmaError("businessRule", "duplicateRequest"),
    P.PAYMENT_DIFFERS_FROM_REQUEST: GsmaError("businessRule", "underPaymentNotAllowed"),
    P.PROVIDER_HAS_NOT_ANSWERED: _NONE,
    P.PROVIDER_REFUSED: _DECLINED,
    P.QUOTE_MALFORMED: _FORMAT,
    P.QUOTE_HAS_EXPIRED: GsmaError("businessRule", "quoteHasExpired"),
    P.RATE_MISSING: GsmaError("validation", "currencyNotSupported"),
    P.LANGUAGE_MALFORMED: _FORMAT,
    P.PAYMENT_ONLY_IN_A_BATCH: _DECLINED,
    P.AMOUNT_TOO_SMALL_TO_CONVERT: GsmaError("businessRule", "lessThanTransactionMinValue"),
}


def gsma_error(status: int) -> GsmaError:
    """Of a status that this table does not know yet: an error without a cause, never a success."""
    return _BY_NUMBER.get(status, _INTERNAL)


_BY_NUMBER = {int(status): error for status, error in GSMA.items()}
