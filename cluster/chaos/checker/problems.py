"""What can be wrong with a history: each rule is a sentence about one promise to people with money."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

SHOWN_PER_RULE_MAX = 20


class Rule(StrEnum):
    LOGS_DIFFER = "the nodes do not have the same log"
    APPLIED_TWICE = "one id is in the log twice"
    PLACE_TAKEN_TWICE = "two transfers have the same place in the log"
    LOST = "an acknowledged transfer is not in the log"
    ANSWER_DIFFERS = "the answer differs from the log"
    RETRY_DIFFERS = "a retry was answered differently from the first answer"
    CONTENT_DIFFERS = "the log has other accounts, amount or flags than were sent"
    FAILED_BUT_APPLIED = "a transfer that surely did not happen is in the log"
    PHANTOM = "nobody sent a transfer that is in the log"
    TIME_WENT_BACK = "the log's own clock went back"
    REAL_TIME_ORDER = "the log puts a transfer behind one that began after it was answered"
    STALE_READ = "a read does not cover what was acknowledged before it began"
    READ_DIFFERS = "a read shows a balance or a version that the account never had at that time"
    TIME_OUT_WRONG = "a reservation timed out too early, too late, twice or not at all"
    TERM_WENT_BACK = "an answer comes from a leader that had been replaced before it was asked"
    TWO_LEADERS = "what is at one place, or behind it, was answered under an older term than what is before it"
    STATUS_WRONG = "the ledger's decision breaks its own rules"
    BALANCE_WRONG = "the balances after a transfer are wrong"
    BELOW_ZERO = "an account went below what it may"
    NOT_CONSERVED = "money was made or destroyed"
    FINAL_BALANCE_WRONG = "the balance at the end is not what its transfers make"


@dataclass(frozen=True, slots=True)
class Problem:
    rule: Rule
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """`counts` has all problems by rule, `problems` at most SHOWN_PER_RULE_MAX of each."""

    problems: list[Problem] = field(default_factory=list)
    counts: Counter[Rule] = field(default_factory=Counter)
    operations: int = 0
    reads: int = 0
    logged: int = 0
    resolved_applied: int = 0  # unanswered, and found in the log
    resolved_absent: int = 0  # unanswered, and not there

    @property
    def ok(self) -> bool:
        return not self.counts

    def add(self, rule: Rule, text: str) -> None:
        self.counts[rule] += 1
        if self.counts[rule] <= SHOWN_PER_RULE_MAX:
            self.problems.append(Problem(rule, text))
