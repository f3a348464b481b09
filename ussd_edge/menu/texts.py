"""Every sentence that a person reads, in English here, in other languages through `Words`. Kept short: a screen has 182
septets and a name may take 24 of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property

from ussd_edge.menu.asks import NOT_APPLIED, UNKNOWN, Answer, Kind, Order, Waiting
from ussd_edge.menu.paging import pages
from ussd_edge.septets import SCREEN_SEPTETS_MAX, length, shortened, to_gsm

NAME_SEPTETS_MAX = 24
WAITING_NAME_SEPTETS_MAX = 12
RECENT_NAME_SEPTETS_MAX = 10  # so five payments of millions fit one screen
LOCAL_TIME = timezone(timedelta(hours=3))  # of KES, as the tariffs have it
LANGUAGES = {  # each by its own name, in the order of the menu
    "en": "English", "sw": "Kiswahili", "fr": "Français", "ha": "Hausa", "yo": "Yorùbá", "pt": "Português",
}  # fmt: skip


def N_(text: str) -> str:  # noqa: N802
    """Marks a text for the catalogues; it is translated where it is shown."""
    return text


CHOOSE_LANGUAGE = N_("Choose a language")
NUMBER, TILL, PAYBILL = N_("Enter phone number"), N_("Enter till number"), N_("Enter business number")
AGENT_NUMBER, NOT_AN_AGENT = N_("Enter agent number"), N_("An agent number has 4 to 7 digits.")
RECEIPT, NOT_A_RECEIPT = N_("Enter receipt number"), N_("A receipt has 10 letters and digits.")
SECRET, NOT_A_SECRET = N_("Enter the voucher's secret"), N_("A secret has 6 digits.")
REQUEST, NOT_A_REQUEST = N_("Enter its number"), N_("That is not the number of a request.")
REQUESTS, NO_REQUESTS = N_("You are asked to pay"), N_("Nobody has asked you to pay.")
YES = N_("1 Yes")
NEW_PIN = N_("Enter old PIN, new PIN and new PIN again: 12 digits")
NOT_A_NEW_PIN = N_("Old PIN, new PIN, new PIN again: 12 digits.")
REFERENCE, AMOUNT, PIN = N_("Enter account number"), N_("Enter amount in KES"), N_("Enter PIN")
BACK, HOME, EXIT, MORE = N_("Back"), N_("Home"), N_("Exit"), N_("More")  # no N_ is found within an f-string
FEE_QUOTED, NO_FEE, FEE_PAID = N_("Fee KES {fee}."), N_("No fee."), N_("Fee {fee}.")
BALANCE_AFTER = N_("Balance {balance}.")
BALANCE, RESERVED = N_("Your balance is KES {balance}."), N_("Reserved KES {amount}.")
NO_PAYMENTS = N_("There were no payments yet.")
GOODBYE = N_("Thank you for using Kibubu.")
TOO_LONG = N_("That was too long. Please dial again.")
LOST = N_("The session is over. Nothing was paid. Please dial again.")
BUSY = N_("The service is busy. Nothing was paid. Please try again.")
BUSY_READING = N_("The service is busy. Please try again.")
TOO_OFTEN = N_("Too many requests from this phone. Please wait a minute.")
NOT_IN_USE = N_("This service code is not in use.")
BROKEN = N_("The service has a problem. If you were paying, check your balance before you pay again.")
PIN_DIALLED = N_("Never dial your PIN: others can see it. Nothing was paid. Dial without it and change your PIN.")
RESUME, RESUME_ITEMS = N_("You stopped before the end."), (N_("Go on"), N_("Start again"))
NOT_A_CHOICE = N_("Choose a number from the list.")
NOT_A_NUMBER = N_("That is not a phone number.")
NOT_A_TILL = N_("A till has 5 to 7 digits.")
NOT_A_PAYBILL = N_("A business number has 5 to 7 digits.")
NOT_A_REFERENCE = N_("An account number has 1 to 20 letters or digits.")
NOT_AN_AMOUNT = N_("Amount like 500 or 500.50.")
NOT_A_PIN = N_("A PIN has 4 digits.")
_DONE = {
    Kind.SEND_MONEY: N_("Sent KES {amount} to {name}."),
    Kind.PAY_TILL: N_("Paid KES {amount} to {name}."),
    Kind.PAY_BILL: N_("Paid KES {amount} to {name} for {reference}."),
    Kind.BUY_AIRTIME: N_("Airtime KES {amount} for {name}."),
    Kind.CASH_OUT: N_("Take KES {amount} in cash from {name}."),
    Kind.CASH_IN: N_("Deposited KES {amount} for {name}."),
    Kind.AGENT_FLOAT: N_("Float KES {amount} sent to {name}."),
    Kind.MERCHANT_PAYOUT: N_("Paid KES {amount} to {name}."),
    Kind.SEND_TO_UNREGISTERED: N_("Voucher KES {amount} for {name}. Secret {secret}: tell only the receiver."),
    Kind.REDEEM_VOUCHER: N_("Hand out KES {amount} in cash."),
    Kind.PAY_REQUEST: N_("Paid KES {amount} to {name}."),
    Kind.REVERSAL: N_("KES {amount} went back to {name}."),
    Kind.REFUND: N_("KES {amount} went back to {name}."),
}
_CONFIRM = {
    Kind.SEND_MONEY: N_("Send KES {amount} to {name}?"),
    Kind.PAY_TILL: N_("Pay KES {amount} to {name}?"),
    Kind.PAY_BILL: N_("Pay KES {amount} to {name} for {reference}?"),
    Kind.BUY_AIRTIME: N_("Buy airtime of KES {amount} for {name}?"),
    Kind.CASH_OUT: N_("Withdraw KES {amount} from {name}?"),
    Kind.CASH_IN: N_("Did you get KES {amount} in cash from {name}?"),
    Kind.AGENT_FLOAT: N_("Send float of KES {amount} to {name}?"),
    Kind.MERCHANT_PAYOUT: N_("Pay KES {amount} to {name}?"),
    Kind.SEND_TO_UNREGISTERED: N_("Send a voucher of KES {amount} to {name}?"),
    Kind.REDEEM_VOUCHER: N_("Pay out voucher {original} of KES {amount}?"),
    Kind.PAY_REQUEST: N_("Pay KES {amount} to {name}?"),
    Kind.REVERSAL: N_("Give KES {amount} of {original} back to {name}?"),
    Kind.REFUND: N_("Give KES {amount} of {original} back to {name}?"),
}
_NOBODY = {
    Kind.SEND_MONEY: N_("No customer has this number."),
    Kind.PAY_TILL: N_("No business has this till."),
    Kind.PAY_BILL: N_("No business has this number."),
    Kind.BUY_AIRTIME: N_("Airtime cannot be bought for this number."),
    Kind.CASH_OUT: N_("No agent has this number."),
    Kind.CASH_IN: N_("No customer has this number."),
    Kind.AGENT_FLOAT: N_("No agent has this number."),
    Kind.MERCHANT_PAYOUT: N_("No customer has this number."),
    Kind.SEND_TO_UNREGISTERED: N_("A voucher cannot be sent to this number."),
    Kind.REDEEM_VOUCHER: N_("There is no such voucher."),
    Kind.PAY_REQUEST: N_("This request cannot be paid."),
    Kind.REVERSAL: N_("No payment has this receipt."),
    Kind.REFUND: N_("No payment has this receipt."),
}
_REFUSED = {
    UNKNOWN: N_("We do not know yet if it went through. Do NOT pay again now: an SMS will tell you when it has."),
    NOT_APPLIED: BUSY,
    "payer_not_found": N_("This number has no Kibubu account."),
    "payer_is_payee": N_("You cannot pay yourself."),
    "payer_closed": N_("Your account is closed."),
    "payer_frozen": N_("Your account is blocked. Call customer care."),
    "payee_closed": N_("This account cannot receive money."),
    "payee_frozen": N_("This account cannot receive money now."),
    "amount_outside_tariff": N_("This amount is below or above what can be paid."),
    "amount_under_tier_minimum": N_("This amount is too small."),
    "amount_over_tier_maximum": N_("This amount is too large for one payment."),
    "day_limit_exceeded": N_("This is more than you can still pay today."),
    "week_limit_exceeded": N_("This is more than you can still pay this week."),
    "month_limit_exceeded": N_("This is more than you can still pay this month."),
    "payee_balance_limit_exceeded": N_("The receiver's account cannot hold so much money."),
    "payer_dormant": N_("Your account has not been used for long. Change your PIN to use it again."),
    "pin_is_temporary": N_("Your PIN is temporary. Change it first."),
    "new_pin_too_easy": N_("The new PIN is too easy to guess."),
    "new_pin_is_the_old_one": N_("The new PIN must differ from the old one."),
    "tariff_missing": N_("This service is not available today."),
    "pin_not_set": N_("You have no PIN yet. Call customer care."),
    "pin_locked": N_("Your PIN is locked. Call customer care."),
    "pin_wrong_and_now_locked": N_("Wrong PIN. Your PIN is now locked. Call customer care."),
    "insufficient_funds": N_("You do not have enough money for this and its fee."),
    "payer_is_no_agent": N_("Only agents can do this."),
    "payer_is_no_merchant": N_("Only businesses can do this."),
    "agent_has_not_enough_float": N_("There is not enough float for this."),
    "original_not_found": N_("No payment has this receipt."),
    "original_is_not_reversible": N_("This payment cannot be returned. Call customer care."),
    "payer_is_no_party_of_the_original": N_("This payment is not yours."),
    "reversal_window_is_over": N_("It is too late to return this payment. Call customer care."),
    "reversals_exceed_original": N_("This is more than what is left of the payment."),
    "receiver_has_not_the_money": N_("The receiver has not got the money any more. Call customer care."),
    "reversal_is_reserved": N_("The money is reserved. It comes back when the receiver agrees or we decide."),
    "another_reversal_came_between": BUSY,
    "payee_is_registered": N_("This number has an account. Send money to it."),
    "voucher_not_found": N_("There is no such voucher."),
    "voucher_secret_wrong": N_("The secret is wrong. Do not pay it out."),
    "voucher_locked": N_("Too many wrong secrets. This voucher is locked. Call customer care."),
    "voucher_already_redeemed": N_("This voucher was paid out before."),
    "voucher_expired": N_("This voucher has ended. Its money went back to the sender."),
    "request_not_found": N_("There is no such request."),
    "request_expired": N_("The request has ended. Nothing was paid."),
    "request_was_declined": N_("You have refused this request. Nothing was paid."),
    "request_already_paid": N_("This request was paid before."),
    "refused_by_fraud_check": N_("This payment was stopped for your safety. Call customer care."),
    "held_for_review": N_("Your payment is being checked; the money is reserved. We will tell you."),
}
_REFUSED_OTHERWISE = N_("It could not be done. Nothing was paid.")


def money(minor: int) -> str:
    return f"{minor // 100:,}.{minor % 100:02d}"


def _english_plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


class Words:
    """All texts in one language, each as every phone can show it. `translate` and `plural` are gettext and ngettext of
    its catalogue."""

    def __init__(
        self,
        translate: Callable[[str], str] = lambda text: text,
        plural: Callable[[str, str, int], str] = _english_plural,
    ) -> None:
        self._translate = translate
        self._plural = plural
        self._known: dict[str, str] = {}  # grows to the sentences above, no further
        self._menus: dict[str, list[str]] = {}  # by title

    def __call__(self, text: str) -> str:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = to_gsm(self._translate(text))
        return known

    # --- whole screens ----------------------------------------------------------------------------------------------

    def asking(self, prompt: str) -> str:
        return self(prompt) + self.back

    @cached_property
    def back(self) -> str:
        return f"\n0 {self(BACK)}\n00 {self(HOME)}"

    def menu(self, title: str, items: tuple[str, ...], *, is_home: bool = False) -> list[str]:
        """Its pages; kept, since every session begins with one."""
        known = self._menus.get(title)
        if known is None:
            footer = f"\n0 {self(EXIT)}" if is_home else self.back
            known = self._menus[title] = self._list(self(title), [self(item) for item in items], footer)
        return known

    @cached_property
    def languages(self) -> list[str]:
        return self._list(self(CHOOSE_LANGUAGE), list(LANGUAGES.values()), self.back)

    @cached_property
    def resume(self) -> str:
        return self._list(self(RESUME), [self(item) for item in RESUME_ITEMS], "")[0]

    def _list(self, title: str, items: Sequence[str], footer: str) -> list[str]:
        lines = [f"{number} {item}" for number, item in enumerate(items, 1)]
        return pages(title, lines, self(MORE), footer, reserve=length(self.complaint(NOT_A_CHOICE)))

    def complaint(self, text: str) -> str:
        return f"{self(text)}\n" if text else ""

    def requests(self, waiting: Sequence[Waiting]) -> str:
        """Those that wait, as many as fit, and the question for a number."""
        text, end = self(REQUESTS), f"\n{self.asking(REQUEST)}"
        room = SCREEN_SEPTETS_MAX - length(end) - length(self.complaint(NOT_A_REQUEST))
        for one in waiting:
            line = f"\n{one.number}: {money(one.amount_minor)} {shortened(one.name, WAITING_NAME_SEPTETS_MAX)}".rstrip(
                " "
            )
            if length(text + line) > room:
                break
            text += line
        return text + end

    def confirm_act(self, confirm: str, given: Sequence[str]) -> str:
        return f"{self(confirm).format(given=given)}\n{self.asking(YES)}"

    def confirm(self, order: Order, quote: Answer) -> str:
        fee = self(FEE_QUOTED).format(fee=money(quote.fee_minor)) if quote.fee_minor else self(NO_FEE)
        return f"{self._filled(_CONFIRM[order.kind], order, quote)} {fee}\n{self.asking(PIN)}"

    def done(self, order: Order, answer: Answer) -> str:
        parts = [self._filled(_DONE[order.kind], order, answer)]
        if answer.fee_minor:
            parts.append(self(FEE_PAID).format(fee=money(answer.fee_minor)))
        parts.append(self(BALANCE_AFTER).format(balance=money(answer.balance_minor)))
        return " ".join([*parts, *([answer.receipt] if answer.receipt else [])])

    def balance(self, answer: Answer) -> str:
        reserved_minor = answer.balance_minor - answer.available_minor
        text = self(BALANCE).format(balance=money(answer.balance_minor))
        if not reserved_minor:
            return text
        return f"{text} {self(RESERVED).format(amount=money(reserved_minor))}"

    def statement(self, answer: Answer) -> str:
        """What is left, then the last payments, a line each, as many as fit."""
        text = self(BALANCE_AFTER).format(balance=money(answer.balance_minor))
        if not answer.recent:
            return f"{text}\n{self(NO_PAYMENTS)}"
        for recent in answer.recent:
            day = datetime.fromtimestamp(recent.timestamp_ns // 1_000_000_000, LOCAL_TIME)
            sign, name = "-" if recent.amount_minor < 0 else "+", shortened(recent.name, RECENT_NAME_SEPTETS_MAX)
            line = f"\n{day:%d/%m} {sign}{money(abs(recent.amount_minor))} {name}".rstrip(" ")
            if length(text + line) > SCREEN_SEPTETS_MAX:
                break
            text += line
        return text

    def refused(self, status: str, order: Order | None) -> str:
        if status == "payee_not_found" and order is not None:
            return self(_NOBODY[order.kind])
        if order is None and status in (UNKNOWN, NOT_APPLIED):
            return self(BUSY_READING)
        return self(_REFUSED.get(status, _REFUSED_OTHERWISE))

    def wrong_pin(self, tries_left: int, prompt: str = PIN) -> str:
        said = self._plural("Wrong PIN. {count} try left.", "Wrong PIN. {count} tries left.", tries_left)
        return f"{to_gsm(said).format(count=tries_left)}\n{self.asking(prompt)}"

    def _filled(self, template: str, order: Order, answer: Answer) -> str:
        name = shortened(answer.payee_name or order.payee, NAME_SEPTETS_MAX)
        return self(template).format(
            amount=money(order.amount_minor or answer.amount_minor), name=name, reference=order.reference,
            original=order.original, secret=answer.secret,
        )  # fmt: skip


ENGLISH = Words()
