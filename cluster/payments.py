"""What the payment commands say and show: a request out of words, an outcome as a line, the reversals that wait."""

from __future__ import annotations

from datetime import UTC, datetime

from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from kibubu.review.v1 import review_pb2, review_pb2_grpc
from rich.table import Table

from cluster.accounts import handle_of
from cluster.calls import Caller, CallError
from cluster.config_files import CURRENCY
from cluster.money import format_minor

_P = payments_pb2
KINDS = {
    "send": _P.PAYMENT_KIND_SEND_MONEY,
    "till": _P.PAYMENT_KIND_PAY_TILL,
    "bill": _P.PAYMENT_KIND_PAY_BILL,
    "airtime": _P.PAYMENT_KIND_BUY_AIRTIME,
    "voucher": _P.PAYMENT_KIND_SEND_TO_UNREGISTERED,
    "redeem": _P.PAYMENT_KIND_REDEEM_VOUCHER,
    "cash-in": _P.PAYMENT_KIND_CASH_IN,
    "cash-out": _P.PAYMENT_KIND_CASH_OUT,
    "float": _P.PAYMENT_KIND_AGENT_FLOAT,
    "payout": _P.PAYMENT_KIND_MERCHANT_PAYOUT,
    "reverse": _P.PAYMENT_KIND_REVERSAL,
    "refund": _P.PAYMENT_KIND_REFUND,
    "remit": _P.PAYMENT_KIND_REMITTANCE,
    "request": _P.PAYMENT_KIND_PAY_REQUEST,
}
"""By the word that names each on the command line."""


def payment_of(
    kind: str, payment_id: bytes, payer: str, payee: str, amount_minor: int, reference: str, original: str, to: str
) -> payments_pb2.Payment:
    """Raises CallError and AccountNameError."""
    handle = handle_of(payer)
    payment = _P.Payment(
        payment_id=payment_id, kind=KINDS[kind], payee=payee, amount_minor=amount_minor, currency=CURRENCY,
        reference=reference, payee_currency=to,
    )  # fmt: skip
    if handle.key == "msisdn":
        payment.payer_msisdn = handle.value
    else:
        payment.payer = handle.value
    if len(original) == 32:
        payment.original_payment_id = id_of(original, "--original")
    elif original:
        payment.original_receipt = original
    return payment


def id_of(text: str, name: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise CallError(f"{name}: must be 32 hexadecimal digits, is {text[:40]!r}")
    return raw


def quote(caller: Caller, payment: payments_pb2.Payment) -> payments_pb2.QuotePaymentResponse:
    """Raises CallError where there is no price."""
    request = _P.QuotePaymentRequest(payment=payment)
    answer = caller.leader(lambda c: payments_pb2_grpc.PaymentsServiceStub(c).QuotePayment, request)
    if answer.gsma_code:
        raise CallError(f"refused: {answer.status_name}")
    return answer


def said(answer: payments_pb2.QuotePaymentResponse, payment: payments_pb2.Payment) -> str:
    amount_minor = answer.amount_minor or payment.amount_minor
    parts = [f"{CURRENCY} {format_minor(amount_minor)} to {answer.payee_name or payment.payee}"]
    parts.append(f"fee {format_minor(answer.fee_minor)}")
    if answer.payee_fee_minor:
        parts.append(f"of the amount {format_minor(answer.payee_fee_minor)} is the business's charge")
    if answer.commission_minor:
        parts.append(f"commission {format_minor(answer.commission_minor)}")
    if answer.payee_currency:
        parts.append(f"arrives as {answer.payee_currency} {answer.payee_amount_minor} minor units")
    return ", ".join(parts)


def pay(caller: Caller, payment: payments_pb2.Payment, pin: str, secret: str) -> str:
    """What became of it, in a line. Raises CallError where it was refused."""
    request = _P.MakePaymentRequest(payment=payment, pin=pin, secret=secret)
    outcome = caller.leader(lambda c: payments_pb2_grpc.PaymentsServiceStub(c).MakePayment, request).outcome
    if outcome.gsma_code:
        why = f" ({outcome.transfer_status_name})" if outcome.transfer_status_name else ""
        raise CallError(f"refused: {outcome.status_name}{why}")
    line = (
        f"{outcome.status_name}: {CURRENCY} {format_minor(outcome.amount_minor)}, fee {format_minor(outcome.fee_minor)}"
    )
    line += f"; available {format_minor(outcome.payer_available_minor)}; receipt {outcome.receipt or '-'}"
    if outcome.voucher_secret:
        line += f"; secret {outcome.voucher_secret}"
    return line


def reversals(caller: Caller) -> Table:
    request = review_pb2.ListReversalsRequest(page_size=500)
    answer = caller.leader(lambda c: review_pb2_grpc.ReviewServiceStub(c).ListReversals, request)
    table = Table("reversal", "of", "from", "back to", "amount", "asked by", "left", title_justify="left")
    now_ns = datetime.now(UTC).timestamp() * 1e9
    for one in answer.reversals:
        table.add_row(
            one.payment_id.hex(), one.original_payment_id.hex(), one.receiver.name, one.payer.name,
            f"{one.currency} {format_minor(one.amount_minor)}", one.maker or "the payer",
            f"{(one.expire_time_ns - now_ns) / 3.6e12:.1f} h",
        )  # fmt: skip
    return table


def propose(caller: Caller, payment_id: bytes, original: bytes, amount_minor: int, *, return_fee: bool) -> str:
    request = review_pb2.ProposeReversalRequest(
        payment_id=payment_id, original_payment_id=original, amount_minor=amount_minor, return_fee=return_fee
    )
    outcome = caller.leader(lambda c: review_pb2_grpc.ReviewServiceStub(c).ProposeReversal, request).outcome
    if outcome.gsma_code:
        raise CallError(f"refused: {outcome.status_name}")
    return f"{CURRENCY} {format_minor(outcome.amount_minor)} are reserved; another person decides {payment_id.hex()}"


def decide(caller: Caller, payment_id: bytes, *, release: bool) -> str:
    verdict = review_pb2.VERDICT_RELEASE if release else review_pb2.VERDICT_REFUSE
    request = review_pb2.DecideReversalRequest(payment_id=payment_id, verdict=verdict)
    answer = caller.leader(lambda c: review_pb2_grpc.ReviewServiceStub(c).DecideReversal, request)
    if answer.status:
        raise CallError(f"refused: {answer.status_name}")
    return f"{'given back' if release else 'left with the receiver'}, position {answer.position}"
