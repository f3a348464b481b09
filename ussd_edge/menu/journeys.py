"""What can be done on the phone: a tree of menus, at its leaves journeys, each a few fields and then the PIN."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ussd_edge.menu import texts
from ussd_edge.menu.asks import Ask, AskBalance, AskBlock, AskChangePin, AskForPayment, AskPay, AskRefuse, Kind, Order
from ussd_edge.menu.texts import LANGUAGES, N_, Words

Act = AskBlock | AskChangePin | AskForPayment | AskRefuse
STATEMENT_LINES = 5
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is asked for: `shown` tells its pages, all but a list has one."""

    shown: Callable[[Words], list[str]]
    accepts: Callable[[str], bool]
    complaint: str
    is_secret: bool = False  # what was typed is never kept


@dataclass(frozen=True, slots=True)
class Journey:
    """After the fields comes `last`, a PIN or a yes. `order` makes what is to be paid out of the fields and the
    caller's own number; `act` what else is to be done, out of the fields, the last input and its place, and `done` says
    that it is. Neither = a balance check, with so many of the last payments as `recent` says."""

    item: str
    fields: tuple[Field, ...]
    order: Callable[[Sequence[str], str], Order] | None = None
    recent: int = 0
    act: Callable[[Sequence[str], str, int], Act] | None = None
    last: Field | None = None
    confirm: str = ""  # shown above a yes
    done: str = ""


@dataclass(frozen=True, slots=True)
class LanguageChoice:
    item: str


@dataclass(frozen=True, slots=True)
class Menu:
    """`title` heads its page, `item` is its line in the menu above."""

    item: str
    title: str
    items: tuple[Menu | Journey | LanguageChoice, ...]

    def pages(self, words: Words) -> list[str]:
        return words.menu(self.title, tuple(one.item for one in self.items), is_home=not self.item)

    def field(self) -> Field:
        return Field(self.pages, self.has, texts.NOT_A_CHOICE)

    def has(self, text: str) -> bool:
        return text in _NUMBERS[: len(self.items)]

    def chosen(self, text: str) -> Menu | Journey | LanguageChoice:
        return self.items[int(text) - 1]


_NUMBERS = tuple(str(number) for number in range(1, 21))  # no digit of another script, no zero in front


def amount_minor_of(text: str) -> int:
    """0 = not an amount."""
    found = _AMOUNT.fullmatch(text)
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else 0


def _asked(prompt: str) -> Callable[[Words], list[str]]:
    return lambda words: [words.asking(prompt)]


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


_NUMBER = Field(_asked(texts.NUMBER), _matches(r"\+?[0-9]{9,15}"), texts.NOT_A_NUMBER)
_TILL = Field(_asked(texts.TILL), _matches(r"[0-9]{5,7}"), texts.NOT_A_TILL)
_PAYBILL = Field(_asked(texts.PAYBILL), _matches(r"[0-9]{5,7}"), texts.NOT_A_PAYBILL)
_AGENT_NUMBER = Field(_asked(texts.AGENT_NUMBER), _matches(r"[0-9]{4,7}"), texts.NOT_AN_AGENT)
_REFERENCE = Field(_asked(texts.REFERENCE), _matches(r"[0-9A-Za-z #/._-]{1,20}"), texts.NOT_A_REFERENCE)
_RECEIPT = Field(_asked(texts.RECEIPT), _matches(r"[0-9A-Za-z]{10}"), texts.NOT_A_RECEIPT)
_SECRET = Field(_asked(texts.SECRET), _matches(r"[0-9]{6}"), texts.NOT_A_SECRET)
_AMOUNT_FIELD = Field(_asked(texts.AMOUNT), lambda text: amount_minor_of(text) > 0, texts.NOT_AN_AMOUNT)
LANGUAGE = Field(lambda words: words.languages, _matches(rf"[1-{len(LANGUAGES)}]"), texts.NOT_A_CHOICE)
PIN = Field(_asked(texts.PIN), _matches(r"[0-9]{4}"), texts.NOT_A_PIN, is_secret=True)
NEW_PIN = Field(_asked(texts.NEW_PIN), _matches(r"[0-9]{4}([0-9]{4})\1"), texts.NOT_A_NEW_PIN, is_secret=True)


REQUEST = Field(_asked(texts.REQUEST), _matches(r"[1-9][0-9]{0,4}"), texts.NOT_A_REQUEST)
YES = Field(_asked(texts.YES), _matches(r"1"), texts.NOT_A_CHOICE)


def _payee_and_amount(kind: Kind) -> Callable[[Sequence[str], str], Order]:
    return lambda given, _: Order(kind, given[0].lstrip("+"), amount_minor_of(given[1]))


def _bill(given: Sequence[str], _: str) -> Order:
    return Order(Kind.PAY_BILL, given[0], amount_minor_of(given[2]), given[1])


def _own_airtime(given: Sequence[str], own_number: str) -> Order:
    return Order(Kind.BUY_AIRTIME, own_number, amount_minor_of(given[0]))


def _reversal(given: Sequence[str], _: str) -> Order:
    return Order(Kind.REVERSAL, "", 0, original=given[0].upper())


def _request(given: Sequence[str], _: str) -> Order:
    return Order(Kind.PAY_REQUEST, "", 0, request=int(given[0]))


def _refusal(given: Sequence[str], _: str, __: int) -> AskRefuse:
    return AskRefuse(int(given[0]))


def _new_pin(_: Sequence[str], typed: str, step: int) -> AskChangePin:
    return AskChangePin(typed[:4], typed[4:8], step)


def _block(given: Sequence[str], typed: str, step: int) -> AskBlock:
    return AskBlock(given[0].lstrip("+"), typed, step)


def _asking(given: Sequence[str], _: str, step: int) -> AskForPayment:
    return AskForPayment(given[0].lstrip("+"), amount_minor_of(given[1]), step)


def _redemption(given: Sequence[str], _: str) -> Order:
    return Order(Kind.REDEEM_VOUCHER, "", 0, original=given[0].upper(), secret=given[1])


def _refund(given: Sequence[str], _: str) -> Order:
    return Order(Kind.REFUND, "", amount_minor_of(given[1]), original=given[0].upper())


_AIRTIME = Menu(
    N_("Buy airtime"),
    N_("Airtime for"),
    (
        Journey(N_("My number"), (_AMOUNT_FIELD,), _own_airtime),
        Journey(N_("Other number"), (_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.BUY_AIRTIME)),
    ),
)
_ACCOUNT = Menu(
    N_("My account"),
    N_("My account"),
    (
        Journey(N_("Last payments"), (), recent=STATEMENT_LINES),
        Journey(N_("Return a payment"), (_RECEIPT,), _reversal),
        Journey(N_("Pay a request"), (REQUEST,), _request),
        Journey(
            N_("Refuse a request"),
            (REQUEST,),
            act=_refusal,
            last=YES,
            confirm=N_("Refuse request {given[0]}?"),
            done=N_("The request is refused. Nothing was paid."),
        ),
        Journey(N_("Change PIN"), (), act=_new_pin, last=NEW_PIN, done=N_("Your PIN is changed.")),
        Journey(
            N_("Block an account"),
            (_NUMBER,),
            act=_block,
            done=N_("The account is blocked. Nothing can be paid from it."),
        ),
    ),
)
_AGENT = Menu(
    N_("Agent"),
    N_("Agent services"),
    (
        Journey(N_("Deposit cash"), (_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.CASH_IN)),
        Journey(N_("Float to agent"), (_AGENT_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.AGENT_FLOAT)),
        Journey(N_("Pay out a voucher"), (_RECEIPT, _SECRET), _redemption),
    ),
)
_BUSINESS = Menu(
    N_("Business"),
    N_("Business services"),
    (
        Journey(N_("Pay a customer"), (_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.MERCHANT_PAYOUT)),
        Journey(N_("Refund a payment"), (_RECEIPT, _AMOUNT_FIELD), _refund),
        Journey(
            N_("Ask for payment"),
            (_NUMBER, _AMOUNT_FIELD),
            act=_asking,
            last=YES,
            confirm=N_("Ask {given[0]} for KES {given[1]}?"),
            done=N_("The customer was asked to pay."),
        ),
    ),
)
HOME = Menu(
    "",
    "Kibubu",
    (
        Journey(N_("Send money"), (_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.SEND_MONEY)),
        Journey(N_("Pay till"), (_TILL, _AMOUNT_FIELD), _payee_and_amount(Kind.PAY_TILL)),
        Journey(N_("Pay bill"), (_PAYBILL, _REFERENCE, _AMOUNT_FIELD), _bill),
        _AIRTIME,
        Journey(N_("Check balance"), ()),
        LanguageChoice(N_("Language")),
        Journey(N_("Withdraw cash"), (_AGENT_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.CASH_OUT)),
        Journey(N_("Send a voucher"), (_NUMBER, _AMOUNT_FIELD), _payee_and_amount(Kind.SEND_TO_UNREGISTERED)),
        _ACCOUNT,
        _AGENT,
        _BUSINESS,
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where accepted inputs lead: what is asked next and, once only the PIN is missing, what it is for."""

    field: Field
    journey: Journey | None = None
    given: tuple[str, ...] = ()  # the journey's fields

    @property
    def recent(self) -> int:
        return self.journey.recent if self.journey is not None else 0

    def ask(self, own_number: str, typed: str, step: int) -> Ask:
        """What the last input asks for."""
        if self.journey is None:
            raise RuntimeError("no journey was chosen yet")
        if self.journey.act is not None:
            return self.journey.act(self.given, typed, step)
        order = self.order(own_number)
        return AskBalance(typed, step, self.recent) if order is None else AskPay(order, typed, step)

    def order(self, own_number: str) -> Order | None:
        """None = nothing to pay, or not all of it is known yet."""
        if not self.field.is_secret or self.journey is None or self.journey.order is None:
            return None
        return self.journey.order(self.given, own_number)


def place_of(accepted: Sequence[str]) -> Place:
    node: Menu | Journey | LanguageChoice = HOME
    for at, text in enumerate(accepted):
        if not isinstance(node, Menu):
            break
        node = node.chosen(text)
        depth = at + 1
    if isinstance(node, Menu):
        return Place(node.field())
    if isinstance(node, LanguageChoice):
        return Place(LANGUAGE)
    given = tuple(accepted[depth:])
    return Place(node.fields[len(given)] if len(given) < len(node.fields) else node.last or PIN, node, given)
