"""Who bears the charge of paying a biller or a shop, where that one has chosen otherwise than the tariff's table: a
document of the kind `biller` for each, under currency, handle and number, such as KES/paybill/888880."""

from __future__ import annotations

import re
import tomllib

KIND = "biller"
BEARERS = ("customer", "business", "shared")
HANDLES = ("paybill", "till")
_KEY = re.compile(rf"[A-Z]{{3}}/({'|'.join(HANDLES)})/[0-9A-Za-z_.-]{{1,32}}", re.ASCII)


def key_of(currency: str, handle: str, number: str) -> str:
    return f"{currency}/{handle}/{number}"


def parse_biller(body: bytes) -> str:
    """The bearer; "shared" = as the tariff's table has it. Raises ValueError with field and rule."""
    try:
        raw = tomllib.loads(body.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"biller: {error}") from error
    if set(raw) != {"bearer"} or raw["bearer"] not in BEARERS:
        raise ValueError(f"bearer: must be one of {', '.join(BEARERS)}, and nothing else may be there")
    return str(raw["bearer"])


def check_document(key: str, body: bytes) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: must be currency, paybill or till, and number, as KES/paybill/888880, is {key[:70]!r}")
    parse_biller(body)
    return key
