"""Judges an ordeal: pure, so that planted corruptions prove that it can find what it looks for."""

from __future__ import annotations

from collections import Counter

from cluster.chaos.history import Found, History, Observed, Sent

STATUS_OK = 0
PROBLEMS_SHOWN_MAX = 50


def problems_of(history: History, observed: Observed) -> list[str]:
    """Every rule that was broken; empty = nothing lost, nothing twice, money conserved, nodes agree."""
    problems = list(history.contradictions)
    for sent in history.sent:
        problems += _transfer_problems(sent, observed.transfers.get(sent.id))
    problems += _statement_problems(history, observed)
    problems += _balance_problems(history, observed)
    problems += observed.node_problems
    return problems


def _transfer_problems(sent: Sent, found: Found | None) -> list[str]:
    name = f"transfer {sent.id:032x}"
    if found is None:
        return [f"{name}: was not looked up"]
    if found.status is None:
        return [] if sent.status is None else [f"{name}: was acknowledged and is lost"]
    problems = []
    if sent.status is not None and found.status != sent.status:
        problems.append(f"{name}: was acknowledged with status {sent.status}, is stored with {found.status}")
    if sent.status is not None and found.position != sent.position:
        problems.append(f"{name}: was acknowledged at position {sent.position}, is stored at {found.position}")
    stored = (found.debit_account, found.credit_account, found.amount_minor)
    if stored != (sent.debit_account, sent.credit_account, sent.amount_minor):
        problems.append(f"{name}: its accounts or amount are not those that were sent")
    return problems


def _statement_problems(history: History, observed: Observed) -> list[str]:
    """Each applied transfer is once in the statements of both its accounts, and nothing else is there."""
    problems = []
    expected: dict[int, set[int]] = {account: set() for account in observed.statements}
    for sent in history.sent:
        found = observed.transfers.get(sent.id)
        if found is None or found.status != STATUS_OK:
            continue
        for account in (sent.debit_account, sent.credit_account):
            expected.setdefault(account, set()).add(sent.id)
    for account, wanted in expected.items():
        counts = Counter(observed.statements.get(account, []))
        problems += [f"account {account}: transfer {id_:032x} is there {n} times" for id_, n in counts.items() if n > 1]
        problems += [f"account {account}: transfer {id_:032x} is missing" for id_ in wanted - counts.keys()]
        problems += [f"account {account}: transfer {id_:032x} was never sent" for id_ in counts.keys() - wanted]
    return problems


def _balance_problems(history: History, observed: Observed) -> list[str]:
    balances = dict(observed.opening_minor)
    for sent in history.sent:
        found = observed.transfers.get(sent.id)
        if found is not None and found.status == STATUS_OK:
            balances[sent.debit_account] = balances.get(sent.debit_account, 0) - sent.amount_minor
            balances[sent.credit_account] = balances.get(sent.credit_account, 0) + sent.amount_minor
    problems = [
        f"account {account}: has {observed.balances_minor.get(account)}, its transfers make {minor}"
        for account, minor in balances.items()
        if observed.balances_minor.get(account) != minor
    ]
    bound = {a: minor for a, minor in observed.balances_minor.items() if a not in observed.may_go_below}
    below = [account for account, minor in bound.items() if minor < 0]
    problems += [f"account {account}: went below zero" for account in below]
    if observed.all_balances_minor != 0:
        problems.append(f"money is not conserved: all balances together are {observed.all_balances_minor}, not 0")
    return problems
