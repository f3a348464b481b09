"""The six languages: complete, compiled, each sentence with the fields of the English one, each within a screen; and a
phone keeps the one that it chose."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.ussd_edge.catalogue_sources import TRANSLATED, compiled, extracted, po_file, stored
from tests.ussd_edge.edge import PIN, Node, running_edge, running_node
from tests.ussd_edge.phone import HOME, SmallLedger, screen
from tests.ussd_edge.wires import WIRES, AfricasTalking, Arkesel, Hubtel
from ussd_edge.catalogues import load_words
from ussd_edge.menu.asks import Answer, AskQuote, Kind, Order
from ussd_edge.menu.journeys import HOME as MENU
from ussd_edge.menu.journeys import Menu
from ussd_edge.menu.texts import ENGLISH, LANGUAGES, Words
from ussd_edge.septets import fits, to_gsm

WORDS_OF = load_words()
NUMBERS = {language: str(number) for number, language in enumerate(LANGUAGES, 1)}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def texts_of(one: str | tuple[str, ...] | list[str]) -> list[str]:
    return [one] if isinstance(one, str) else list(one)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_is_complete_and_fresh(language: str) -> None:
    catalogue, source = stored(language), extracted(language)
    assert {str(message.id) for message in catalogue} == {str(message.id) for message in source}
    assert {"Back", "Home", "Exit", "More", "Fee {fee}."} <= {str(message.id) for message in catalogue}
    assert not catalogue.obsolete
    for message in catalogue:
        assert not message.fuzzy
        if message.id:
            assert all(texts_of(message.string)), message.id
            for text in texts_of(message.string):
                assert fields(text) == fields(texts_of(message.id)[0]), message.id
    mo = po_file(language).with_suffix(".mo").read_bytes()
    assert mo == compiled(catalogue), "`python -m tests.ussd_edge.catalogue_sources` compiles it anew"


def test_a_sentence_that_is_not_translated_or_not_compiled_is_found() -> None:
    catalogue = stored("sw")
    catalogue.add("A new sentence.")
    assert {str(message.id) for message in catalogue} != {str(message.id) for message in extracted("sw")}
    catalogue["Back"].string = "Nyuma"
    assert compiled(catalogue) != po_file("sw").with_suffix(".mo").read_bytes()


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_fits_and_loses_no_letter(language: str) -> None:
    """An accent that phones do not have is left out; a letter never becomes a question mark."""
    for message in stored(language):
        for text in texts_of(message.string) if message.id else []:
            plain = to_gsm(text)
            assert fits(plain), text
            assert plain.count("?") == text.count("?"), text


MOST = 99_999_999_999
NAME = "Wolfeschlegelsteinhausenbergerdorff"
ORDERS = [
    Order(Kind.SEND_MONEY, "254712000001234", MOST), Order(Kind.PAY_TILL, "1234567", MOST),
    Order(Kind.PAY_BILL, "8888888", MOST, "W" * 20), Order(Kind.BUY_AIRTIME, "254712000001234", MOST),
    *(Order(kind, "254712000001234", MOST) for kind in (Kind.CASH_OUT, Kind.CASH_IN, Kind.AGENT_FLOAT)),
    Order(Kind.MERCHANT_PAYOUT, "254712000001234", MOST), Order(Kind.REFUND, "", MOST, original="UK55F7AQHX"),
    Order(Kind.SEND_TO_UNREGISTERED, "254712000001234", MOST),
    Order(Kind.REDEEM_VOUCHER, "", MOST, original="UK55F7AQHX", secret="012345"),
    Order(Kind.PAY_REQUEST, "", MOST, request=99_999),
]  # fmt: skip


def menus(menu: Menu) -> list[Menu]:
    return [menu, *(below for item in menu.items if isinstance(item, Menu) for below in menus(item))]


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_the_fullest_screens_fit_whole(language: str) -> None:
    words = WORDS_OF[language]
    answer = Answer("ok", NAME, 9_999_999_999, MOST, MOST // 2, 2, "8Q4ZK1N0WT", secret="012345")
    complaint = words.complaint("A PIN has 4 digits.")
    for order in ORDERS:
        for text in (complaint + words.confirm(order, answer), words.done(order, answer)):
            assert fits(text), f"{len(text)}: {text}"
    assert {order.kind for order in ORDERS} | {Kind.REVERSAL} == set(Kind)  # a reversal reads as a refund
    for text in (complaint + words.wrong_pin(1), complaint + words.wrong_pin(2), words.balance(answer), words.resume):
        assert fits(text), text
    not_a_choice = words.complaint("Choose a number from the list.")
    for pages in (*(menu.pages(words) for menu in menus(MENU)), words.languages):
        assert all(fits(not_a_choice + page) for page in pages)


def test_what_does_not_fit_is_told() -> None:
    assert fits("a" * 182)
    assert not fits("a" * 183)
    assert not fits("€" * 92)
    assert fits("ẹ" * 80)
    assert not fits("a" * 80 + "ẹ")
    too_long = Words(lambda text: text * 3)
    assert not fits(too_long.confirm(ORDERS[2], Answer("ok", NAME, 1)))


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_journey_in_each_language_has_no_english_in_it(language: str) -> None:
    ledger = SmallLedger()
    inputs = ["6", NUMBERS[language], "1", "0712000002", "500", "1111", PIN]
    shown = [screen(inputs[:count], ledger, words_of=WORDS_OF) for count in range(len(inputs) + 1)]
    assert shown[0].text == HOME
    assert shown[-1].outcome == "ok"
    assert {one.language for one in shown[2:]} == {language}
    for one in shown[2:]:
        assert one.text not in {ENGLISH(str(message.id)) for message in extracted(language)}
        assert not any(word in one.text for word in ("Enter", "Send", "Sent", "Back", "Wrong", "Fee", "Balance"))


def test_a_language_does_not_change_what_is_paid() -> None:
    asks = []

    def ledger(ask: object) -> Answer:
        asks.append(ask)
        return Answer("ok", payee_name="Otieno") if isinstance(ask, AskQuote) else Answer("ok")

    for inputs in (["1", "0712000002", "500", PIN], ["6", "2", "1", "0712000002", "500", PIN]):
        assert screen(inputs, ledger, words_of=WORDS_OF).outcome == "ok"
    assert asks[0].order == asks[1].order  # type: ignore[attr-defined]


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running_node(tmp_path) as node, running_edge(tmp_path, node) as (_, client):
        yield client


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.__name__)
async def test_a_phone_keeps_its_language(wire: type[AfricasTalking], edge: httpx.AsyncClient) -> None:
    assert (await wire().journey(edge, "6", "2")).text == MENU.pages(WORDS_OF["sw"])[0]
    for other in (wire(session="s2"), Arkesel(session="s3"), Hubtel(session="s4")):
        assert (await other.dial(edge)).text == MENU.pages(WORDS_OF["sw"])[0]
    assert (await wire(session="s5", msisdn="254712000009").dial(edge)).text == HOME
    assert (
        "Tuma KES 500.00 kwa Otieno? Ada KES 7.00."
        in (await wire(session="s6").journey(edge, "1", "0712000002", "500")).text
    )


async def test_the_ledger_keeps_the_choice_and_every_edge_reads_it(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        async with running_edge(tmp_path, node) as (_, client):
            await AfricasTalking().journey(client, "6", "3")
            stranger = AfricasTalking(session="s2", msisdn="254712000009")
            assert (await stranger.journey(client, "6", "2")).text == MENU.pages(WORDS_OF["sw"])[0]
        assert node.languages == {"254712000001": "fr"}
        async with running_edge(tmp_path, node) as (_, client):  # with a store that knows nothing
            assert (await Arkesel().dial(client)).text == MENU.pages(WORDS_OF["fr"])[0]
            assert (await Arkesel(session="s3", msisdn="254712000009").dial(client)).text == HOME


async def test_the_operator_says_which_language_is_the_first(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path) as node,
        running_edge(tmp_path, node, default_language="fr") as (_, client),
    ):
        assert isinstance(node, Node)
        assert (await AfricasTalking().dial(client)).text == MENU.pages(WORDS_OF["fr"])[0]
        assert "déjà" not in (await Arkesel().type(client, "1")).text
        assert (await Arkesel().type(client, "1")).text.startswith("La session est finie.")
