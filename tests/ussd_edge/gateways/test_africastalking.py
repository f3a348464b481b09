"""Africa's Talking: its form as documented, and everything that is not that form."""

from __future__ import annotations

import contextlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ussd_edge.gateways import africastalking
from ussd_edge.gateways.africastalking import render
from ussd_edge.gateways.seam import BadRequestError, HttpCall, Phase, Showing, Step
from ussd_edge.limits import FIELDS_MAX, INPUT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX

GOOD = {
    "sessionId": "ATUid_0123456789abcdef0123456789abcdef",
    "serviceCode": "*384*100#",
    "phoneNumber": "+254712000001",
    "networkCode": "63902",
    "text": "1*0712000002*500",
}


def parse(body: bytes) -> Step:
    return africastalking.parse(HttpCall("POST", "", b"", {}, body), "*384*100#")


def form(**changes: str | None) -> bytes:
    fields = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return urlencode(fields).encode()


def test_the_documented_form() -> None:
    expected = Step(Phase.PATH, GOOD["sessionId"], "254712000001", ("1", "0712000002", "500"), ())
    assert parse(form()) == expected
    assert parse(form(text="")).inputs == ()
    assert parse(form(networkCode=None)) == expected  # not needed
    assert parse(form(cellId="7")) == expected  # what is new does no harm
    assert parse(form(serviceCode="*999#")).tail is None


def test_a_plus_that_was_not_escaped() -> None:
    assert parse(form().replace(b"%2B", b"+")).msisdn == "254712000001"
    assert parse(form(phoneNumber="254712000001")).msisdn == "254712000001"


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("*", ("", "")), ("1**2", ("1", "", "2")), ("1*", ("1", "")), ("\N{PILE OF POO}*1", ("\N{PILE OF POO}", "1")),
        ("1*a b#c", ("1", "a b#c")), ("٢*1", ("٢", "1")),
    ],
)  # fmt: skip
def test_the_text_is_split_and_not_judged_here(text: str, inputs: tuple[str, ...]) -> None:
    assert parse(form(text=text)).inputs == inputs


@pytest.mark.parametrize("text", ["9" * 10_000, "*" * 10_000, "1*2*" * 2_500, "\N{PILE OF POO}" * 10_000])
def test_ten_thousand_characters_become_one_input_that_is_too_long(text: str) -> None:
    inputs = parse(form(text=text)).inputs
    assert len(inputs) == 1
    assert INPUT_CHARACTERS_MAX < len(inputs[0]) == TEXT_CHARACTERS_MAX + 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "sessionId: missing"),
        (b"\xff\xfe", "body: must be a urlencoded form"),
        (b"text=%ff", "body: must be a urlencoded form"),
        (b'{"sessionId": "x"}', "body: must be a urlencoded form"),
        (b"&".join(b"a%d=1" % n for n in range(FIELDS_MAX + 1)), "body: must be a urlencoded form"),
        (form() + b"&text=1*254712000009*5", "body: a field is there twice"),
        (form() + b"&phoneNumber=%2B254712000009", "body: a field is there twice"),
        (form(sessionId=None), "sessionId: missing"),
        (form(serviceCode=None), "serviceCode: missing"),
        (form(phoneNumber=None), "phoneNumber: missing"),
        (form(text=None), "text: missing"),
        (form(sessionId=""), "sessionId: must be"),
        (form(sessionId="x" * 129), "sessionId: must be"),
        (form(sessionId="a b"), "sessionId: must be"),
        (form(sessionId="ü"), "sessionId: must be"),
        (form(phoneNumber=""), "phoneNumber: must be"),
        (form(phoneNumber="0712000001"), "phoneNumber: must be"),
        (form(phoneNumber="+2547120000012345"), "phoneNumber: must be"),
        (form(phoneNumber="+\uff12\uff15\uff14712000001"), "phoneNumber: must be"),
        (form(phoneNumber="٢٥٤٧١٢٠٠٠٠٠١"), "phoneNumber: must be"),
    ],
)
def test_what_breaks_the_form_is_named(body: bytes, complaint: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse(body)
    assert str(caught.value).startswith(complaint)
    assert "254712" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_bad_form(body: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        parse(body)


@given(st.text(max_size=200).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_any_text_comes_through_whole(text: str) -> None:
    assert "*".join(parse(form(text=text)).inputs) == text


def test_the_answer() -> None:
    step = Step(Phase.PATH, "s1")
    assert render(step, Showing("Enter PIN\n0 Back", ends=False)).body == b"CON Enter PIN\n0 Back"
    assert render(step, Showing("Ngugi: 5 £", ends=True)).body == "END Ngugi: 5 £".encode()
