"""Who lives in the simulated town, and the list of what they mean to do. Amounts are minor units of shillings.

An event is a row of int64: what becomes of it (is there enough money? what was the last receipt?) is settled in the
replay, where the balances are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger import features as f
from node.ledger.statuses import PaymentKind

START_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00 UTC
HOUR_NS, DAY_NS, MINUTE_NS, SECOND_NS = f.HOUR_NS, 24 * f.HOUR_NS, 60_000_000_000, 1_000_000_000
CUSTOMERS_MIN, DAYS_MIN = 200, 10
# Share of payments by hour of the day, local time (PaySim's aggregates of a real operator, fraud-facts section 1).
HOUR_SHARE = np.array(
    [3.3, 1.2, 0.28, 0.1, 0.1, 0.1, 0.2, 0.35, 0.95, 1.4, 1.2, 1.6, 2.5, 3.6, 4.4, 4.4, 6.1, 7.0, 10.6, 12.9, 12.9,
     10.2, 8.5, 6.5]
)  # fmt: skip
HOUR_SHARE = HOUR_SHARE / HOUR_SHARE.sum()
SEND, TILL, BILL, AIRTIME = (
    int(kind) for kind in (PaymentKind.SEND_MONEY, PaymentKind.PAY_TILL, PaymentKind.PAY_BILL, PaymentKind.BUY_AIRTIME)
)
FUNDING = 0  # not a payment that anybody scores: float for an agent, a salary
EXACT, SHARE, OF_LAST_IN, PIN_RESET = range(4)  # amount: minor units, or ppm of the balance, or ppm of the last receipt
TIME, PAYER, PAYEE, KIND, MODE, AMOUNT, LABEL, CASE = range(8)
FIELDS = 8

Ints = npt.NDArray[np.int64]


class Typology(IntEnum):
    HONEST = 0
    TAKE_OVER = 1  # SIM swap or stolen PIN, then the balance goes
    MULE = 2  # passes stolen money on, over one hop or two
    SOCIAL = 3  # the victim is talked into paying
    FAKE_REVERSAL = 4  # "returns" money that never came
    REAL_REVERSAL = 5  # returns stolen money that did come, to a third number
    SPLIT_DEPOSITS = 6  # an agent cuts a deposit into pieces for the commission
    DIRECT_DEPOSIT = 7  # an agent deposits into a stranger's account
    FAKE_TILL = 8  # customers pay a till that is nobody's shop
    AIRTIME_DRAIN = 9  # an account is emptied as airtime
    FLOAT_DRAIN = 10  # an agent's float goes after a faked confirmation


@dataclass(slots=True)
class Town:
    """Account numbers from 1: customers, then agents, merchants, billers, the airtime provider, the issuer."""

    rng: np.random.Generator
    customers: int
    days: int
    agents: Ints
    merchants: Ints
    billers: Ints
    airtime: int
    issuer: int
    joined_ns: Ints  # of each account; 0 is nobody's
    typical: npt.NDArray[np.float64]  # what a customer usually sends; 0 is nobody's
    home: Ints  # (customers + 1, 3): the agents that a customer uses
    hours: npt.NDArray[np.float64]  # (profiles, 24): shares, added up
    profile: Ints  # of a customer
    friends: Ints  # (customers + 1, 8)
    chunks: list[Ints] = field(default_factory=list)
    single: list[tuple[int, ...]] = field(default_factory=list)
    cases: int = 0

    @property
    def end_ns(self) -> int:
        return START_NS + self.days * DAY_NS

    def add_many(self, at_ns: Ints, payer: Any, payee: Any, kind: Any, amount: Any, mode: int = EXACT) -> None:
        """Honest events, all arguments (n,) or one for all."""
        rows = np.zeros((len(at_ns), FIELDS), dtype=np.int64)
        for column, values in ((TIME, at_ns), (PAYER, payer), (PAYEE, payee), (KIND, kind), (AMOUNT, amount)):
            rows[:, column] = values
        rows[:, MODE] = mode
        self.chunks.append(rows[rows[:, PAYER] != rows[:, PAYEE]])

    def add(
        self, at_ns: float, payer: int, payee: int, kind: int, amount: float, mode: int = EXACT, label: int = 0,
        case: int = 0,
    ) -> None:  # fmt: skip
        if payer != payee:
            self.single.append((int(at_ns), int(payer), int(payee), kind, mode, int(amount), label, case))

    def events(self) -> Ints:
        """In order of time; of equal times the earlier intention first."""
        rows = np.concatenate([*self.chunks, np.array(self.single, dtype=np.int64).reshape(-1, FIELDS)])
        rows = rows[(rows[:, TIME] >= START_NS) & (rows[:, TIME] < self.end_ns)]
        return rows[np.argsort(rows[:, TIME], kind="stable")]

    def moment(self, first_day: float = 3.0) -> int:
        """Any moment from a day on, at the hours of the town."""
        day = int(self.rng.uniform(first_day, self.days))
        hour = int(self.rng.choice(24, p=HOUR_SHARE)) - f.UTC_OFFSET_H
        return START_NS + day * DAY_NS + hour * HOUR_NS + int(self.rng.integers(0, HOUR_NS))

    @staticmethod
    def local_ns(day: Any, hour: Any) -> Any:
        """The moment at which this hour of this day (from 0) begins on the town's clocks."""
        return START_NS + (np.asarray(day, np.int64) * 24 + hour - f.UTC_OFFSET_H) * HOUR_NS

    def customer(self) -> int:
        return int(self.rng.integers(1, self.customers + 1))

    def agent(self) -> int:
        return int(self.rng.choice(self.agents))

    def minutes(self, mean: float) -> int:
        return int(self.rng.exponential(mean) * MINUTE_NS) + 1_000_000_000

    def case(self) -> int:
        self.cases += 1
        return self.cases


def found(customers: int, days: int, seed: int) -> Town:
    """Raises ValueError when the town would be too small to hold any crime."""
    if customers < CUSTOMERS_MIN or days < DAYS_MIN:
        raise ValueError(f"a town needs at least {CUSTOMERS_MIN} customers and {DAYS_MIN} days")
    rng = np.random.default_rng(seed)
    counts = np.array([max(12, customers // 50), max(16, customers // 30), max(8, customers // 300)])
    edges = customers + 1 + np.concatenate([[0], np.cumsum(counts)])
    agents, merchants, billers = (np.arange(edges[k], edges[k + 1], dtype=np.int64) for k in range(3))
    airtime = int(edges[-1])
    # Three in four were there before; the rest join while we look. So do one in four of the shops.
    joined_days = np.where(
        rng.random(airtime + 2) < 0.75, -rng.exponential(300, airtime + 2) - 1, rng.uniform(0, days, airtime + 2)
    )
    joined_days[agents] = -rng.uniform(30, 900, len(agents))
    joined_days[[edges[2], airtime, airtime + 1]] = -900  # one biller at least was always there
    hours = HOUR_SHARE * rng.gamma(2.0, 1.0, (64, 24))
    near = rng.integers(0, len(agents), customers + 1)
    return Town(
        rng=rng,
        customers=customers,
        days=days,
        agents=agents,
        merchants=merchants,
        billers=billers,
        airtime=airtime,
        issuer=airtime + 1,
        joined_ns=START_NS + (joined_days * DAY_NS).astype(np.int64),
        typical=np.exp(rng.normal(np.log(60_000), 0.9, customers + 1)),
        home=agents[(near[:, None] + np.arange(3)) % len(agents)],
        hours=np.cumsum(hours / hours.sum(axis=1, keepdims=True), axis=1),
        profile=rng.integers(0, 64, customers + 1),
        friends=rng.integers(1, customers + 1, (customers + 1, 8)),
    )


def rounded(rng: np.random.Generator, amounts: npt.NDArray[Any] | float) -> Any:
    """People say round amounts: whole shillings always, tens or hundreds often."""
    amounts = np.asarray(amounts, dtype=np.float64)
    unit = rng.choice([100, 1_000, 5_000, 10_000], size=amounts.shape, p=[0.2, 0.2, 0.25, 0.35])
    return np.clip(amounts // unit * unit, 1_000, 25_000_000).astype(np.int64)
