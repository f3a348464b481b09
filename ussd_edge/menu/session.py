"""The menu: a pure function of the inputs so far and of the answers that the ledger gives. Nothing is kept.

Every request brings all inputs of the session; they are read again from the first. Wrong inputs are passed over, `0`
takes the last accepted one back, `00` takes back all. A question to the ledger is asked only where its answer is shown,
except a wrong PIN: asked again under the same id the ledger says again that it was wrong, so three tries stay three.

A screen names the path that led to it, its PINs taken out: what an edge may keep for gateways that send only the last
input. A PIN that was wrong leaves a mark there, with the tries that were left, so that the next is a step of its own.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ussd_edge.limits import INPUT_CHARACTERS_MAX, INPUTS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import Answer, Ask, AskQuote, AskWaiting, Kind, Screen
from ussd_edge.menu.journeys import LANGUAGE, NEW_PIN, REQUEST, YES, place_of
from ussd_edge.menu.paging import NEXT
from ussd_edge.menu.texts import ENGLISH, LANGUAGES, Words

Conversation = Generator[Ask, Answer, Screen]
BACK, HOME = "0", "00"
SPENT_PIN = "\x18"  # no key of a phone; a digit follows
_SPENT = re.compile(SPENT_PIN + r"[0-9]", re.ASCII)


def dialled_inputs(tail: Sequence[str]) -> tuple[str, ...] | None:
    """What was dialled behind the code, up to the first thing that is refused or wants a yes. None when it reaches the
    place of the PIN: the phone's list of calls would show it."""
    accepted: list[str] = []
    for at, raw in enumerate(tail):
        text, expected = raw.strip(), place_of(accepted).field
        if expected.is_secret:
            return None
        if expected is YES:
            return tuple(tail[:at])
        if text in (BACK, HOME) or not expected.accepts(text):
            return tuple(tail[: at + 1])
        accepted = [] if expected is LANGUAGE else [*accepted, text]
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
        text, expected = raw.strip(), place_of(at.accepted).field
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
        elif expected.is_secret and _SPENT.fullmatch(text):
            at.wrong = Answer("pin_wrong", tries_left=int(text[1:]))
        elif not expected.accepts(text):
            at.complaint, at.wrong, at.page = expected.complaint, last_wrong, last_page
            at.path[-1] = "" if expected.is_secret else raw  # it may be a PIN that was mistyped
        elif expected is LANGUAGE:
            chosen = list(LANGUAGES)[int(text) - 1]
            at.language, at.accepted = chosen if chosen in words_of else at.language, []
        elif expected is not YES and not expected.is_secret:
            at.accepted.append(text)
        else:
            at.path[-1] = "" if expected.is_secret else raw
            answer = yield place_of(at.accepted).ask(at.own_number, text, step)
            if answer.status != "pin_wrong":
                return _ending(at, answer, words_of[at.language])
            at.wrong, at.path[-1] = answer, f"{SPENT_PIN}{min(answer.tries_left, 9)}"
    return (yield from _screen(at, words_of[at.language]))


def _screen(at: _Folding, words: Words) -> Conversation:
    place = place_of(at.accepted)
    complaint = words.complaint(at.complaint)
    if at.wrong is not None:
        prompt = texts.NEW_PIN if place.field is NEW_PIN else texts.PIN
        return Screen(complaint + words.wrong_pin(at.wrong.tries_left, prompt), ends=False, outcome="pin_wrong")
    if place.field is REQUEST:
        answer = yield AskWaiting()
        if not answer.waiting:
            return Screen(words(texts.NO_REQUESTS), ends=True, outcome="ok")
        return Screen(complaint + words.requests(answer.waiting), ends=False, outcome="continue")
    if place.field is YES and place.journey is not None:
        text = words.confirm_act(place.journey.confirm, place.given)
        return Screen(complaint + text, ends=False, outcome="continue")
    order = place.order(at.own_number)
    if order is None:
        return Screen(complaint + place.field.shown(words)[at.page], ends=False, outcome="continue")
    quote = yield AskQuote(order)
    if quote.status != "ok":
        return Screen(words.refused(quote.status, order), ends=True, outcome=quote.status)
    return Screen(complaint + words.confirm(order, quote), ends=False, outcome="continue")


def _ending(at: _Folding, answer: Answer, words: Words) -> Screen:
    place = place_of(at.accepted)
    order = place.order(at.own_number)
    is_voucher = order is not None and order.kind is Kind.SEND_TO_UNREGISTERED and answer.status == "voucher_waits"
    if answer.status != "ok" and not is_voucher:
        return Screen(words.refused(answer.status, order), ends=True, outcome=answer.status)
    if order is not None:
        return Screen(words.done(order, answer), ends=True, outcome="ok")
    if place.journey is not None and place.journey.done:
        return Screen(words(place.journey.done), ends=True, outcome="ok")
    return Screen(words.statement(answer) if place.recent else words.balance(answer), ends=True, outcome="ok")
