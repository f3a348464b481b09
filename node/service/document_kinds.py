"""Which documents a node knows, and the rules that the leader holds a new version to before it is proposed.

A kind's rule gets key and body, raises ValueError with field and rule, and returns the key that the document is filed
under. A document of an unknown kind would be read by nobody, so it is refused: a slip must not pass in silence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable

from node.ledger import tiers
from node.ledger.documents import tiers_in
from node.ledger.tiers import Tiers
from node.payments import billers
from node.payments.rates import check_pair, parse_rate
from node.payments.tariffs import TariffError, tariff_of
from node.service import fraud_rules, fraud_thresholds, review_labels

Rule = Callable[[str, bytes], str]


def _tariff(key: str, body: bytes) -> str:
    try:
        tariff = tariff_of(body, "tariff")
    except TariffError as error:
        raise ValueError(str(error)) from error
    own_key = f"{tariff.currency}/{tariff.effective.isoformat()}"
    if key and key != own_key:
        raise ValueError(f"key: a tariff is filed under its currency and date, {own_key}, not {key}")
    return own_key


def _tiers(key: str, body: bytes) -> str:
    tiers_in(key or tiers.KEY, body, Tiers())
    return tiers.KEY


def _rate(key: str, body: bytes) -> str:
    try:
        parse_rate(tomllib.loads(body.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return check_pair(key)


KINDS: dict[str, Rule] = {
    billers.KIND: billers.check_document,
    "rates": _rate,
    "tiers": _tiers,
    "tariff": _tariff,
    review_labels.KIND: review_labels.check_document,
    fraud_rules.KIND: fraud_rules.check_document,
    fraud_thresholds.KIND: fraud_thresholds.check_document,
}
