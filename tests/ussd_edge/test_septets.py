"""The GSM 7-bit alphabet: what fits a screen is counted in septets, and every phone can show what we send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ussd_edge.septets import BASIC, EXTENSION, SCREEN_SEPTETS_MAX, length, shortened, to_gsm


def test_a_screen_is_160_octets() -> None:
    assert SCREEN_SEPTETS_MAX == 160 * 8 // 7 == 182


def test_the_alphabet_has_127_characters_and_an_escape() -> None:
    assert len(BASIC) == 127
    assert len(EXTENSION) == 10
    assert not BASIC & EXTENSION
    assert "`" not in BASIC | EXTENSION
    assert "ç" not in BASIC  # only the capital is there


@pytest.mark.parametrize(
    ("text", "septets"), [("", 0), ("abc", 3), ("@£$¥è", 5), ("€", 2), ("^{}[]~|\\", 16), ("a€b", 4), ("\n", 1)]
)
def test_length_counts_an_escaped_character_twice(text: str, septets: int) -> None:
    assert length(text) == septets


@pytest.mark.parametrize("text", ["`", "ç", "\N{PILE OF POO}", "я", "\u0663"])
def test_length_refuses_what_is_not_in_the_alphabet(text: str) -> None:
    with pytest.raises(ValueError, match="GSM 7-bit"):
        length(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Wanjikũ", "Wanjiku"), ("José", "José"), ("Françoise", "Francoise"), ("O’Neill", "O'Neill"), ("“x”", '"x"'),
        ("a…b", "a...b"), ("\N{PILE OF POO}", "?"), ("Ngũgĩ wa Thiong`o", "Ngugi wa Thiong'o"), ("я", "?"), ("ﬁ", "fi"),
        ("Jose\u0301", "José"), ("Nọ́mbà", "Nombà"), ("iṣẹ\u0301", "ise"), ("Ƙasa ɗaya", "Kasa daya"),
    ],
)  # fmt: skip
def test_names_are_shown_as_near_as_a_phone_can(text: str, shown: str) -> None:
    assert to_gsm(text) == shown


@given(st.text(max_size=400), st.integers(2, 200))
def test_a_shortened_text_fits_and_is_cut_as_little_as_possible(text: str, septets_max: int) -> None:
    short = shortened(text, septets_max)
    assert length(short) <= septets_max
    gsm = to_gsm(text)
    if length(gsm) <= septets_max:
        assert short == gsm
    else:
        assert short.endswith("..")
        assert gsm.startswith(short[:-2])
        assert length(short) >= septets_max - 1  # one septet may be left where a character of two did not fit
    assert shortened(short, septets_max) == short
