"""Judges a history: was everything that clients were told true, and is the log of every node what it must be?

It knows the ledger's rules by a plain model of its own and imports nothing of the platform, so that no mistake of the
node can hide in it. Pure: arrays in, problems out.
"""

from cluster.chaos.checker.check import check
from cluster.chaos.checker.problems import Problem, Rule, Verdict
from cluster.chaos.checker.records import EXPIRED, LOGGED, NEVER_NS, OPERATION, READ, Evidence, Outcome

__all__ = [
    "EXPIRED",
    "LOGGED",
    "NEVER_NS",
    "OPERATION",
    "READ",
    "Evidence",
    "Outcome",
    "Problem",
    "Rule",
    "Verdict",
    "check",
]
