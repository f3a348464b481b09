"""A phone, a gateway that sends all inputs each time, and a small ledger of known people: the menu as a person meets
it, without network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from node.ledger.statuses import PaymentKind
from node.payments.tariffs import load_tariffs
from ussd_edge.catalogues import load_words
from ussd_edge.gateways import africastalking
from ussd_edge.gateways.seam import Phase, Showing, Step
from ussd_edge.menu.asks import (
    Answer,
    Ask,
    AskBalance,
    AskBlock,
    AskChangePin,
    AskForPayment,
    AskPay,
    AskQuote,
    AskRefuse,
    AskWaiting,
    Kind,
    Order,
    Recent,
    Screen,
    Waiting,
)
from ussd_edge.menu.journeys import HOME as MENU
from ussd_edge.menu.session import converse
from ussd_edge.menu.texts import ENGLISH, Words

OWN_NUMBER = "254712000001"
PIN = "2468"
RECEIPT = "UK55F7AQHX"
HOME, BACK = MENU.pages(ENGLISH)[0], ENGLISH.back
_KENYA = load_tariffs().dated[0]
_NAMES = {
    (Kind.SEND_MONEY, "0712000002"): "Otieno",
    (Kind.SEND_MONEY, "254712000002"): "Otieno",
    (Kind.PAY_TILL, "123456"): "Mama Mboga",
    (Kind.PAY_BILL, "888880"): "Kibubu Power",
    (Kind.BUY_AIRTIME, "0712000003"): "254712000003",
    (Kind.BUY_AIRTIME, OWN_NUMBER): OWN_NUMBER,
    (Kind.CASH_OUT, "20001"): "Duka la Juma",
    (Kind.CASH_IN, "0712000002"): "Otieno",
    (Kind.AGENT_FLOAT, "20002"): "Kioski cha Amina",
    (Kind.MERCHANT_PAYOUT, "0712000002"): "Otieno",
    (Kind.SEND_TO_UNREGISTERED, "0712000009"): "254712000009",
}


class SmallLedger:
    """Answers as the real one does; the same step is the same payment and the same try."""

    def __init__(self) -> None:
        self.balance_minor = 1_000_000
        self.wrong_tries = 0
        self._known: dict[str, Answer] = {}

    def __call__(self, ask: Ask) -> Answer:
        if isinstance(ask, AskQuote):
            return self._quote(ask.order)
        if isinstance(ask, AskWaiting):
            return Answer("ok", waiting=(Waiting(7, "Mama Mboga", 40_000), Waiting(5, "Kibubu Power", 120_000)))
        if isinstance(ask, AskRefuse):
            return Answer("ok" if ask.request in (5, 7) else "request_not_found")
        if isinstance(ask, AskChangePin | AskBlock):
            what = "block" if isinstance(ask, AskBlock) else "change"
            return self._once(f"{ask.step} {what}", lambda: self._try_pin(ask.pin) or Answer("ok"))
        if isinstance(ask, AskForPayment):
            return Answer("ok" if ask.payer == "0712000002" else "payer_not_found")
        what = "balance" if isinstance(ask, AskBalance) else repr(ask.order)
        return self._once(f"{ask.step} {what}", lambda: self._decide(ask))

    def _once(self, step: str, decide: Callable[[], Answer]) -> Answer:
        if step not in self._known:
            self._known[step] = decide()
        return self._known[step]

    def _try_pin(self, pin: str) -> Answer | None:
        """None = it is right."""
        if self.wrong_tries >= 3:
            return Answer("pin_locked")
        if pin == PIN:
            return None
        self.wrong_tries += 1
        left = 3 - self.wrong_tries
        return Answer("pin_wrong" if left else "pin_wrong_and_now_locked", tries_left=left)

    def _quote(self, order: Order) -> Answer:
        if order.request:
            found = order.request in (5, 7)
            return Answer("ok", "Mama Mboga", amount_minor=40_000) if found else Answer("request_not_found")
        if order.original:
            amount_minor = order.amount_minor or 50_000
            return (
                Answer("ok", "Wanjiku", 0, amount_minor=amount_minor)
                if order.original == RECEIPT
                else Answer("original_not_found")
            )
        name = _NAMES.get((order.kind, order.payee), "")
        fee = _KENYA.fee(PaymentKind(order.kind), order.amount_minor)
        if not name:
            return Answer("payee_not_found")
        return Answer("ok", payee_name=name, fee_minor=fee.fee_minor) if fee else Answer("amount_outside_tariff")

    def _decide(self, ask: AskPay | AskBalance) -> Answer:
        wrong = self._try_pin(ask.pin)
        if wrong is not None:
            return wrong
        if isinstance(ask, AskBalance):
            recent = (Recent(1_795_600_000_000_000_000, -50_700, "Otieno"),) if ask.recent else ()
            return Answer("ok", balance_minor=self.balance_minor, available_minor=self.balance_minor, recent=recent)
        quote = self._quote(ask.order)
        if quote.status != "ok":
            return quote
        if ask.order.kind is Kind.REVERSAL:
            return Answer("reversal_is_reserved")
        total_minor = ask.order.amount_minor + quote.fee_minor
        if total_minor > self.balance_minor:
            return Answer("insufficient_funds")
        self.balance_minor -= total_minor
        if ask.order.kind is Kind.SEND_TO_UNREGISTERED:
            return Answer(
                "voucher_waits", quote.payee_name, quote.fee_minor, self.balance_minor, self.balance_minor,
                receipt="8Q4ZK1N0WT", secret="012345",
            )  # fmt: skip
        return Answer(
            "ok",
            quote.payee_name,
            quote.fee_minor,
            self.balance_minor,
            self.balance_minor,
            receipt="8Q4ZK1N0WT",
            amount_minor=quote.amount_minor,
        )


def screen(
    inputs: Sequence[str],
    ledger: Callable[[Ask], Answer],
    own_number: str = OWN_NUMBER,
    words_of: Mapping[str, Words] | None = None,
    language: str = "en",
) -> Screen:
    conversation = converse(tuple(inputs), own_number, words_of or {"en": ENGLISH}, language)
    try:
        ask = next(conversation)
        while True:
            ask = conversation.send(ledger(ask))
    except StopIteration as stop:
        shown: Screen = stop.value
        return shown


def dialled(inputs: Sequence[str], ledger: Callable[[Ask], Answer]) -> str:
    """What the phone shows, as the gateway gets it."""
    shown = screen(inputs, ledger, words_of=load_words())
    return africastalking.render(Step(Phase.PATH, "s1"), Showing(shown.fitted, shown.ends)).body.decode()
