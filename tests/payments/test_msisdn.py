"""Phone numbers as people write them, from many countries, and what is none."""

from __future__ import annotations

import pytest

from node.payments.msisdn import MsisdnError, normalise

KENYAN = [
    "0712345678", "0712 345 678", "0712-345-678", "712345678", "254712345678", "+254712345678", "+254 712 345 678",
    "+254-712-345678",
]  # fmt: skip


@pytest.mark.parametrize("text", KENYAN)
def test_every_national_form_is_one_number(text: str) -> None:
    assert normalise(text) == "254712345678"


@pytest.mark.parametrize(
    "text",
    ["0701234567", "0733123456", "0753123456", "0780123456", "0772123456", "0110123456", "0100123456", "0112345678"],
)
def test_every_kenyan_range_is_known_also_those_with_01(text: str) -> None:
    assert normalise(text) == "254" + text[1:]


@pytest.mark.parametrize(
    "digits",
    [
        "2348031234567",  # Nigeria, ten national digits
        "233241234567",  # Ghana
        "255754123456",  # Tanzania
        "256772123456",  # Uganda
        "250781234567",  # Rwanda
        "263771234567",  # Zimbabwe
        "260971234567",  # Zambia
        "265991234567",  # Malawi
        "27711234567",  # South Africa
        "258841234567",  # Mozambique, no trunk 0
        "26658123456",  # Lesotho, eight digits and no trunk 0
    ],
)
def test_a_foreign_number_keeps_its_country(digits: str) -> None:
    """E.164 digits without the plus are what the API speaks; with it is what a person types."""
    assert normalise("+" + digits) == digits
    assert normalise(digits) == digits


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        ("0772123456", "UG", "256772123456"),
        ("0803 123 4567", "NG", "2348031234567"),
        ("58123456", "LS", "26658123456"),
        ("841234567", "MZ", "258841234567"),
        ("+254712345678", "UG", "254712345678"),
        ("254712345678", "UG", "254712345678"),
    ],
)
def test_national_forms_follow_the_operators_country(text: str, region: str, expected: str) -> None:
    assert normalise(text, region) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+", "0", "12345", "07123456789", "071234567", "0712345678x", "++254712345678", "254 712", "1" * 16,
        "0202123456",  # a landline has no wallet and no airtime
        "0800720000",  # free of charge
        "٠٧١٢٣٤٥٦٧٨",  # Arabic-Indic digits
        "\uff10\uff17\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",  # full-width digits
        "\N{PILE OF POO}", "0712345678\n1", "0712345678;ext=5", "tel:0712345678",
    ],
)  # fmt: skip
def test_what_is_no_mobile_number(text: str) -> None:
    with pytest.raises(MsisdnError):
        normalise(text)
