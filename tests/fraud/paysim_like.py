"""PaySim-format files made for the tests: customers with habits, and fraud of a stated kind among them.

Kinds: `takeover` (shares of the balance go to mules, who cash out), `same_step` (a take-over and its cash-out in one
step), `mimic` (the stolen amounts are the victim's usual ones; only the mules' side is odd), `burst` (several small
thefts within hours), `unique` (every origin's name is used once, as in the Kaggle file), `classic` (PaySim's own: the
whole balance, in one step: leaks on purpose).

    python -m tests.fraud.paysim_like takeover 4000 30 1 out.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HEADER = (
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,"
    "nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud"
)
HOURS = np.array([3.3, 1.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.4, 1, 1.4, 1.2, 1.6, 2.5, 3.6, 4.4, 4.4, 6.1, 7, 10.6, 12.9,
                  12.9, 10.2, 8.5, 6.5])  # fmt: skip
HOURS /= HOURS.sum()


class Town:
    def __init__(self, kind: str, customers: int, days: int, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.kind, self.days, self.customers = kind, days, customers
        self.names = [f"C{number}" for number in rng.choice(2 * 10**9, customers + 300, replace=False)]
        self.agents = list(range(customers, customers + 100))
        self.shops = [f"M{number}" for number in rng.choice(2 * 10**9, 200, replace=False)]
        self.typical = np.exp(rng.normal(9.5, 1.0, customers))
        self.friends = [rng.integers(0, customers, rng.integers(2, 8)) for _ in range(customers)]
        self.balance: dict[str, float] = {}
        for number, name in enumerate(self.names):
            self.balance[name] = float(self.typical[number] * rng.uniform(0, 8)) if number < customers else 1e9
        self.events: list[tuple[int, float, str, int, object, float, float, int]] = []
        self.rows: list[str] = []

    def add(self, step: float, kind: str, who: int, whom: object, amount: float, share: float = 0, fraud: int = 0):
        if 0 <= step < self.days * 24:
            self.events.append((int(step), self.rng.random(), kind, who, whom, amount, share, fraud))

    def agent(self) -> int:
        return int(self.rng.choice(self.agents))


def write(path: Path, kind: str, customers: int, days: int, seed: int, *, flagged: bool = True) -> int:
    """Returns how many frauds the file holds."""
    town = Town(kind, customers, days, seed)
    for customer in range(customers):
        _live(town, customer)
    _steal(town)
    frauds = _run(town)
    header = HEADER if flagged else HEADER.rsplit(",", 1)[0]
    rows = town.rows if flagged else [row.rsplit(",", 1)[0] for row in town.rows]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return frauds


def _live(town: Town, customer: int) -> None:
    rng, typical = town.rng, town.typical[customer]
    hours = HOURS * rng.gamma(2, 1, 24)
    hours /= hours.sum()
    for _ in range(rng.poisson(0.7 * town.days * rng.lognormal(-0.2, 0.6))):
        step = rng.integers(0, town.days) * 24 + rng.choice(24, p=hours)
        amount, what = typical * rng.lognormal(0, 0.7), rng.random()
        if rng.random() < 0.3:
            amount = round(amount, -2) or 100.0
        if what < 0.3:
            town.add(step, "PAYMENT", customer, str(rng.choice(town.shops)), amount * 0.3)
        elif what < 0.55:
            stranger = rng.random() < 0.2
            friend = rng.integers(0, town.customers) if stranger else rng.choice(town.friends[customer])
            empties = rng.random() < 0.04
            town.add(step, "TRANSFER", customer, int(friend), amount, rng.uniform(0.5, 1) if empties else 0)
            if rng.random() < 0.15:
                town.add(step + rng.integers(0, 5), "CASH_OUT", int(friend), town.agent(), 0, rng.uniform(0.5, 1))
        elif what < 0.75:
            town.add(step, "CASH_OUT", customer, town.agent(), amount)
        elif what < 0.77:
            town.add(step, "DEBIT", customer, town.agent(), amount * 0.1)
        else:
            town.add(step, "CASH_IN", customer, town.agent(), amount * 2.5)


def _steal(town: Town) -> None:
    rng, kind = town.rng, town.kind
    mules = list(rng.choice(town.customers, max(5, town.customers // 80), replace=False))
    for _ in range(max(30, int(town.customers * town.days * 0.0008))):
        victim = int(rng.integers(0, town.customers))
        step = int(rng.integers(24, town.days * 24))
        if kind != "classic" and rng.random() < 0.6:
            step = step // 24 * 24 + int(rng.choice(24, p=HOURS))
        mule = int(rng.choice(mules[: len(mules) // 2])) if rng.random() < 0.5 else int(rng.integers(0, town.customers))
        if mule == victim:
            continue
        if kind == "classic":
            town.add(step, "TRANSFER", victim, mule, 0, 1.0, 2)
        elif kind == "mimic":
            town.add(step, "TRANSFER", victim, mule, town.typical[victim] * rng.lognormal(0.2, 0.7), 0, 1)
        elif kind == "burst":
            for _ in range(int(rng.integers(3, 8))):
                town.add(step + int(rng.integers(0, 3)), "TRANSFER", victim, mule, town.typical[victim] * 0.4, 0, 1)
        else:
            for _ in range(int(rng.integers(1, 4))):
                town.add(step, "TRANSFER", victim, mule, 0, rng.uniform(0.25, 0.95), 1)
                step += 0 if kind == "same_step" else int(rng.integers(0, 2))
        if kind != "classic":
            for _ in range(int(rng.integers(1, 3))):
                step += 0 if kind == "same_step" else int(rng.integers(0, 4))
                town.add(step, "CASH_OUT", mule, town.agent(), 0, rng.uniform(0.4, 0.98), 1)


def _run(town: Town) -> int:
    frauds, fresh = 0, 0
    for step, _, kind, who, whom, amount, share, fraud in sorted(town.events, key=lambda event: event[:2]):
        name, other = town.names[who], whom if isinstance(whom, str) else town.names[int(str(whom))]
        if name == other:
            continue
        balance, there = town.balance[name], town.balance.get(other, 0.0)
        amount = round(balance * share, 2) if share else round(amount, 2)
        if kind != "CASH_IN" and (amount > balance or amount <= 1):
            continue
        shown = name
        if town.kind == "unique":
            fresh += 1
            shown = f"C{10**10 + fresh * 7919 % 10**9}"
        sign = 1 if kind == "CASH_IN" else -1
        town.balance[name] = balance + sign * amount
        if not other.startswith("M"):
            town.balance[other] = there - sign * amount
        after = 0.0 if other.startswith("M") else town.balance[other]
        flag = 1 if kind == "TRANSFER" and amount > 200_000 else 0
        town.rows.append(
            f"{step},{kind},{amount:.2f},{shown},{balance:.2f},{town.balance[name]:.2f},{other},{there:.2f},"
            f"{after:.2f},{int(fraud > 0)},{flag}"
        )
        frauds += fraud > 0
        if fraud == 2:  # PaySim's own: the mule cashes all of it out in the very next row
            town.rows.append(
                f"{step},CASH_OUT,{amount:.2f},{other},{amount:.2f},0.00,{town.names[town.agents[0]]},0.00,0.00,1,0"
            )
            town.balance[other] -= amount
            frauds += 1
    return frauds


if __name__ == "__main__":
    what, customers, days, seed, target = sys.argv[1:6]
    print(write(Path(target), what, int(customers), int(days), int(seed)), "frauds")
