"""The menu: back and home everywhere, nothing paid by a wrong input, and every screen within 182 septets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.ledger.statuses import PaymentStatus
from tests.ussd_edge.phone import OWN_NUMBER, PIN, RECEIPT, SmallLedger, screen
from ussd_edge import septets
from ussd_edge.catalogues import load_words
from ussd_edge.limits import INPUT_CHARACTERS_MAX, INPUTS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import (
    NOT_APPLIED,
    UNKNOWN,
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
    Waiting,
)
from ussd_edge.menu.journeys import HOME, amount_minor_of
from ussd_edge.menu.session import SPENT_PIN, dialled_inputs

JOURNEYS = {
    "send": ["1", "0712000002", "500", PIN],
    "till": ["2", "123456", "300", PIN],
    "bill": ["3", "888880", "ACC9", "1200", PIN],
    "airtime": ["4", "1", "50", PIN],
    "airtime for another": ["4", "2", "0712000003", "20", PIN],
    "balance": ["5", PIN],
    "withdraw": ["7", "20001", "1000", PIN],
    "last payments": ["9", "1", PIN],
    "deposit": ["10", "1", "0712000002", "700", PIN],
    "float": ["10", "2", "20002", "5000", PIN],
    "pay a customer": ["11", "1", "0712000002", "800", PIN],
    "refund": ["11", "2", RECEIPT.lower(), "80.50", PIN],
    "voucher": ["8", "0712000009", "600", PIN],
    "pay out a voucher": ["10", "3", RECEIPT, "012345", PIN],
    "pay a request": ["9", "3", "7", PIN],
}
ORDERS = {
    "send": Order(Kind.SEND_MONEY, "0712000002", 50_000),
    "till": Order(Kind.PAY_TILL, "123456", 30_000),
    "bill": Order(Kind.PAY_BILL, "888880", 120_000, "ACC9"),
    "airtime": Order(Kind.BUY_AIRTIME, OWN_NUMBER, 5_000),
    "airtime for another": Order(Kind.BUY_AIRTIME, "0712000003", 2_000),
    "withdraw": Order(Kind.CASH_OUT, "20001", 100_000),
    "deposit": Order(Kind.CASH_IN, "0712000002", 70_000),
    "float": Order(Kind.AGENT_FLOAT, "20002", 500_000),
    "pay a customer": Order(Kind.MERCHANT_PAYOUT, "0712000002", 80_000),
    "refund": Order(Kind.REFUND, "", 8_050, original=RECEIPT),
    "voucher": Order(Kind.SEND_TO_UNREGISTERED, "0712000009", 60_000),
    "pay out a voucher": Order(Kind.REDEEM_VOUCHER, "", 0, original=RECEIPT, secret="012345"),
    "pay a request": Order(Kind.PAY_REQUEST, "", 0, request=7),
}
READS = {"balance": 0, "last payments": 5}
PLACES = [(name, depth) for name, inputs in JOURNEYS.items() for depth in range(len(inputs))]


class Recorder:
    """Keeps what was asked; answers as the small ledger."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self._ledger = SmallLedger()

    def __call__(self, ask: Ask) -> Answer:
        self.asks.append(ask)
        return self._ledger(ask)

    @property
    def payments(self) -> list[AskPay]:
        return [ask for ask in self.asks if isinstance(ask, AskPay)]


@pytest.mark.parametrize(("name", "depth"), PLACES)
def test_back_and_home_work_at_every_place(name: str, depth: int) -> None:
    so_far, recorder = JOURNEYS[name][:depth], Recorder()
    home = screen([], recorder)
    assert screen([*so_far, "00"], recorder) == home
    back = screen([*so_far, "0"], recorder)
    if depth == 0:
        assert (back.text, back.ends) == (texts.GOODBYE, True)
    else:
        assert back == screen(so_far[:-1], recorder)
        # What was taken back may be given again, and the journey ends as if nothing had been.
        assert screen([*so_far, "0", *JOURNEYS[name][depth - 1 :]], SmallLedger()).outcome == "ok"
    assert screen([*so_far, "00", *JOURNEYS[name]], SmallLedger()).outcome == "ok"
    assert recorder.payments == []


@pytest.mark.parametrize("name", list(JOURNEYS))
def test_only_the_pin_pays_and_it_pays_what_was_shown(name: str) -> None:
    inputs, recorder = JOURNEYS[name], Recorder()
    for depth in range(len(inputs)):
        assert not screen(inputs[:depth], recorder).ends
    assert recorder.payments == []
    quoted = [ask.order for ask in recorder.asks if isinstance(ask, AskQuote)]
    assert quoted == ([ORDERS[name]] if name in ORDERS else [])
    recorder.asks.clear()
    assert screen(inputs, recorder).ends
    step = len(inputs) - 1
    expected = AskPay(ORDERS[name], PIN, step) if name in ORDERS else AskBalance(PIN, step, READS[name])
    assert [ask for ask in recorder.asks if not isinstance(ask, AskWaiting)] == [expected]


def test_what_waits_is_listed_and_refused_without_a_pin() -> None:
    recorder = Recorder()
    listed = screen(["9", "4"], recorder)
    assert listed.text.startswith(
        "You are asked to pay\n7: 400.00 Mama Mboga\n5: 1,200.00 Kibubu Power\nEnter its number"
    )
    assert screen(["9", "4", "7"], recorder).text.startswith("Refuse request 7?\n1 Yes\n0 Back")
    assert screen(["9", "4", "7", "0"], recorder) == listed
    assert screen(["9", "4", "7", "2"], recorder).text.startswith(texts.NOT_A_CHOICE)
    assert not any(isinstance(ask, AskRefuse) for ask in recorder.asks)
    done = screen(["9", "4", "7", "1"], recorder)
    assert (done.text, done.ends) == ("The request is refused. Nothing was paid.", True)
    assert [ask for ask in recorder.asks if isinstance(ask, AskRefuse)] == [AskRefuse(7)]
    assert screen(["9", "4", "8", "1"], recorder).text == "There is no such request."
    nothing = screen(["9", "3"], lambda _: Answer("ok"))
    assert (nothing.text, nothing.ends) == ("Nobody has asked you to pay.", True)


def test_a_pin_is_changed_in_one_input_that_is_not_kept() -> None:
    recorder = Recorder()
    asked = screen(["9", "5"], recorder)
    assert asked.text.startswith(texts.NEW_PIN)
    for malformed in (PIN, "24681357", "246813571358", "2468135713570", "24681357135a"):
        shown = screen(["9", "5", malformed], recorder)
        assert shown.text.startswith(texts.NOT_A_NEW_PIN)
        assert shown.path[-1] == ""
    assert recorder.asks == []
    wrong = screen(["9", "5", "111113571357"], recorder)
    assert wrong.text.startswith("Wrong PIN. 2 tries left.\n" + texts.NEW_PIN)
    assert wrong.path == ("9", "5", f"{SPENT_PIN}2")
    done = screen([*wrong.path, "246813571357"], recorder)
    assert (done.text, done.ends, done.path[-1]) == ("Your PIN is changed.", True, "")
    assert recorder.asks == [AskChangePin("1111", "1357", 2), AskChangePin(PIN, "1357", 3)]
    assert dialled_inputs(["9", "5", "246813571357"]) is None


def test_an_account_is_blocked_from_any_phone() -> None:
    recorder = Recorder()
    assert screen(["9", "6", "0712000009"], recorder).text.startswith(texts.PIN)
    done = screen(["9", "6", "0712000009", PIN], recorder, own_number="254712000002")
    assert (done.text, done.ends) == ("The account is blocked. Nothing can be paid from it.", True)
    assert recorder.asks == [AskBlock("0712000009", PIN, 3)]


def test_a_business_asks_for_a_payment() -> None:
    recorder = Recorder()
    assert screen(["11", "3", "0712000002", "400"], recorder).text.startswith("Ask 0712000002 for KES 400?\n1 Yes")
    assert recorder.asks == []
    done = screen(["11", "3", "0712000002", "400", "1"], recorder)
    assert (done.text, done.ends) == ("The customer was asked to pay.", True)
    assert recorder.asks == [AskForPayment("0712000002", 40_000, 4)]
    assert dialled_inputs(["11", "3", "0712000002", "400", "1"]) == ("11", "3", "0712000002", "400")


def test_a_payment_is_returned_by_its_receipt() -> None:
    recorder = Recorder()
    confirm = screen(["9", "2", RECEIPT], recorder)
    assert confirm.text.startswith(f"Give KES 500.00 of {RECEIPT} back to Wanjiku? No fee.")
    done = screen(["9", "2", RECEIPT, PIN], recorder)
    assert (done.ends, done.outcome) == (True, "reversal_is_reserved")
    assert done.text.startswith("The money is reserved.")
    assert [ask.order for ask in recorder.payments] == [Order(Kind.REVERSAL, "", 0, original=RECEIPT)]
    assert screen(["9", "2", "UK55F7AQHZ"], recorder).outcome == "original_not_found"
    assert screen(["9", "2", "UK55F7AQH"], recorder).text.startswith("A receipt has 10 letters")


@pytest.mark.parametrize(
    "digits",
    ["٢٤٦٨", "\uff12\uff14\uff16\uff18", "²⁴⁶⁸", "२४६८"],
    ids=["arabic", "full width", "superscript", "devanagari"],
)
def test_digits_of_other_scripts_are_no_digits(digits: str) -> None:
    """int() would take them; the ledger, the phone's network and the eye would not agree on them."""
    recorder = Recorder()
    assert screen([digits[0]], recorder).text.startswith(texts.NOT_A_CHOICE)
    assert screen(["1", digits * 3], recorder).text.startswith(texts.NOT_A_NUMBER)
    assert screen(["2", digits + digits[:2]], recorder).text.startswith(texts.NOT_A_TILL)
    assert screen(["2", "123456", digits], recorder).text.startswith(texts.NOT_AN_AMOUNT)
    assert screen(["5", digits], recorder).text.startswith(texts.NOT_A_PIN)
    assert recorder.asks == []


@pytest.mark.parametrize("name", list(JOURNEYS))
def test_a_path_that_is_kept_holds_no_pin_and_leads_to_the_same_screens(name: str) -> None:
    """Told one input at a time from what was kept, a journey with a mistyped and a wrong PIN is the same journey."""
    *before, pin = JOURNEYS[name]
    typed = [*before, "12345", "1111", "0", *before[-1:], pin]
    whole, bit_by_bit = SmallLedger(), Recorder()
    path: tuple[str, ...] = ()
    for at, one in enumerate(typed):
        expected = screen(typed[: at + 1], whole)
        shown = screen([*path, one], bit_by_bit)
        assert (shown.text, shown.ends) == (expected.text, expected.ends)
        path = shown.path
        assert not {"12345", "1111", PIN} & set(path)
    assert shown.outcome == "ok"
    tries = [ask.step for ask in bit_by_bit.asks if isinstance(ask, AskPay | AskBalance | AskChangePin | AskBlock)]
    assert tries == [typed.index("1111"), len(typed) - 1]
    assert f"{SPENT_PIN}2" in path


@pytest.mark.parametrize(
    ("tail", "inputs"),
    [
        ([], ()),
        (["1"], ("1",)),
        (["1", "0712000002", "500"], ("1", "0712000002", "500")),
        (["3", "888880", "ACC9", "1200"], ("3", "888880", "ACC9", "1200")),
        (["1", "0712000002", "500", PIN], None),
        (["1", "0712000002", "500", "24680"], None),  # perhaps a PIN that was mistyped
        (["5", PIN], None),
        (["4", "1", "50", PIN], None),
        (["1", "0712000002", "x", PIN, "2468"], ("1", "0712000002", "x")),  # what follows a mistake is not used
        (["13", "5", PIN], ("13",)),
        (["10", "1", "0712000002", "700", PIN], None),
        (["9", "1", PIN], None),
        (["1", "0", "5", PIN], ("1", "0")),
        (["", "1"], ("",)),
    ],
)
def test_what_is_dialled_behind_the_code_never_reaches_the_pin(tail: list[str], inputs: tuple[str, ...] | None) -> None:
    assert dialled_inputs(tail) == inputs


@pytest.mark.parametrize("pin", ["", "1", "123", "12345", "246 8", "-246", "24.8", "abcd", "\N{PILE OF POO}" * 4])
def test_a_malformed_pin_is_asked_for_again_and_sent_to_nobody(pin: str) -> None:
    recorder = Recorder()
    shown = screen([*JOURNEYS["till"][:-1], pin], recorder)
    assert shown.text.startswith(texts.NOT_A_PIN)
    assert not shown.ends
    assert recorder.payments == []


@pytest.mark.parametrize(
    ("text", "amount_minor"),
    [
        ("1", 100), ("500.5", 50_050), ("500.05", 50_005), ("0.01", 1), ("007", 700), ("999999999.99", 99_999_999_999),
        ("0", 0), ("0.00", 0), ("-5", 0), ("+5", 0), ("1e3", 0), ("1,000", 0), ("1.234", 0), (".5", 0), ("5.", 0),
        ("1000000000", 0), ("9" * 400, 0), ("KES 5", 0), ("5 0", 0), ("", 0), ("0x10", 0), ("1_0", 0), ("NaN", 0),
    ],
)  # fmt: skip
def test_amounts(text: str, amount_minor: int) -> None:
    assert amount_minor_of(text) == amount_minor


def test_the_limits_of_a_session() -> None:
    recorder = Recorder()
    most = ["9"] * INPUTS_MAX
    assert not screen(most, recorder).ends
    assert screen([*most, "9"], recorder).outcome == "too_long"
    assert not screen(["9" * INPUT_CHARACTERS_MAX], recorder).ends
    assert screen(["9" * (INPUT_CHARACTERS_MAX + 1)], recorder).outcome == "too_long"


@pytest.mark.parametrize(
    ("status", "words"), [(UNKNOWN, "Do NOT pay again now"), (NOT_APPLIED, "Nothing was paid. Please try again")]
)
def test_what_is_not_known_is_said(status: str, words: str) -> None:
    def answers(ask: Ask) -> Answer:
        return Answer(status) if isinstance(ask, AskPay) else SmallLedger()(ask)

    shown = screen(JOURNEYS["send"], answers)
    assert shown.ends
    assert words in shown.text
    assert shown.outcome == status


@pytest.mark.parametrize("status", [status.name.lower() for status in PaymentStatus if status is not PaymentStatus.OK])
def test_every_refusal_of_the_ledger_ends_with_a_sentence_that_says_no_success(status: str) -> None:
    def answers(ask: Ask) -> Answer:
        return Answer(status, tries_left=1) if isinstance(ask, AskPay) else SmallLedger()(ask)

    shown = screen(JOURNEYS["bill"], answers)
    assert shown.ends == (status != "pin_wrong")
    assert shown.outcome == status
    assert "Paid" not in shown.text
    assert shown.text == shown.fitted


# --- random journeys --------------------------------------------------------------------------------------------------

NASTY_NAMES = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="^{}[]~|\\€", max_size=64),
    st.sampled_from(
        [
            "",
            "W" * 64,
            "^" * 64,
            "€" * 21,
            "\N{PILE OF POO}" * 16,
            "Ngũgĩ wa Thiong`o",
            "a\nb\rc",
            "END ok",
            "{amount}",
            "%s",
        ]
    ),
)
STATUSES = st.sampled_from([*(status.name.lower() for status in PaymentStatus), UNKNOWN, NOT_APPLIED, "of the future"])
MONEY = st.one_of(st.just((1 << 63) - 1), st.integers(0, (1 << 63) - 1))
MOST_MINOR = 9_999_999_999  # of one payment
WAITING = st.lists(
    st.builds(Waiting, st.integers(1, 99_999), NASTY_NAMES, st.integers(1, MOST_MINOR)), max_size=10
).map(tuple)
RECENT = st.lists(
    st.builds(Recent, st.integers(0, 4 * 10**18), st.integers(-MOST_MINOR, MOST_MINOR), NASTY_NAMES), max_size=5
).map(tuple)
ANSWERS = st.builds(
    Answer,
    STATUSES,
    NASTY_NAMES,
    st.integers(0, 10**12),
    MONEY,
    MONEY,
    st.integers(0, 3),
    st.just("8Q4ZK1N0WT"),
    RECENT,
)
OK_ANSWERS = st.builds(
    Answer,
    st.just("ok"),
    NASTY_NAMES,
    st.integers(0, 10**12),
    MONEY,
    MONEY,
    st.just(3),
    st.just("8Q4ZK1N0WT"),
    RECENT,
    st.just(0),
    st.just("012345"),
    WAITING,
)
WORDS_OF = load_words()
LANGUAGE = st.sampled_from(list(WORDS_OF))
INPUTS = st.one_of(
    st.sampled_from(
        [
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
            "9",
            "10",
            "0",
            "00",
            "98",
            PIN,
            "20001",
            "0712000002",
            "+254712000002",
            "123456",
            "8888888",
            "500",
        ]
    ),
    st.sampled_from(["999999999.99", "A" * 20, "#/._- 9", "123456789012345", "1111", " 1 "]),
    st.text(max_size=70),
)
JOURNEY = st.one_of(
    st.lists(INPUTS, max_size=12),
    st.sampled_from(list(JOURNEYS.values())),
    st.sampled_from(
        [
            ["3", "8888888", "#" * 20, "999999999.99"],
            ["3", "8888888", "#" * 20, "999999999.99", "12"],
            ["3", "8888888", "#" * 20, "999999999.99", PIN],
            ["1", "+99999999999999", "999999999.99", PIN],
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(JOURNEY, st.lists(st.one_of(OK_ANSWERS, ANSWERS), min_size=1, max_size=12), LANGUAGE)
def test_every_screen_of_every_journey_fits_a_phone(inputs: list[str], answers: list[Answer], language: str) -> None:
    """And fits whole: a screen that had to be cut would lose the way back, or the question."""
    assert_fits(inputs, answers, language)


AMOUNTS = st.one_of(st.just("999999999.99"), st.integers(1, 10**9 - 1).map(str))
COMPLETE = st.one_of(
    st.tuples(st.just("1"), st.from_regex(r"[0-9]{9,15}", fullmatch=True).filter(str.isascii), AMOUNTS),
    st.tuples(st.just("2"), st.just("1234567"), AMOUNTS),
    st.tuples(st.just("3"), st.just("8888888"), st.sampled_from(["#" * 20, "ACC9"]), AMOUNTS),
    st.tuples(st.just("4"), st.just("2"), st.just("123456789012345"), AMOUNTS),
    st.tuples(st.just("7"), st.just("2000001"), AMOUNTS),
    st.tuples(st.just("9"), st.just("1")),
    st.tuples(st.just("9"), st.just("2"), st.just(RECEIPT)),
    st.tuples(st.just("9"), st.just("3"), st.just("99999")),
    st.tuples(st.just("9"), st.just("4"), st.just("99999")),
    st.tuples(st.just("9"), st.just("5")),
    st.tuples(st.just("9"), st.just("6"), st.just("123456789012345")),
    st.tuples(st.just("11"), st.just("3"), st.just("123456789012345"), AMOUNTS),
    st.tuples(st.just("11"), st.just("2"), st.just(RECEIPT), AMOUNTS),
    st.tuples(st.just("10"), st.just("1"), st.just("123456789012345"), AMOUNTS),
    st.tuples(st.just("10"), st.just("2"), st.just("2000001"), AMOUNTS),
    st.tuples(st.just("11"), st.just("1"), st.just("123456789012345"), AMOUNTS),
)


@settings(max_examples=300, deadline=None)
@given(COMPLETE, st.sampled_from([[], ["12"], [PIN], ["12", PIN]]), OK_ANSWERS, LANGUAGE)
def test_the_last_screens_fit_whatever_the_name_and_the_sums(
    inputs: tuple[str, ...], ending: list[str], answer: Answer, language: str
) -> None:
    assert_fits([*inputs, *ending], [answer], language)


def assert_fits(inputs: list[str], answers: list[Answer], language: str = "en") -> None:
    given_answers = iter(answers * 13)
    asks: list[Ask] = []

    def ledger(ask: Ask) -> Answer:
        asks.append(ask)
        return next(given_answers)

    shown = screen(inputs, ledger, words_of=WORDS_OF, language=language)
    words = WORDS_OF[shown.language]
    assert septets.length(shown.fitted) <= septets.SCREEN_SEPTETS_MAX
    assert shown.fitted == shown.text
    if not shown.ends and not any(shown.text.endswith(page) for page in HOME.pages(words)):
        assert shown.text.endswith(words.back)
    assert len(asks) <= len(inputs) + 1
    for ask in asks:
        if isinstance(ask, AskPay):
            assert inputs[ask.step].strip() == ask.pin
            assert ask.order.amount_minor > 0 or ask.order.original or ask.order.request


MANY = st.lists(
    st.one_of(INPUTS, st.sampled_from(["1", "2", "3", "4", "5", "6", PIN, "1111", "12345", "500"])), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(JOURNEY, MANY, st.tuples(COMPLETE, MANY).map(lambda pair: [*pair[0], *pair[1]])), LANGUAGE)
def test_one_input_at_a_time_is_the_same_session_as_all_of_them(inputs: list[str], language: str) -> None:
    """From the path that was kept, without its PINs, every screen and every question about money are the same."""
    whole, bit_by_bit = SmallLedger(), Recorder()
    path: tuple[str, ...] = ()
    for at in range(len(inputs) + 1):
        expected = screen(inputs[:at], whole, words_of=WORDS_OF, language=language)
        bit_by_bit.asks.clear()
        shown = screen([*path, *inputs[max(at - 1, 0) : at]], bit_by_bit, words_of=WORDS_OF, language=language)
        assert shown == expected
        tries = [ask for ask in bit_by_bit.asks if isinstance(ask, AskPay | AskBalance | AskChangePin | AskBlock)]
        assert [ask.step for ask in tries] in ([], [at - 1])  # a PIN is asked about once, where it was typed
        assert all(shown.path[ask.step].strip(SPENT_PIN) != ask.pin for ask in tries)
        if shown.ends:
            return
        path = shown.path
