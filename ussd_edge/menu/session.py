"""The menu: a pure function of the inputs so far and of the answers that the ledger gives. Nothing is kept.

Every request brings all inputs of the session; they are read again from the first. Wrong inputs are passed over, `0`
takes the last accepted one back, `00` takes back all. A question to the ledger is asked only where its answer is shown,
except a wrong PIN: asked again under the same id the ledger says again that it was wrong, so three tries stay three.

A screen names the path that led to it, its PINs taken out: what an edge may keep for gateways that send only the last
input. A PIN that was wrong leaves a mark there, with the tries that were left, so that the next is a step of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ussd_edge.limits import INPUT_CHARACTERS_MAX, INPUTS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import Answer, Ask, AskBalance, AskPay, AskQuote, Kind, Order, Screen
from ussd_edge.menu.paging import NEXT
from ussd_edge.menu.texts import ENGLISH, LANGUAGES, Words

Conversation = Generator[Ask, Answer, Screen]
BACK, HOME = "0", "00"
LANGUAGE_CHOICE = "6"
SPENT_PIN = "\x18"  # no key of a phone; a digit follows
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)
_PIN = re.compile(r"[0-9]{4}", re.ASCII)
_SPENT = re.compile(SPENT_PIN + r"[0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is asked for: `shown` tells its pages, all but a list has one."""

    shown: Callable[[Words], list[str]]
    accepts: Callable[[str], bool]
    complaint: str


def _asked(prompt: str) -> Callable[[Words], list[str]]:
    return lambda words: [words.asking(prompt)]


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def amount_minor_of(text: str) -> int:
    """0 = not an amount."""
    found = _AMOUNT.fullmatch(text)
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else 0


_NUMBER = Field(_asked(texts.NUMBER), _matches(r"\+?[0-9]{9,15}"), texts.NOT_A_NUMBER)
_TILL = Field(_asked(texts.TILL), _matches(r"[0-9]{5,7}"), texts.NOT_A_TILL)
_PAYBILL = Field(_asked(texts.PAYBILL), _matches(r"[0-9]{5,7}"), texts.NOT_A_PAYBILL)
_REFERENCE = Field(_asked(texts.REFERENCE), _matches(r"[0-9A-Za-z #/._-]{1,20}"), texts.NOT_A_REFERENCE)
_AMOUNT_FIELD = Field(_asked(texts.AMOUNT), lambda text: amount_minor_of(text) > 0, texts.NOT_AN_AMOUNT)
_WHOSE = Field(lambda words: words.airtime, _matches(r"[12]"), texts.NOT_A_CHOICE)
_LANGUAGE = Field(lambda words: words.languages, _matches(rf"[1-{len(LANGUAGES)}]"), texts.NOT_A_CHOICE)
_CHOICE = Field(lambda words: words.home, _matches(r"[1-6]"), texts.NOT_A_CHOICE)
_PIN_FIELD = Field(_asked(texts.PIN), lambda text: _PIN.fullmatch(text) is not None, texts.NOT_A_PIN)


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
    return [_LANGUAGE] if choice == LANGUAGE_CHOICE else []


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
        text, expected = raw.strip(), _expected(accepted)
        if expected is _PIN_FIELD:
            return None
        if text in (BACK, HOME) or not expected.accepts(text):
            return tuple(tail[: at + 1])
        accepted = [] if expected is _LANGUAGE else [*accepted, text]
    return tuple(tail)


@dataclass(slots=True)
class _Folding:
    """Where the inputs read so far have led."""

    own_number: str
    language: str
    accepted: list[str] = field(default_factory=list)
    complaint: str = ""
    wrong: Answer | None = None  # the last PIN try, when it was wrong and another is allowed
    page: int = 0  # of a list
    path: list[str] = field(default_factory=list)


def converse(
    inputs: Sequence[str],
    own_number: str,
    words_of: Mapping[str, Words] = MappingProxyType({"en": ENGLISH}),
    language: str = "en",
) -> Conversation:
    """The screen for these inputs; yields what it must ask first. `own_number` is the caller's, without +; `words_of`
    holds the languages that there are, `language` is the one that the session begins in."""
    if len(inputs) > INPUTS_MAX or any(len(text) > INPUT_CHARACTERS_MAX for text in inputs):
        return Screen(words_of[language](texts.TOO_LONG), ends=True, outcome="too_long", language=language)
    at = _Folding(own_number, language)
    screen = yield from _fold(inputs, at, words_of)
    return replace(screen, path=tuple(at.path), depth=len(at.accepted), language=at.language)


def _fold(inputs: Sequence[str], at: _Folding, words_of: Mapping[str, Words]) -> Conversation:
    for step, raw in enumerate(inputs):
        text, expected = raw.strip(), _expected(at.accepted)
        at.complaint, last_wrong, at.wrong = "", at.wrong, None
        last_page, at.page = at.page, 0
        at.path.append(raw)
        if text == HOME:
            at.accepted = []
        elif text == BACK:
            if not at.accepted:
                return Screen(words_of[at.language](texts.GOODBYE), ends=True, outcome="exit")
            at.accepted.pop()
        elif text == NEXT and last_page + 1 < len(expected.shown(words_of[at.language])):
            at.page = last_page + 1
        elif expected is _PIN_FIELD and _SPENT.fullmatch(text):
            at.wrong = Answer("pin_wrong", tries_left=int(text[1:]))
        elif not expected.accepts(text):
            at.complaint, at.wrong, at.page = expected.complaint, last_wrong, last_page
            at.path[-1] = "" if expected is _PIN_FIELD else raw  # it may be a PIN that was mistyped
        elif expected is _LANGUAGE:
            chosen = list(LANGUAGES)[int(text) - 1]
            at.language, at.accepted = chosen if chosen in words_of else at.language, []
        elif expected is not _PIN_FIELD:
            at.accepted.append(text)
        else:
            at.path[-1] = ""
            answer = yield _ask(at, text, step)
            if answer.status != "pin_wrong":
                return _ending(at, answer, words_of[at.language])
            at.wrong, at.path[-1] = answer, f"{SPENT_PIN}{min(answer.tries_left, 9)}"
    return (yield from _screen(at, words_of[at.language]))


def _expected(accepted: Sequence[str]) -> Field:
    if not accepted:
        return _CHOICE
    fields = fields_after(accepted)
    given = len(accepted) - 1
    return fields[given] if given < len(fields) else _PIN_FIELD


def _ask(at: _Folding, pin: str, step: int) -> Ask:
    order = order_of(at.accepted, at.own_number)
    return AskBalance(pin, step) if order is None else AskPay(order, pin, step)


def _screen(at: _Folding, words: Words) -> Conversation:
    complaint = words.complaint(at.complaint)
    if at.wrong is not None:
        return Screen(complaint + words.wrong_pin(at.wrong.tries_left), ends=False, outcome="pin_wrong")
    expected = _expected(at.accepted)
    order = order_of(at.accepted, at.own_number) if expected is _PIN_FIELD else None
    if order is None:
        return Screen(complaint + expected.shown(words)[at.page], ends=False, outcome="continue")
    quote = yield AskQuote(order)
    if quote.status != "ok":
        return Screen(words.refused(quote.status, order), ends=True, outcome=quote.status)
    return Screen(complaint + words.confirm(order, quote), ends=False, outcome="continue")


def _ending(at: _Folding, answer: Answer, words: Words) -> Screen:
    order = order_of(at.accepted, at.own_number)
    if answer.status != "ok":
        return Screen(words.refused(answer.status, order), ends=True, outcome=answer.status)
    return Screen(words.balance(answer) if order is None else words.done(order, answer), ends=True, outcome="ok")
