"""What a tier forbids, before a payment is proposed: the kernel's own rules, asked on the leader's state, so that the
two can only differ by what comes in between."""

from __future__ import annotations

from typing import Any

from node.ledger import usage
from node.ledger.statuses import COUNTED_CODES, PaymentStatus, Status
from node.ledger.tiers import Tiers

BY_TRANSFER_STATUS = {
    int(Status.DEBIT_ACCOUNT_DORMANT): PaymentStatus.PAYER_DORMANT,
    int(Status.DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM): PaymentStatus.AMOUNT_UNDER_TIER_MINIMUM,
    int(Status.DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT): PaymentStatus.AMOUNT_OVER_TIER_MAXIMUM,
    int(Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT): PaymentStatus.DAY_LIMIT_EXCEEDED,
    int(Status.DEBIT_ACCOUNT_OVER_WEEK_LIMIT): PaymentStatus.WEEK_LIMIT_EXCEEDED,
    int(Status.DEBIT_ACCOUNT_OVER_MONTH_LIMIT): PaymentStatus.MONTH_LIMIT_EXCEEDED,
    int(Status.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT): PaymentStatus.PAYEE_BALANCE_LIMIT_EXCEEDED,
}
"""What a leg was refused for, as its payment says it."""
_OK = PaymentStatus.OK


def limit_broken(
    columns: Any, tiers: Tiers, payer: int, payee: int, amount_minor: int, code: int, now_ns: int
) -> PaymentStatus:
    """The first limit that a transfer of this code would break; OK = none."""
    if code not in COUNTED_CODES or not (columns[payer, usage.TIER] | columns[payee, usage.TIER]) & usage.TIER_MASK:
        return _OK
    status = usage.check_limits(columns, tiers.rows_at(now_ns), payer, payee, amount_minor, now_ns)
    return BY_TRANSFER_STATUS.get(int(status), _OK)
