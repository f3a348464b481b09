"""Phone numbers in any national or international form -> E.164 digits, by libphonenumber's data."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

_FORM = re.compile(r"\+?[0-9]{6,15}", re.ASCII)
REGION = "KE"


_MOBILE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)


class MsisdnError(ValueError):
    """Not a mobile number that this operator could serve."""


@lru_cache(maxsize=65_536)
def normalise(text: str, region: str = REGION) -> str:
    """`0712 345 678`, `+254712345678`, `254712345678` -> `254712345678`. Raises MsisdnError.

    Digits without a plus are read as a number of the operator's country, and where that is none as E.164.
    """
    compact = text.replace(" ", "").replace("-", "")
    if not _FORM.fullmatch(compact):
        raise MsisdnError("a phone number has 6 to 15 digits")
    readings = [(compact, region)] if compact.startswith("+") else [(compact, region), ("+" + compact, None)]
    for digits, home in readings:
        number = _parsed(digits, home)
        if number is not None:
            return f"{number.country_code}{phonenumbers.national_significant_number(number)}"
    raise MsisdnError("no such mobile number")


def _parsed(digits: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    """None = no mobile number in this reading."""
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.number_type(number) in _MOBILE else None
