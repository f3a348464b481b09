"""Rules only raise, the allow-list alone lowers, and lists end."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from node.ledger.statuses import FraudDecision
from node.service.fraud_rules import HOUR_NS, FraudRules, Listed, Rule, RulesError, rules_from

NOW = 1_795_500_000_000_000_000
ALLOW, HOLD, REFUSE = FraudDecision.ALLOW, FraudDecision.HOLD, FraudDecision.REFUSE
OLD = NOW - 10_000 * HOUR_NS


def decide(rules: FraudRules, decision: FraudDecision = ALLOW, **changes: Any) -> tuple[FraudDecision, Rule | None]:
    facts = {"amount_minor": 50_000, "created_ns": OLD, "pin_set_ns": OLD, "listed": (), "now_ns": NOW}
    return rules.decide(decision, **(facts | changes))


def entry(verdict: Rule, until_ns: int = NOW + 1) -> Listed:
    return Listed("254712000001", verdict, until_ns)


@pytest.mark.parametrize("decision", [ALLOW, HOLD, REFUSE, FraudDecision.ALLOW_UNSCORED, FraudDecision.HOLD_UNSCORED])
def test_without_a_reason_nothing_changes(decision: FraudDecision) -> None:
    assert decide(FraudRules(), decision) == (decision, None)


def test_a_reset_pin_cools_down() -> None:
    rules = FraudRules()
    fresh = {"pin_set_ns": NOW - 23 * HOUR_NS, "amount_minor": 1_000_000}
    assert decide(rules, **fresh) == (HOLD, Rule.PIN_COOL_DOWN)
    assert decide(rules, HOLD, **fresh) == (HOLD, None)
    assert decide(rules, REFUSE, **fresh) == (REFUSE, None)
    assert decide(rules, **(fresh | {"amount_minor": 999_999})) == (ALLOW, None)
    assert decide(rules, **(fresh | {"pin_set_ns": NOW - 24 * HOUR_NS})) == (ALLOW, None)
    first_pin = {"created_ns": NOW - 23 * HOUR_NS}
    assert decide(rules, **(fresh | first_pin)) == (ALLOW, None)


def test_nothing_large_goes_out_for_a_day_after_a_sim_swap() -> None:
    rules, swapped = FraudRules(), {"sim_swapped_ns": NOW - 23 * HOUR_NS}
    assert decide(rules, amount_minor=100_000, **swapped) == (REFUSE, Rule.SIM_COOL_DOWN)
    assert decide(rules, amount_minor=99_999, **swapped) == (ALLOW, None)
    assert decide(rules, amount_minor=100_000, listed=(entry(Rule.ALLOW_LIST),), **swapped)[0] is REFUSE
    assert decide(rules, amount_minor=100_000, sim_swapped_ns=NOW - 24 * HOUR_NS) == (ALLOW, None)
    assert decide(FraudRules(sim_cool_down_h=72), amount_minor=100_000, sim_swapped_ns=NOW - 71 * HOUR_NS)[0] is REFUSE
    assert rules.least_minor == 100_000


def test_a_cap_holds() -> None:
    rules = FraudRules(cap_minor=200_000)
    assert decide(rules, amount_minor=200_000) == (HOLD, Rule.CAP)
    assert decide(rules, amount_minor=199_999) == (ALLOW, None)


def test_lists_in_their_order_and_until_their_day() -> None:
    rules = FraudRules(cap_minor=1)
    refuse, hold, allow = entry(Rule.REFUSE_LIST), entry(Rule.HOLD_LIST), entry(Rule.ALLOW_LIST)
    assert decide(rules, listed=(allow, refuse)) == (REFUSE, Rule.REFUSE_LIST)
    assert decide(rules, REFUSE, listed=(allow, hold)) == (ALLOW, Rule.ALLOW_LIST)
    assert decide(rules, FraudDecision.HOLD_UNSCORED, listed=(allow,)) == (ALLOW, Rule.ALLOW_LIST)
    assert decide(rules, listed=(allow,)) == (ALLOW, None)
    assert decide(FraudRules(), listed=(hold,)) == (HOLD, Rule.HOLD_LIST)
    assert decide(FraudRules(), listed=(entry(Rule.REFUSE_LIST, NOW),)) == (ALLOW, None)


def test_rules_are_read() -> None:
    day = {"msisdn": "254712000001", "verdict": "refuse", "until": date(2026, 11, 24)}
    rules = rules_from({"cap_minor": 5, "lists": [day]})
    assert (rules.cap_minor, rules.pin_cool_down_h) == (5, 24)
    assert rules.lists == (Listed("254712000001", Rule.REFUSE_LIST, 1_795_564_800_000_000_000),)  # its last moment


GOOD = {"msisdn": "254712000001", "verdict": "hold", "until": date(2027, 1, 1)}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"cap": 1}, "fraud.rules.cap: unknown; there are cap_minor"),
        ({"cap_minor": -1}, "fraud.rules.cap_minor: must be a whole number from 0"),
        ({"cap_minor": 1.5}, "fraud.rules.cap_minor: must be a whole number"),
        ({"cap_minor": True}, "fraud.rules.cap_minor: must be a whole number"),
        ({"lists": {}}, "fraud.rules.lists: must be a list of at most 1000"),
        ({"lists": [GOOD] * 1_001}, "fraud.rules.lists: must be a list of at most 1000"),
        ({"lists": [{"msisdn": "1"}]}, r"fraud.rules.lists\[0\]: must have msisdn, verdict and until"),
        ({"lists": [GOOD, GOOD | {"msisdn": "+254"}]}, r"fraud.rules.lists\[1\].msisdn: must be E.164 digits"),
        ({"lists": [GOOD | {"verdict": "maybe"}]}, r"fraud.rules.lists\[0\].verdict: must be one of allow"),
        ({"lists": [GOOD | {"until": "soon"}]}, r"fraud.rules.lists\[0\].until: must be a day such as"),
    ],
)
def test_a_wrong_rule_is_named(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RulesError, match=complaint):
        rules_from(table)
