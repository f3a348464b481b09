"""Rules that stand beside the model, as a document of the ledger (kind `fraud_rules`) or, until there is one, a node's
configuration: lists that end on a day, a cool-down after a PIN was reset, a cap. Facts come in. A rule only ever makes
a decision stricter; only the allow-list makes it milder, and even that does not lift a refusal by the refuse-list.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Any

from node.ledger.statuses import FraudDecision
from node.service.in_force import InForce
from node.storage.ledger_store import LedgerStore

KIND, KEY = "fraud_rules", "all"  # of the document
RULE_REASON_FIRST = 200  # reasons below are features; from here on they are rules
LISTED_MAX = 1_000
HOUR_NS = 3_600_000_000_000
_FIRST_PIN_NS = HOUR_NS  # a PIN that is set this soon after the account began is its first, not a reset


class Rule(IntEnum):
    """As it stands in a payment's reasons, plus RULE_REASON_FIRST."""

    ALLOW_LIST = 0
    HOLD_LIST = 1
    REFUSE_LIST = 2
    PIN_COOL_DOWN = 3
    CAP = 4
    SIM_COOL_DOWN = 5


_VERDICTS = {"allow": Rule.ALLOW_LIST, "hold": Rule.HOLD_LIST, "refuse": Rule.REFUSE_LIST}
_STRICTNESS = {
    FraudDecision.ALLOW: 0, FraudDecision.ALLOW_UNSCORED: 0, FraudDecision.HOLD: 1, FraudDecision.HOLD_UNSCORED: 1,
    FraudDecision.REFUSE: 2,
}  # fmt: skip


class RulesError(ValueError):
    """The message names the setting and the rule that it breaks."""


@dataclass(frozen=True, slots=True)
class Listed:
    msisdn: str  # E.164 digits without +
    verdict: Rule
    until_ns: int


@dataclass(frozen=True, slots=True)
class FraudRules:
    pin_cool_down_h: int = 24  # MTN Uganda blocks payments for a day after a SIM swap
    pin_cool_down_from_minor: int = 1_000_000  # smaller amounts pass
    sim_cool_down_h: int = 24  # after the number's SIM was changed (an operator says when)
    sim_cool_down_from_minor: int = 100_000  # smaller amounts pass
    cap_minor: int = 0  # amounts from this are always held; 0 = no cap
    lists: tuple[Listed, ...] = ()

    @property
    def least_minor(self) -> int:
        """Below this amount only the lists have a say."""
        cool_downs = min(self.pin_cool_down_from_minor, self.sim_cool_down_from_minor)
        return min(cool_downs, self.cap_minor or cool_downs)

    def decide(
        self, decision: FraudDecision, *, amount_minor: int, created_ns: int, pin_set_ns: int,
        listed: tuple[Listed, ...], now_ns: int, sim_swapped_ns: int = 0,
    ) -> tuple[FraudDecision, Rule | None]:  # fmt: skip
        """The final decision, and the rule that changed it. `listed`: the entries of payer and payee."""
        on = {entry.verdict for entry in listed if now_ns < entry.until_ns}
        if Rule.REFUSE_LIST in on:
            return _raised(decision, FraudDecision.REFUSE, Rule.REFUSE_LIST)
        is_swapped = sim_swapped_ns > 0 and now_ns < sim_swapped_ns + self.sim_cool_down_h * HOUR_NS
        if is_swapped and amount_minor >= self.sim_cool_down_from_minor:
            return _raised(decision, FraudDecision.REFUSE, Rule.SIM_COOL_DOWN)
        if Rule.ALLOW_LIST in on:
            return (decision, None) if _STRICTNESS[decision] == 0 else (FraudDecision.ALLOW, Rule.ALLOW_LIST)
        if Rule.HOLD_LIST in on:
            return _raised(decision, FraudDecision.HOLD, Rule.HOLD_LIST)
        was_reset = pin_set_ns > created_ns + _FIRST_PIN_NS and now_ns < pin_set_ns + self.pin_cool_down_h * HOUR_NS
        if was_reset and amount_minor >= self.pin_cool_down_from_minor:
            return _raised(decision, FraudDecision.HOLD, Rule.PIN_COOL_DOWN)
        if self.cap_minor and amount_minor >= self.cap_minor:
            return _raised(decision, FraudDecision.HOLD, Rule.CAP)
        return decision, None


NO_LISTS = FraudRules()


def _raised(decision: FraudDecision, to: FraudDecision, rule: Rule) -> tuple[FraudDecision, Rule | None]:
    return (to, rule) if _STRICTNESS[to] > _STRICTNESS[decision] else (decision, None)


def rules_from(table: Mapping[str, Any]) -> FraudRules:
    """Of the table fraud.rules. Raises RulesError."""
    known = {field.name for field in fields(FraudRules)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise RulesError(f"fraud.rules.{unknown[0]}: unknown; there are {', '.join(sorted(known))}")
    numbers = {name: value for name, value in table.items() if name != "lists"}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RulesError(f"fraud.rules.{name}: must be a whole number from 0, is {value!r}")
    raw = table.get("lists", [])
    if not isinstance(raw, list) or len(raw) > LISTED_MAX:
        raise RulesError(f"fraud.rules.lists: must be a list of at most {LISTED_MAX} entries")
    return FraudRules(**numbers, lists=tuple(_listed(entry, number) for number, entry in enumerate(raw)))


def rules_of(body: bytes) -> FraudRules:
    """Of a document, TOML with what the table fraud.rules has. Raises ValueError with field and rule."""
    try:
        return rules_from(tomllib.loads(body.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"body: must be TOML: {error}") from error


def check_document(key: str, body: bytes) -> str:
    """The rule of this kind of document: its key. Raises ValueError."""
    if key not in ("", KEY):
        raise ValueError(f"key: must be {KEY}, is {key[:40]!r}")
    rules_of(body)
    return KEY


def rules_in_force(store: LedgerStore, configured: FraudRules) -> InForce[FraudRules]:
    """A node's own configuration holds only until the first document."""
    return InForce(store, KIND, KEY, lambda one: rules_of(one.body), configured)


def _listed(entry: Any, number: int) -> Listed:
    at = f"fraud.rules.lists[{number}]"
    if not isinstance(entry, dict) or set(entry) != {"msisdn", "verdict", "until"}:
        raise RulesError(f"{at}: must have msisdn, verdict and until, and nothing else")
    msisdn, verdict, until = entry["msisdn"], entry["verdict"], entry["until"]
    if not isinstance(msisdn, str) or not msisdn.isdecimal():
        raise RulesError(f"{at}.msisdn: must be E.164 digits without +, is {msisdn!r}")
    if verdict not in _VERDICTS:
        raise RulesError(f"{at}.verdict: must be one of {', '.join(_VERDICTS)}, is {verdict!r}")
    if isinstance(until, datetime) or not isinstance(until, date):
        raise RulesError(f"{at}.until: must be a day such as 2027-01-31, is {until!r}")
    end = datetime(until.year, until.month, until.day, tzinfo=UTC)
    return Listed(msisdn, _VERDICTS[verdict], int(end.timestamp()) * 1_000_000_000 + 24 * HOUR_NS)
