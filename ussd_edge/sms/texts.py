"""What an SMS says, by kind of payment and how it ended, in the grammar that bookkeeping apps of the field can read.
Pure: an event comes in, texts go out. English here, other languages through Words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import phonenumbers
from kibubu.feed.v1 import feed_pb2
from kibubu.payments.v1 import payments_pb2

from ussd_edge.menu.texts import N_, Words
from ussd_edge.septets import shortened
from ussd_edge.sms.limits import NAME_SEPTETS_MAX, TEXT_SEPTETS_MAX
from ussd_edge.sms.seam import Sms

_RECEIVED = N_("{receipt} Confirmed. You have received {amount} from {name} {number} on {date} at {time}.")
_SENT = N_("{receipt} Confirmed. {amount} sent to {name} {number} on {date} at {time}.")
_PAID = N_("{receipt} Confirmed. {amount} paid to {name}. on {date} at {time}.")
_BILL = N_("{receipt} Confirmed. {amount} sent to {name} for account {reference} on {date} at {time}.")
_BILL_RECEIVED = N_("{receipt} Confirmed. {amount} received from {name} {number} for {reference} on {date} at {time}.")
_AIRTIME = N_("{receipt} Confirmed. You bought {amount} of airtime on {date} at {time}.")
_AIRTIME_FOR = N_("{receipt} Confirmed. You bought {amount} of airtime for {number} on {date} at {time}.")
_WITHDRAWN = N_("{receipt} Confirmed. on {date} at {time} Withdraw {amount} from {number} - {name}.")
_DEPOSITED = N_("{receipt} Confirmed. on {date} at {time} Give {amount} cash to {name}.")
_AGENT_PAYS = N_("{receipt} Confirmed. on {date} at {time} Pay out {amount} to {name} {number}.")
_AGENT_TAKES = N_("{receipt} Confirmed. on {date} at {time} Take {amount} from {name} {number}.")
_FLOAT = N_("{receipt} Confirmed. Float of {amount} sent to {number} - {name} on {date} at {time}.")
_RETURNED = N_("{receipt} Confirmed. {amount} was returned to {name} {number} on {date} at {time}.")
_GOT_BACK = N_("{receipt} Confirmed. {amount} was returned to you by {name} {number} on {date} at {time}.")
_HELD = N_("{receipt} Your payment of {amount} to {name} is being checked; the money is reserved. We will tell you.")
_UNDER_WAY = N_("{receipt} Your payment of {amount} to {name} is under way; the money is reserved. We will tell you.")
_VOUCHER = N_(
    "{receipt} Confirmed. {amount} waits for {number}, who has no account. It comes back if it is not collected."
)
_VOUCHER_FOR_YOU = N_(
    "{receipt} {name} {number} sent you {amount}. Show this code to an agent, with the secret from the sender."
)
_COLLECTED = N_("{receipt} Confirmed. {amount} sent to {number} was collected on {date} at {time}.")
_ASKED_BACK = N_(
    "{receipt} {name} {number} asks {amount} back, sent to you by mistake. It is reserved. We will tell you."
)
_SOON_BACK = N_("{receipt} {amount} that you sent to {name} is reserved while we ask. We will tell you.")
_FREED = N_("{receipt} Your payment of {amount} to {name} was not made. The money is yours again.")
_FAILED = N_("Your payment of {amount} to {name} was not made. No money was taken.")
_BALANCE = N_("New {brand} balance is {balance}.")
_COST = N_("Transaction cost, {fee}.")

# By the number of kibubu.payments.v1.PaymentKind: what the payer reads and what the payee reads; "" = nothing.
SENTENCES: Mapping[int, tuple[str, str]] = {
    1: (_SENT, _RECEIVED),  # send money
    2: (_PAID, _RECEIVED),  # till
    3: (_BILL, _BILL_RECEIVED),
    4: (_AIRTIME_FOR, ""),
    6: (_COLLECTED, ""),  # a voucher, once it was collected
    7: (_AGENT_TAKES, _DEPOSITED),  # cash in: the agent pays in e-money what it takes in cash
    8: (_WITHDRAWN, _AGENT_PAYS),  # cash out
    9: (_FLOAT, _RECEIVED),
    10: (_SENT, _RECEIVED),  # a merchant pays out
    11: ("", _RECEIVED),  # a voucher is redeemed
    12: (_RETURNED, _GOT_BACK),  # reversal
    13: (_RETURNED, _GOT_BACK),  # refund
    15: (_PAID, _RECEIVED),  # a request to pay, approved
    16: (_SENT, _RECEIVED),  # bulk
}
_OTHERWISE = (_SENT, _RECEIVED)
# The same while the money is reserved; all other kinds wait for a check or for a provider.
_WHILE_RESERVED: Mapping[int, tuple[str, str]] = {6: (_VOUCHER, _VOUCHER_FOR_YOU), 12: (_ASKED_BACK, _SOON_BACK)}
_VOUCHER_KIND = 6
_AIRTIME_KIND, _ABROAD_KIND = 4, 14
# Refusals that a person should hear of even when the screen was gone; a wrong PIN or number is told by the screen.
_TOLD_REFUSALS = frozenset({"insufficient_funds", "refused_by_fraud_check", "refused_by_ledger"})
_CURRENCY_SIGNS = {"KES": "Ksh", "UGX": "USh", "TZS": "TSh", "ZAR": "R", "USD": "$"}
_WITHOUT_CENTS = frozenset({"UGX", "RWF"})
_CLOCK_OF_24_HOURS = frozenset({"fr", "pt"})
_DONE, _RELEASED = feed_pb2.PAYMENT_STATE_DONE, feed_pb2.PAYMENT_STATE_RELEASED


@dataclass(frozen=True, slots=True)
class Style:
    """What an operator chooses once."""

    brand: str = "Kibubu"
    default_language: str = "en"
    utc_offset: timedelta = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    msisdn: str
    language: str
    sentence: str
    available_minor: int | None  # None = the text tells no balance
    fee_minor: int = 0


def texts_of(event: feed_pb2.Event, words_of: Mapping[str, Words], style: Style) -> list[Sms]:
    """The texts to the parties of one payment, the payer's first; those without a phone get none."""
    if not event.HasField("payment") or event.payment.outcome.duplicate:
        return []
    found = []
    for side in _sides(event.payment):
        if side.sentence and side.msisdn:
            language = side.language if side.language in words_of else style.default_language
            text = _text(event, side, words_of[language], language, style)
            found.append(Sms(f"{event.position}.{event.offset}.{side.name}", side.msisdn, text, event.timestamp_ns))
    return found


def _sides(told: feed_pb2.PaymentEvent) -> Iterator[_Side]:
    outcome, payment = told.outcome, told.payment
    payers, payees = SENTENCES.get(payment.kind, _OTHERWISE)
    if payment.kind == _AIRTIME_KIND and payment.payee == payment.payer_msisdn:
        payers = _AIRTIME
    if told.state in (_DONE, _RELEASED):
        available_minor = told.payer_available_minor
        yield _Side("payer", payment.payer_msisdn, told.payer_language, payers, available_minor, outcome.fee_minor)
        yield _Side("payee", told.payee_msisdn, told.payee_language, payees, told.payee_available_minor)
        return
    payers, payees, balance = _of_another_end(told)
    yield _Side("payer", payment.payer_msisdn, told.payer_language, payers, balance)
    number = payment.payee if payment.kind == _VOUCHER_KIND else told.payee_msisdn
    yield _Side("payee", number, told.payee_language, payees, None)


def _of_another_end(told: feed_pb2.PaymentEvent) -> tuple[str, str, int | None]:
    if told.state == feed_pb2.PAYMENT_STATE_HELD:
        by_us = told.outcome.status_name == "held_for_review"
        payers, payees = _WHILE_RESERVED.get(told.payment.kind, (_UNDER_WAY, ""))
        return (_HELD, "", told.payer_available_minor) if by_us else (payers, payees, told.payer_available_minor)
    if told.state == feed_pb2.PAYMENT_STATE_CANCELLED:
        return _FREED, "", told.payer_available_minor
    if told.state == feed_pb2.PAYMENT_STATE_EXPIRED:
        return _FREED, "", None
    if told.state == feed_pb2.PAYMENT_STATE_DECIDED:
        return "", "", None
    return (_FAILED if told.outcome.status_name in _TOLD_REFUSALS else ""), "", None


def _text(event: feed_pb2.Event, side: _Side, words: Words, language: str, style: Style) -> str:
    told, payment, outcome = event.payment, event.payment.payment, event.payment.outcome
    to_payer = side.name == "payer"
    amount_minor, currency = outcome.amount_minor or payment.amount_minor, payment.currency
    if not to_payer and told.payee_currency:
        amount_minor, currency = told.payee_amount_minor, told.payee_currency
    local = datetime.fromtimestamp(event.timestamp_ns // 1_000_000_000, UTC) + style.utc_offset
    name = outcome.payee_name if to_payer else told.payer_name
    number = _payee_number(told) if to_payer else payment.payer_msisdn
    fields = {
        "receipt": outcome.receipt,
        "amount": money(amount_minor, currency),
        "name": shortened(name or national(number), NAME_SEPTETS_MAX),
        "number": national(number) if name else "",
        "reference": payment.reference,
        "date": f"{local.day}/{local.month}/{local:%y}",
        "time": local.strftime("%H:%M") if language in _CLOCK_OF_24_HOURS else f"{local:%I:%M %p}".lstrip("0"),
    }
    if to_payer and payment.kind in (_AIRTIME_KIND, _VOUCHER_KIND):
        fields["number"] = national(payment.payee)
    if payment.kind == _ABROAD_KIND:
        fields["number"] = f"+{number}"
    parts = [words(side.sentence).format(**fields)]
    if side.available_minor is not None:
        balance = money(side.available_minor, currency)
        parts.append(words(_BALANCE).format(brand=style.brand, balance=balance))
    if to_payer and told.state in (_DONE, _RELEASED):
        parts.append(words(_COST).format(fee=money(side.fee_minor, currency)))
    return shortened(" ".join(" ".join(parts).split()), TEXT_SEPTETS_MAX)


def _payee_number(told: feed_pb2.PaymentEvent) -> str:
    kind = told.payment.kind
    by_handle = kind in (payments_pb2.PAYMENT_KIND_PAY_TILL, payments_pb2.PAYMENT_KIND_PAY_BILL) or kind in (8, 9)
    return told.payment.payee if by_handle or not told.payee_msisdn else told.payee_msisdn


def money(minor: int, currency: str) -> str:
    sign, mark = "-" if minor < 0 else "", _CURRENCY_SIGNS.get(currency, f"{currency} ")
    if currency in _WITHOUT_CENTS:
        return f"{sign}{mark}{abs(minor):,}"
    return f"{sign}{mark}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"


def national(number: str) -> str:
    """As people of the country write it, 0712345678; what is no phone number stays."""
    if len(number) < 10:
        return number
    try:
        parsed = phonenumbers.parse(f"+{number}")
    except phonenumbers.NumberParseException:
        return number
    digits = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    return "".join(digit for digit in digits if digit.isdigit())
