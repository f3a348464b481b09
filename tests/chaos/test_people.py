"""Payments of people: each lie about one is found."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.chaos.checker import Outcome
from cluster.chaos.people import Paid, judge_people

_OK, _REFUSED, _NOT, _UNKNOWN = "ok", "refused", "not", "unknown"


def paid(amount_minor: int, told: str) -> Paid:
    outcome = {_NOT: Outcome.NOT_APPLIED, _UNKNOWN: Outcome.UNKNOWN}.get(told, Outcome.ACKNOWLEDGED)
    return Paid("a", "b", amount_minor, "ussd", outcome, told == _OK)


@pytest.mark.parametrize(
    ("told", "times", "is_right"),
    [
        (_OK, 1, True),
        (_OK, 0, False),  # lost
        (_OK, 2, False),  # paid twice
        (_REFUSED, 0, True),
        (_REFUSED, 1, False),
        (_NOT, 0, True),
        (_NOT, 1, False),
        (_UNKNOWN, 0, True),
        (_UNKNOWN, 1, True),
        (_UNKNOWN, 2, False),
    ],
)
def test_a_payment_moves_its_money_as_often_as_was_told(told: str, times: int, is_right: bool) -> None:
    problems = judge_people([paid(500, told)], Counter({("a", "b", 500): times}))
    assert (problems == []) is is_right


def test_money_that_nobody_sent_is_found() -> None:
    (problem,) = judge_people([], Counter({("a", "b", 700): 1}))
    assert problem == "payment of 700 from a to b: moved 1 times, must be 0"
