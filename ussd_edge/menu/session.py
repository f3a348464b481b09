"""The menu: a pure function of the inputs so far and of the answers that the ledger gives. Nothing is kept.

Every request brings all inputs of the session; they are read again from the first. Wrong inputs are passed over, `0`
takes the last accepted one back, `00` takes back all. A question to the ledger is asked only where its answer is shown,
except a wrong PIN: asked again under the same id the ledger says again that it was wrong, so three tries stay three.

A screen names the path that led to it, its PINs taken out: what an edge may keep for gateways that send only the last
input. A PIN that was wrong leaves a mark there, with the tries that were left, so that the next is a step of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from ussd_edge.limits import INPUT_CHARACTERS_MAX, INPUTS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import NOT_APPLIED, UNKNOWN, Answer, Ask, AskBalance, AskPay, AskQuote, Kind, Order, Screen

Conversation = Generator[Ask, Answer, Screen]
BACK, HOME = "0", "00"
SPENT_PIN = "\x18"  # no key of a phone; a digit follows
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)
_PIN = re.compile(r"[0-9]{4}", re.ASCII)
_SPENT = re.compile(SPENT_PIN + r"[0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is asked for before the PIN."""

    prompt: str
    accepts: Callable[[str], bool]
    complaint: str


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def amount_minor_of(text: str) -> int:
    """0 = not an amount."""
    found = _AMOUNT.fullmatch(text)
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else 0


_NUMBER = Field(texts.NUMBER, _matches(r"\+?[0-9]{9,15}"), texts.NOT_A_NUMBER)
_TILL = Field(texts.TILL, _matches(r"[0-9]{5,7}"), texts.NOT_A_TILL)
_PAYBILL = Field(texts.PAYBILL, _matches(r"[0-9]{5,7}"), texts.NOT_A_PAYBILL)
_REFERENCE = Field(texts.REFERENCE, _matches(r"[0-9A-Za-z #/._-]{1,20}"), texts.NOT_A_REFERENCE)
_AMOUNT_FIELD = Field(texts.AMOUNT, lambda text: amount_minor_of(text) > 0, texts.NOT_AN_AMOUNT)
_WHOSE = Field(texts.AIRTIME, _matches(r"[12]"), texts.NOT_A_CHOICE)
_CHOICE = Field(texts.HOME, _matches(r"[1-5]"), texts.NOT_A_CHOICE)
_PIN_FIELD = Field(texts.PIN, lambda text: _PIN.fullmatch(text) is not None, texts.NOT_A_PIN)


def fields_after(accepted: Sequence[str]) -> list[Field]:
    """What is asked in the journey that the first input chose, the PIN last."""
    choice = accepted[0]
    if choice == "1":
        return [_NUMBER, _AMOUNT_FIELD]
    if choice == "2":
        return [_TILL, _AMOUNT_FIELD]
    if choice == "3":
        return [_PAYBILL, _REFERENCE, _AMOUNT_FIELD]
    if choice == "4":
        other = len(accepted) > 1 and accepted[1] == "2"
        return [_WHOSE, _NUMBER, _AMOUNT_FIELD] if other else [_WHOSE, _AMOUNT_FIELD]
    return []


def order_of(accepted: Sequence[str], own_number: str) -> Order | None:
    """None = a balance check. `accepted` holds the choice and all fields before the PIN."""
    choice, amount_minor = accepted[0], amount_minor_of(accepted[-1])
    if choice == "1":
        return Order(Kind.SEND_MONEY, accepted[1].lstrip("+"), amount_minor)
    if choice == "2":
        return Order(Kind.PAY_TILL, accepted[1], amount_minor)
    if choice == "3":
        return Order(Kind.PAY_BILL, accepted[1], amount_minor, accepted[2])
    if choice == "4":
        number = accepted[2].lstrip("+") if accepted[1] == "2" else own_number
        return Order(Kind.BUY_AIRTIME, number, amount_minor)
    return None


def dialled_inputs(tail: Sequence[str]) -> tuple[str, ...] | None:
    """What was dialled behind the code, up to the first thing that is refused. None when it reaches the place of the
    PIN: the phone's list of calls would show it."""
    accepted: list[str] = []
    for at, raw in enumerate(tail):
        text, field = raw.strip(), _expected(accepted)
        if field is _PIN_FIELD:
            return None
        if text in (BACK, HOME) or not field.accepts(text):
            return tuple(tail[: at + 1])
        accepted.append(text)
    return tuple(tail)


def converse(inputs: Sequence[str], own_number: str) -> Conversation:
    """The screen for these inputs; yields what it must ask first. `own_number` is the caller's, without +."""
    if len(inputs) > INPUTS_MAX or any(len(text) > INPUT_CHARACTERS_MAX for text in inputs):
        return Screen(texts.TOO_LONG, ends=True, outcome="too_long")
    path: list[str] = []
    screen = yield from _fold(inputs, own_number, path)
    return replace(screen, path=tuple(path))


def _fold(inputs: Sequence[str], own_number: str, path: list[str]) -> Conversation:
    accepted: list[str] = []
    complaint = ""
    wrong: Answer | None = None  # the last PIN try, when it was wrong and another is allowed
    for step, raw in enumerate(inputs):
        text, field = raw.strip(), _expected(accepted)
        complaint, last_wrong, wrong = "", wrong, None
        path.append(raw)
        if text == HOME:
            accepted = []
        elif text == BACK:
            if not accepted:
                return Screen(texts.GOODBYE, ends=True, outcome="exit")
            accepted.pop()
        elif field is _PIN_FIELD and _SPENT.fullmatch(text):
            wrong = Answer("pin_wrong", tries_left=int(text[1:]))
        elif not field.accepts(text):
            complaint, wrong = field.complaint, last_wrong
            path[-1] = "" if field is _PIN_FIELD else raw  # it may be a PIN that was mistyped
        elif field is not _PIN_FIELD:
            accepted.append(text)
        else:
            path[-1] = ""
            answer = yield _ask(accepted, own_number, text, step)
            if answer.status != "pin_wrong":
                return _ending(accepted, own_number, answer)
            wrong, path[-1] = answer, f"{SPENT_PIN}{min(answer.tries_left, 9)}"
    screen = yield from _screen(accepted, own_number, complaint, wrong)
    return replace(screen, depth=len(accepted))


def _expected(accepted: Sequence[str]) -> Field:
    if not accepted:
        return _CHOICE
    fields = fields_after(accepted)
    given = len(accepted) - 1
    return fields[given] if given < len(fields) else _PIN_FIELD


def _ask(accepted: Sequence[str], own_number: str, pin: str, step: int) -> Ask:
    order = order_of(accepted, own_number)
    return AskBalance(pin, step) if order is None else AskPay(order, pin, step)


def _screen(accepted: Sequence[str], own_number: str, complaint: str, wrong: Answer | None) -> Conversation:
    if wrong is not None:
        return Screen(complaint + texts.wrong_pin(wrong.tries_left), ends=False, outcome="pin_wrong")
    field = _expected(accepted)
    if field is _CHOICE:
        return Screen(complaint + texts.HOME, ends=False, outcome="continue")
    order = order_of(accepted, own_number) if field is _PIN_FIELD else None
    if order is None:
        return Screen(complaint + field.prompt + texts.BACK, ends=False, outcome="continue")
    quote = yield AskQuote(order)
    if quote.status != "ok":
        return Screen(texts.refused(quote.status, order), ends=True, outcome=quote.status)
    return Screen(complaint + texts.confirm(order, quote), ends=False, outcome="continue")


def _ending(accepted: Sequence[str], own_number: str, answer: Answer) -> Screen:
    order = order_of(accepted, own_number)
    if answer.status != "ok":
        if order is None and answer.status in (UNKNOWN, NOT_APPLIED):
            return Screen("The service is busy. Please try again.", ends=True, outcome=answer.status)
        return Screen(texts.refused(answer.status, order), ends=True, outcome=answer.status)
    text = texts.balance(answer) if order is None else texts.done(order, answer)
    return Screen(text, ends=True, outcome="ok")
