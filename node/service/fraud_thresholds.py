"""Costs and thresholds of the fraud check as a document of the ledger (kind `fraud_thresholds`, TOML): every node has
the same, each version says who set it, and a payment's record says which version decided. Where none was ever set, the
model's card has the costs.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from typing import Any

from node.ledger.fraud_costs import Costs, costs_from
from node.service.in_force import InForce
from node.storage.ledger_store import LedgerStore

KIND, KEY = "fraud_thresholds", "all"
TWO_PERSON = "two_person_above_minor"
TWO_PERSON_ABOVE_MINOR = 5_000_000


@dataclass(frozen=True, slots=True)
class Thresholds:
    version: int = 0  # of the document; 0 = there is none, and the sidecar's decisions are taken as they come
    costs: Costs = field(default_factory=Costs)
    two_person_above_minor: int = TWO_PERSON_ABOVE_MINOR  # a held payment above it is decided by two analysts who agree

    def analysts_needed(self, amount_minor: int) -> int:
        return 2 if amount_minor > self.two_person_above_minor else 1

    def to_toml(self) -> str:
        rows: dict[str, Any] = {**asdict(self.costs), TWO_PERSON: self.two_person_above_minor}
        return "".join(f"{name} = {value}\n" for name, value in rows.items())


def thresholds_from(body: bytes, version: int = 0) -> Thresholds:
    """What a document leaves out is as by default. Raises ValueError with field and rule."""
    try:
        table = tomllib.loads(body.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"body: must be TOML: {error}") from error
    two_person = table.pop(TWO_PERSON, TWO_PERSON_ABOVE_MINOR)
    if isinstance(two_person, bool) or not isinstance(two_person, int) or two_person < 0:
        raise ValueError(f"{TWO_PERSON}: must be a whole number from 0, is {two_person!r}")
    return Thresholds(version, costs_from(table), two_person)


def thresholds_in_force(store: LedgerStore) -> InForce[Thresholds]:
    return InForce(store, KIND, KEY, lambda one: thresholds_from(one.body, one.version), Thresholds())


def check_document(key: str, body: bytes) -> str:
    """The rule of this kind of document: its key. Raises ValueError."""
    if key not in ("", KEY):
        raise ValueError(f"key: must be {KEY}, is {key[:40]!r}")
    thresholds_from(body)
    return KEY
