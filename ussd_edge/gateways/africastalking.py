"""Africa's Talking: a form POST with all inputs joined by `*`; the answer is plain text that begins with CON or END."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

NAME = "africastalking"
PATH = "/ussd/africastalking"
TEXT_CHARACTERS_MAX = 2_000
_FIELDS_MAX = 20
_SESSION = re.compile(r"[0-9A-Za-z_.:-]{1,128}", re.ASCII)
_PHONE = re.compile(r"\+?[1-9][0-9]{8,14}", re.ASCII)


class BadFormError(Exception):
    """The gateway's request breaks its own format; the message names the field and the rule, never its value."""


@dataclass(frozen=True, slots=True)
class UssdRequest:
    session_id: str
    service_code: str
    msisdn: str  # digits, without +
    inputs: tuple[str, ...]


def parse(body: bytes) -> UssdRequest:
    """Raises BadFormError."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=_FIELDS_MAX,
            encoding="utf-8", errors="strict",
        )  # fmt: skip
    except ValueError:
        raise BadFormError("body: must be a urlencoded form in UTF-8") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadFormError("body: a field is there twice")
    for field in ("sessionId", "serviceCode", "phoneNumber", "text"):
        if field not in form:
            raise BadFormError(f"{field}: missing")
    if not _SESSION.fullmatch(form["sessionId"]):
        raise BadFormError("sessionId: must be 1 to 128 letters, digits or _ . : -")
    phone = form["phoneNumber"].strip()  # a + that was not escaped arrives as a space
    if not _PHONE.fullmatch(phone):
        raise BadFormError("phoneNumber: must be an international number of 9 to 15 digits")
    text = form["text"]
    inputs = tuple(text.split("*")) if text else ()
    if len(text) > TEXT_CHARACTERS_MAX:
        inputs = (text[: TEXT_CHARACTERS_MAX + 1],)  # one input that the menu finds too long
    return UssdRequest(form["sessionId"], form["serviceCode"], phone.lstrip("+"), inputs)


def render(text: str, *, ends: bool) -> bytes:
    return f"{'END' if ends else 'CON'} {text}".encode()
