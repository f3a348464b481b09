"""Phone numbers in any national or international form -> E.164 digits, by libphonenumber's data."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

_FORM = re.compile(r"\+?[0-9]{6,15}", re.ASCII)
REGION = "KE"


class MsisdnError(ValueError):
    """Not a mobile number that this operator could serve."""


@lru_cache(maxsize=65_536)
def normalise(text: str, region: str = REGION) -> str:
    """`0712 345 678`, `+254712345678`, `254712345678` -> `254712345678`. Raises MsisdnError."""
    compact = text.replace(" ", "").replace("-", "")
    if not _FORM.fullmatch(compact):
        raise MsisdnError("a phone number has 6 to 15 digits")
    code = str(phonenumbers.country_code_for_region(region))
    if compact.startswith(code) and not compact.startswith("+"):
        compact = "+" + compact
    try:
        number = phonenumbers.parse(compact, region)
    except phonenumbers.NumberParseException as error:
        raise MsisdnError("not a phone number") from error
    if not phonenumbers.is_valid_number(number):
        raise MsisdnError("no such phone number")
    return f"{number.country_code}{number.national_number}"
