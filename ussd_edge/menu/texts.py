"""Every sentence that a person reads. Kept short: a screen has 182 septets and a name may take 24 of them."""

from __future__ import annotations

from ussd_edge.menu.asks import NOT_APPLIED, UNKNOWN, Answer, Kind, Order
from ussd_edge.septets import shortened

NAME_SEPTETS_MAX = 24
HOME = "Kibubu\n1 Send money\n2 Pay till\n3 Pay bill\n4 Buy airtime\n5 Check balance\n0 Exit"
AIRTIME = "Airtime for\n1 My number\n2 Other number"
NUMBER, TILL, PAYBILL = "Enter phone number", "Enter till number", "Enter business number"
REFERENCE, AMOUNT, PIN = "Enter account number", "Enter amount in KES", "Enter PIN"
BACK = "\n0 Back\n00 Home"
GOODBYE = "Thank you for using Kibubu."
TOO_LONG = "That was too long. Please dial again."
LOST = "The session is over. Nothing was paid. Please dial again."
BUSY = "The service is busy. Nothing was paid. Please try again."
TOO_OFTEN = "Too many requests from this phone. Please wait a minute."
NOT_IN_USE = "This service code is not in use."
BROKEN = "The service has a problem. If you were paying, check your balance before you pay again."
PIN_DIALLED = "Never dial your PIN: others can see it. Nothing was paid. Dial without it and change your PIN."
RESUME = "You stopped before the end.\n1 Go on\n2 Start again"
NOT_A_CHOICE = "Choose a number from the list.\n"
NOT_A_NUMBER = "That is not a phone number.\n"
NOT_A_TILL = "A till has 5 to 7 digits.\n"
NOT_A_PAYBILL = "A business number has 5 to 7 digits.\n"
NOT_A_REFERENCE = "An account number has 1 to 20 letters or digits.\n"
NOT_AN_AMOUNT = "Amount like 500 or 500.50.\n"
NOT_A_PIN = "A PIN has 4 digits.\n"
_DONE = {
    Kind.SEND_MONEY: "Sent KES {amount} to {name}.",
    Kind.PAY_TILL: "Paid KES {amount} to {name}.",
    Kind.PAY_BILL: "Paid KES {amount} to {name} for {reference}.",
    Kind.BUY_AIRTIME: "Airtime KES {amount} for {name}.",
}
_CONFIRM = {
    Kind.SEND_MONEY: "Send KES {amount} to {name}?",
    Kind.PAY_TILL: "Pay KES {amount} to {name}?",
    Kind.PAY_BILL: "Pay KES {amount} to {name} for {reference}?",
    Kind.BUY_AIRTIME: "Buy airtime of KES {amount} for {name}?",
}
_NOBODY = {
    Kind.SEND_MONEY: "No customer has this number.",
    Kind.PAY_TILL: "No business has this till.",
    Kind.PAY_BILL: "No business has this number.",
    Kind.BUY_AIRTIME: "Airtime cannot be bought for this number.",
}
_REFUSED = {
    UNKNOWN: "We do not know yet if it went through. Do NOT pay again now; check your balance in a few minutes.",
    NOT_APPLIED: BUSY,
    "payer_not_found": "This number has no Kibubu account.",
    "payer_is_payee": "You cannot pay yourself.",
    "payer_closed": "Your account is closed.",
    "payer_frozen": "Your account is blocked. Call customer care.",
    "payee_closed": "This account cannot receive money.",
    "payee_frozen": "This account cannot receive money now.",
    "amount_outside_tariff": "This amount is below or above what can be paid.",
    "tariff_missing": "This service is not available today.",
    "pin_not_set": "You have no PIN yet. Call customer care.",
    "pin_locked": "Your PIN is locked. Call customer care.",
    "pin_wrong_and_now_locked": "Wrong PIN. Your PIN is now locked. Call customer care.",
    "insufficient_funds": "You do not have enough money for this and its fee.",
    "refused_by_fraud_check": "This payment was stopped for your safety. Call customer care.",
    "held_for_review": "Your payment is being checked; the money is reserved. We will tell you.",
}
_REFUSED_OTHERWISE = "It could not be done. Nothing was paid."


def money(minor: int) -> str:
    return f"{minor // 100:,}.{minor % 100:02d}"


def confirm(order: Order, quote: Answer) -> str:
    fee = f" Fee KES {money(quote.fee_minor)}." if quote.fee_minor else " No fee."
    return _filled(_CONFIRM[order.kind], order, quote) + fee + f"\n{PIN}{BACK}"


def done(order: Order, answer: Answer) -> str:
    fee = f" Fee {money(answer.fee_minor)}." if answer.fee_minor else ""
    return f"{_filled(_DONE[order.kind], order, answer)}{fee} Balance {money(answer.balance_minor)}. {answer.receipt}"


def balance(answer: Answer) -> str:
    reserved_minor = answer.balance_minor - answer.available_minor
    reserved = f" Reserved KES {money(reserved_minor)}." if reserved_minor else ""
    return f"Your balance is KES {money(answer.balance_minor)}.{reserved}"


def refused(status: str, order: Order | None) -> str:
    if status == "payee_not_found" and order is not None:
        return _NOBODY[order.kind]
    return _REFUSED.get(status, _REFUSED_OTHERWISE)


def wrong_pin(tries_left: int) -> str:
    return f"Wrong PIN. {tries_left} {'try' if tries_left == 1 else 'tries'} left.\n{PIN}{BACK}"


def _filled(template: str, order: Order, answer: Answer) -> str:
    name = shortened(answer.payee_name or order.payee, NAME_SEPTETS_MAX)
    return template.format(amount=money(order.amount_minor), name=name, reference=order.reference)
