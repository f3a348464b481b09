"""What people read: the field's grammar in English, every kind in every language within two parts."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from kibubu.feed.v1 import feed_pb2

from ussd_edge.catalogues import load_words
from ussd_edge.menu.texts import LANGUAGES
from ussd_edge.septets import length
from ussd_edge.sms.limits import TEXT_SEPTETS_MAX
from ussd_edge.sms.texts import SENTENCES, Style, money, national, texts_of

WORDS_OF = load_words()
STYLE = Style(utc_offset=timedelta(hours=3))
MADE_NS = 1_720_274_580 * 10**9  # 2024-07-06 14:03 UTC
STATE = feed_pb2.PaymentState
OTHER_ENDS = ("HELD", "CANCELLED", "EXPIRED", "REFUSED")


def event(
    kind: int = 1, *, state: str = "DONE", status: str = "ok", payee: str = "", **changes: object
) -> feed_pb2.Event:
    made = feed_pb2.Event(position=7, offset=2, timestamp_ns=MADE_NS)
    told = made.payment
    told.state = STATE.Value(f"PAYMENT_STATE_{state}")
    told.payer_name, told.payee_msisdn = "WANJIKU", "254712345678"
    told.payer_available_minor, told.payee_available_minor = 120_000, 40_000
    told.payment.kind, told.payment.currency = kind, "KES"  # type: ignore[assignment]
    told.payment.payer_msisdn, told.payment.payee = "254712000001", payee
    told.outcome.receipt, told.outcome.amount_minor, told.outcome.fee_minor = "SG632NMUAB", 50_000, 700
    told.outcome.status_name, told.outcome.payee_name = status, "JOHN DOE"
    for name, value in changes.items():
        setattr(told, name, value)
    return made


def both(made: feed_pb2.Event) -> list[str]:
    return [sms.text for sms in texts_of(made, WORDS_OF, STYLE)]


def test_money_that_was_sent() -> None:
    assert both(event()) == [
        "SG632NMUAB Confirmed. Ksh500.00 sent to JOHN DOE 0712345678 on 6/7/24 at 5:03 PM. New Kibubu balance is"
        " Ksh1,200.00. Transaction cost, Ksh7.00.",
        "SG632NMUAB Confirmed. You have received Ksh500.00 from WANJIKU 0712000001 on 6/7/24 at 5:03 PM. New Kibubu"
        " balance is Ksh400.00.",
    ]
    first, second = texts_of(event(), WORDS_OF, STYLE)
    assert (first.id, first.msisdn, first.made_ns) == ("7.2.payer", "254712000001", MADE_NS)
    assert (second.id, second.msisdn) == ("7.2.payee", "254712345678")


@pytest.mark.parametrize(
    ("kind", "payee", "beginning"),
    [
        (2, "123456", "SG632NMUAB Confirmed. Ksh500.00 paid to JOHN DOE. on 6/7/24 at 5:03 PM. New "),
        (3, "888880", "SG632NMUAB Confirmed. Ksh500.00 sent to JOHN DOE for account on 6/7/24 at 5:03 PM. New "),
        (4, "254712000001", "SG632NMUAB Confirmed. You bought Ksh500.00 of airtime on 6/7/24 at 5:03 PM. New "),
        (4, "254712000003", "SG632NMUAB Confirmed. You bought Ksh500.00 of airtime for 0712000003 on 6/7/24 at "),
        (8, "12345", "SG632NMUAB Confirmed. on 6/7/24 at 5:03 PM Withdraw Ksh500.00 from 12345 - JOHN DOE. New "),
    ],
)
def test_the_other_kinds(kind: int, payee: str, beginning: str) -> None:
    assert both(event(kind, payee=payee))[0].startswith(beginning)


def test_cash_that_was_paid_in_is_told_to_both() -> None:
    agent, customer = both(event(7, payer_name="AGENT"))
    assert "Take Ksh500.00 from JOHN DOE 0712345678." in agent
    assert customer.startswith("SG632NMUAB Confirmed. on 6/7/24 at 5:03 PM Give Ksh500.00 cash to AGENT. New ")
    assert "Transaction cost" not in customer


def test_apps_of_the_field_find_what_they_look_for() -> None:
    sent = re.compile(
        r"(?P<receipt>[A-Z0-9]{10}) Confirmed\. Ksh(?P<amount>[\d,.]+) sent to (?P<name>.+?) (?P<number>0\d{9}) on"
        r" (?P<date>\d{1,2}/\d{1,2}/\d{2}) at (?P<time>\d{1,2}:\d{2} [AP]M)\."
        r" New \S+ balance is Ksh(?P<left>[\d,]+\.\d\d)\."
        r" Transaction cost, Ksh(?P<cost>[\d.]+)\."
    )
    found = sent.fullmatch(both(event())[0])
    assert found is not None
    assert found.groupdict() == {
        "receipt": "SG632NMUAB", "amount": "500.00", "name": "JOHN DOE", "number": "0712345678", "date": "6/7/24",
        "time": "5:03 PM", "left": "1,200.00", "cost": "7.00",
    }  # fmt: skip


def test_each_end_of_a_held_payment() -> None:
    held = both(event(state="HELD", status="held_for_review"))
    assert held == [
        "SG632NMUAB Your payment of Ksh500.00 to JOHN DOE is being checked; the money is reserved. We will tell you."
        " New Kibubu balance is Ksh1,200.00."
    ]
    assert len(both(event(state="RELEASED", status="held_for_review"))) == 2
    (back,) = both(event(state="CANCELLED", status="held_for_review"))
    assert "was not made. The money is yours again. New Kibubu balance" in back
    (expired,) = both(event(state="EXPIRED", status="held_for_review"))
    assert "balance" not in expired
    assert "under way" in both(event(4, state="HELD", status="provider_has_not_answered"))[0]


def test_money_for_somebody_without_an_account() -> None:
    sender, other = texts_of(
        event(6, state="HELD", status="voucher_waits", payee="254799000001", payee_msisdn=""), WORDS_OF, STYLE
    )
    assert "Ksh500.00 waits for 0799000001, who has no account." in sender.text
    assert (other.msisdn, other.text) == (
        "254799000001",
        "SG632NMUAB WANJIKU 0712000001 sent you Ksh500.00. Show this code to an agent, with the secret from the"
        " sender.",
    )
    (collected,) = both(event(6, state="RELEASED", status="voucher_waits", payee="254799000001", payee_msisdn=""))
    assert "Ksh500.00 sent to 0799000001 was collected on 6/7/24" in collected


def test_a_reversal_that_waits_for_an_answer() -> None:
    receiver, sender = both(event(12, state="HELD", status="reversal_is_reserved"))
    assert receiver.startswith("SG632NMUAB JOHN DOE 0712345678 asks Ksh500.00 back, sent to you by mistake.")
    assert sender == ("SG632NMUAB Ksh500.00 that you sent to WANJIKU is reserved while we ask. We will tell you.")


def test_who_is_told_of_a_refusal() -> None:
    (failed,) = both(event(state="REFUSED", status="insufficient_funds"))
    assert failed == "Your payment of Ksh500.00 to JOHN DOE was not made. No money was taken."
    for told_by_the_screen in ("pin_wrong", "payee_not_found", "payer_not_found"):
        assert both(event(state="REFUSED", status=told_by_the_screen)) == []


def test_what_is_no_news_is_not_told() -> None:
    again = event()
    again.payment.outcome.duplicate = True
    assert both(again) == []
    assert both(event(12, state="DECIDED")) == []
    assert both(event(payee_msisdn=""))[1:] == []  # a till without a phone
    transfer = feed_pb2.Event()
    transfer.transfer.result.position = 1
    assert both(transfer) == []


def test_each_reads_the_own_language() -> None:
    payer, payee = both(event(payer_language="fr", payee_language="sw"))
    assert "envoyés à JOHN DOE" in payer
    assert "à 17:03." in payer
    assert "Umepokea Ksh500.00" in payee
    assert "Salio jipya la Kibubu ni Ksh400.00." in payee
    assert "sent to" in both(event(payer_language="xx"))[0]
    swahili = Style(default_language="sw")
    assert "imetumwa kwa" in texts_of(event(), WORDS_OF, swahili)[0].text


LONGEST = {
    "payer_name": "Wolfeschlegelsteinhausenbergerdorff", "payer_available_minor": 9_999_999_999_99,
    "payee_available_minor": 9_999_999_999_99, "payee_msisdn": "254712345678",
}  # fmt: skip


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_every_text_is_whole_within_two_parts(language: str) -> None:
    for kind in (*SENTENCES, 99):
        for state in ("DONE", *OTHER_ENDS):
            status = "held_for_review" if state == "HELD" else "insufficient_funds"
            made = event(kind, state=state, status=status, payer_language=language, payee_language=language, **LONGEST)
            told = made.payment
            told.outcome.payee_name, told.payment.reference = "Ngũgĩ wa Thiong'o wa Kamĩrĩĩthũ", "W" * 20
            told.outcome.amount_minor = told.outcome.fee_minor = 9_999_999_999_99
            told.payment.payee = "254712345678"
            for text in both(made):
                assert length(text) < TEXT_SEPTETS_MAX - 2, text
                assert "{" not in text
                assert "?" not in text


@pytest.mark.parametrize("language", ["en", "sw", "fr", "pt"])
def test_an_ordinary_text_is_one_part(language: str) -> None:
    for text in both(event(payer_language=language, payee_language=language)):
        assert length(text) <= 160, text


def test_money_that_crosses_a_border_is_told_in_each_one_s_currency() -> None:
    payer, payee = both(event(14, payee_currency="UGX", payee_amount_minor=14_225, payee_msisdn="256772000001"))
    assert "Ksh500.00 sent to JOHN DOE +256772000001 on" in payer
    assert "You have received USh14,225 from WANJIKU +254712000001" in payee
    assert "New Kibubu balance is USh40,000." in payee


def test_a_payee_that_pays_a_part_of_the_charge_reads_what_it_got() -> None:
    assert "You have received Ksh495.00" in both(event(2, payee_currency="KES", payee_amount_minor=49_500))[1]


def test_numbers_and_money_as_at_home() -> None:
    assert [national(n) for n in ("254712000001", "2348031234567", "123456", "", "99999999999999")] == [
        "0712000001", "08031234567", "123456", "", "99999999999999",
    ]  # fmt: skip
    assert [money(m, c) for m, c in ((5, "KES"), (123_456_789, "NGN"), (-150, "ZAR"))] == [
        "Ksh0.05", "NGN 1,234,567.89", "-R1.50",
    ]  # fmt: skip
