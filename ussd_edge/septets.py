"""A USSD screen holds 182 septets of the GSM 7-bit alphabet (3GPP TS 23.038); some characters take two."""

from __future__ import annotations

import unicodedata

SCREEN_SEPTETS_MAX = 182
SCREEN_UCS2_CHARACTERS_MAX = 80  # as soon as one character is not in the alphabet
BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("^{}\\[~]|€\f")  # an escape septet and one more
_SHOWN = BASIC | EXTENSION
_OTHERWISE = {
    "`": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...",
    "ɓ": "b", "ɗ": "d", "ƙ": "k", "ƴ": "y", "Ɓ": "B", "Ɗ": "D", "Ƙ": "K", "Ƴ": "Y",
}  # fmt: skip


def length(text: str) -> int:
    """Septets of a text that is all GSM 7-bit. Raises ValueError for any other character."""
    if BASIC.issuperset(text):
        return len(text)
    total = 0
    for character in text:
        if character in BASIC:
            total += 1
        elif character in EXTENSION:
            total += 2
        else:
            raise ValueError(f"{character!r} is not in the GSM 7-bit alphabet")
    return total


def fits(text: str) -> bool:
    """Whether the text, as it is, is one screen."""
    if _SHOWN.issuperset(text):
        return length(text) <= SCREEN_SEPTETS_MAX
    return len(text.encode("utf-16-be")) // 2 <= SCREEN_UCS2_CHARACTERS_MAX


def to_gsm(text: str) -> str:
    """The nearest text that every phone can show: accents that GSM lacks are dropped, the unknown becomes `?`."""
    if _SHOWN.issuperset(text):
        return text
    return "".join(_nearest(character) for character in unicodedata.normalize("NFC", text))


def _nearest(character: str) -> str:
    if character in _SHOWN:
        return character
    if character in _OTHERWISE:
        return _OTHERWISE[character]
    if unicodedata.combining(character):
        return ""  # an accent that stands alone: no single character has it and its letter
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return plain if plain and all(c in BASIC for c in plain) else "?"


def shortened(text: str, septets_max: int) -> str:
    """As GSM text of at most so many septets; what was cut ends in two dots."""
    gsm = to_gsm(text)
    if length(gsm) <= septets_max:
        return gsm
    kept = ""
    for character in gsm:
        if length(kept + character) > septets_max - 2:
            break
        kept += character
    return kept + ".."
