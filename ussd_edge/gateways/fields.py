"""Reads what gateways send: forms, queries, JSON; each field by its rule, every breach named, no value repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from ussd_edge.gateways.seam import BadRequestError, Reply
from ussd_edge.limits import FIELDS_MAX, QUERY_BYTES_MAX, SESSION_ID_CHARACTERS_MAX, TEXT_CHARACTERS_MAX

Fields = Mapping[str, str]
_SESSION = re.compile(rf"[0-9A-Za-z_.:-]{{1,{SESSION_ID_CHARACTERS_MAX}}}", re.ASCII)
_PHONE = re.compile(r"\+?[1-9][0-9]{8,14}", re.ASCII)
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


def form_fields(raw: bytes, where: str = "body", *, fold: bool = False) -> Fields:
    """A urlencoded form or query. `fold`: names in lower case, for gateways whose own documents do not agree."""
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=FIELDS_MAX,
            encoding="utf-8", errors="strict",
        )  # fmt: skip
    except ValueError:
        raise BadRequestError(f"{where}: must be a urlencoded form in UTF-8") from None
    return _once(pairs, where, fold=fold)


def query_fields(raw: bytes, *, fold: bool = False) -> Fields:
    if len(raw) > QUERY_BYTES_MAX:
        raise BadRequestError(f"query: at most {QUERY_BYTES_MAX} bytes")
    return form_fields(raw, "query", fold=fold)


def json_fields(raw: bytes, *, fold: bool = False) -> Fields:
    """The texts, numbers and truths of a JSON object, as texts; what is nested or null is left out."""
    try:
        pairs = json.loads(raw.decode("utf-8"), object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequestError("body: must be a JSON object in UTF-8") from None
    if not isinstance(pairs, _Pairs):
        raise BadRequestError("body: must be a JSON object in UTF-8")
    if len(pairs) > FIELDS_MAX:
        raise BadRequestError(f"body: at most {FIELDS_MAX} fields")
    fields = _once([(name, _as_text(value)) for name, value in pairs if _is_plain(value)], "body", fold=fold)
    if any("\ud800" <= character <= "\udfff" for value in fields.values() for character in value):
        raise BadRequestError("body: must be text in UTF-8")  # JSON can write half a character
    return fields


class _Pairs(list[tuple[str, Any]]):
    """A JSON object whose doubled names are not lost."""


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int))


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _once(pairs: list[tuple[str, str]], where: str, *, fold: bool) -> Fields:
    found = {(name.lower() if fold else name): value for name, value in pairs}
    if len(found) != len(pairs):
        raise BadRequestError(f"{where}: a field is there twice")
    return found


def needed(fields: Fields, *names: str) -> None:
    for name in names:
        if name not in fields:
            raise BadRequestError(f"{name}: missing")


def session_of(fields: Fields, name: str) -> str:
    needed(fields, name)
    value = fields[name].strip()
    if not _SESSION.fullmatch(value):
        raise BadRequestError(f"{name}: must be 1 to {SESSION_ID_CHARACTERS_MAX} letters, digits or _ . : -")
    return value


def msisdn_of(fields: Fields, name: str) -> str:
    """A + that was not escaped arrives as a space."""
    needed(fields, name)
    value = fields[name].strip()
    if not _PHONE.fullmatch(value):
        raise BadRequestError(f"{name}: must be an international number of 9 to 15 digits")
    return value.lstrip("+")


def truth_of(fields: Fields, name: str) -> bool:
    needed(fields, name)
    value = fields[name].strip().lower()
    if value not in _TRUE | _FALSE:
        raise BadRequestError(f"{name}: must be true or false")
    return value in _TRUE


def choice_of(fields: Fields, name: str, choices: Mapping[str, Any]) -> Any:
    needed(fields, name)
    value = fields[name].strip().lower()
    if value not in choices:
        raise BadRequestError(f"{name}: must be one of {', '.join(choices)}")
    return choices[value]


def input_of(fields: Fields, name: str) -> tuple[str, ...]:
    """One thing that a person typed; too long a one is cut to what the menu finds too long."""
    needed(fields, name)
    return (fields[name][: TEXT_CHARACTERS_MAX + 1],)


def split_path(text: str) -> tuple[str, ...]:
    """All inputs of a session, joined by `*`."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return (text[: TEXT_CHARACTERS_MAX + 1],)
    return tuple(text.split("*")) if text else ()


def tail_of(dialled: str, service_code: str) -> tuple[str, ...] | None:
    """What was dialled behind the service code, None when it was another code: of `*384*100*1*0712000002#` 1 and the
    number. A gateway may leave out the first `*`, the `#`, the whole code, or (Airtel) all signs between the digits."""
    own, typed = service_code.strip("*#"), dialled.strip().strip("*#")
    if typed in ("", own, own.replace("*", "")):
        return ()
    return split_path(typed[len(own) + 1 :]) if typed.startswith(f"{own}*") else None


def json_reply(content: Mapping[str, object], *headers: tuple[bytes, bytes]) -> Reply:
    return Reply(json.dumps(content, ensure_ascii=False).encode(), b"application/json; charset=utf-8", headers)
