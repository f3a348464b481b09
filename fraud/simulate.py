"""A seeded town of mobile-money users, with two kinds of crime in it, run through the nodes' own feature code.

First everybody's intentions are drawn (who, when, to whom, how much); then one compiled pass in time order keeps the
balances, reads the features before each payment and updates them after it, exactly as a node does.

Crimes, after fraud-facts: account take-over (often a new PIN, then the balance goes in one to five payments within half
an hour to one to four strangers, sometimes as airtime) and mule cash-out (an account that receives such money passes
it on to agents within minutes). Made hard on purpose: honest people too reset their PIN, empty their account on pay
day, cash out what they have just received, and pay strangers from accounts that are minutes old.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag, AccountKind
from node.ledger.statuses import PaymentKind, TransferCode

START_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00 UTC
HOUR_NS, DAY_NS, MINUTE_NS = f.HOUR_NS, 24 * f.HOUR_NS, 60_000_000_000
# Share of payments by hour of the day, local time (PaySim's aggregates of a real operator, fraud-facts section 1).
HOUR_SHARE = np.array(
    [3.3, 1.2, 0.28, 0.1, 0.1, 0.1, 0.2, 0.35, 0.95, 1.4, 1.2, 1.6, 2.5, 3.6, 4.4, 4.4, 6.1, 7.0, 10.6, 12.9, 12.9,
     10.2, 8.5, 6.5]
)  # fmt: skip
PAYMENTS_PER_DAY = 17.5 / 30  # an account (GSMA 2024)
EXACT, SHARE, PIN_RESET = 0, 1, 2  # how the amount is meant: minor units, a share of what is there, or no payment
HONEST, TAKEN_OVER, MULE = 0, 1, 2
FIELDS = 8  # time, payer, payee, kind, code, mode, amount (minor units or parts per million), label
SCORED_MIN_MINOR = 100


@dataclass(frozen=True, slots=True)
class History:
    """One row for each payment that was made, in time order."""

    features: npt.NDArray[np.float32]  # (n, FEATURE_COUNT)
    labels: npt.NDArray[np.int8]  # HONEST, TAKEN_OVER or MULE
    times_ns: npt.NDArray[np.int64]
    amounts_minor: npt.NDArray[np.int64]
    payers: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Town:
    rng: np.random.Generator
    customers: int
    days: int
    agents: npt.NDArray[np.int64]
    merchants: npt.NDArray[np.int64]
    billers: npt.NDArray[np.int64]
    airtime: int
    issuer: int
    joined_ns: npt.NDArray[np.int64]
    events: list[tuple[int, int, int, int, int, int, int, int]] = field(default_factory=list)

    @property
    def accounts_total(self) -> int:
        return self.issuer

    def add(self, at_ns: int, payer: int, payee: int, kind: int, mode: int, amount: int, label: int = HONEST) -> None:
        code = TransferCode.AIRTIME if kind == PaymentKind.BUY_AIRTIME else TransferCode.PRINCIPAL
        self.events.append((int(at_ns), int(payer), int(payee), int(kind), int(code), mode, int(amount), label))

    def cash_in(self, at_ns: int, agent: int, customer: int, amount_minor: int) -> None:
        self.events.append(
            (int(at_ns), int(agent), int(customer), 0, int(TransferCode.PRINCIPAL), EXACT, amount_minor, 0)
        )

    def agent(self) -> int:
        return int(self.rng.choice(self.agents))


def simulate(customers: int, days: int, seed: int) -> History:
    """Raises ValueError when the town would be too small to hold any crime."""
    if customers < 200 or days < 10:
        raise ValueError("a town needs at least 200 customers and 10 days")
    town = _found(customers, days, np.random.default_rng(seed))
    for customer in range(1, customers + 1):
        _live(town, customer)
    _crimes(town)
    events = np.array(sorted(town.events), dtype=np.int64)
    return _run(town, events[events[:, 0] < START_NS + days * DAY_NS])


def _found(customers: int, days: int, rng: np.random.Generator) -> _Town:
    counts = np.array([max(8, customers // 50), max(8, customers // 40), 8])
    edges = customers + 1 + np.concatenate([[0], np.cumsum(counts)])
    agents, merchants, billers = (np.arange(edges[k], edges[k + 1], dtype=np.int64) for k in range(3))
    # Three in four were there before; the rest join while we look.
    before = -rng.exponential(300, customers) - 1
    during = rng.uniform(0, days, customers)
    joined_days = np.where(rng.random(customers) < 0.75, before, during)
    joined_ns = START_NS + (joined_days * DAY_NS).astype(np.int64)
    airtime = int(edges[-1])
    return _Town(rng, customers, days, agents, merchants, billers, airtime, airtime + 1, joined_ns)


def _live(town: _Town, customer: int) -> None:
    """One honest life: deposits, salary, friends, shops, bills, airtime, cash."""
    rng = town.rng
    start_ns = max(START_NS, int(town.joined_ns[customer - 1]))
    days = (START_NS + town.days * DAY_NS - start_ns) / DAY_NS
    typical = float(np.exp(rng.normal(np.log(60_000), 0.9)))  # cents
    hours = HOUR_SHARE * rng.gamma(2.0, 1.0, 24)
    hours /= hours.sum()
    friends = rng.integers(1, town.customers + 1, rng.integers(2, 9))
    friends = friends[friends != customer]
    shops, biller = rng.choice(town.merchants, 3), int(rng.choice(town.billers))
    first_ns = start_ns + int(rng.exponential(30) * MINUTE_NS)
    town.cash_in(first_ns, town.agent(), customer, _round(rng, typical * rng.uniform(2, 20)))
    cashes_out_at_once = rng.random() < 0.3
    count = rng.poisson(PAYMENTS_PER_DAY * days * rng.lognormal(-0.3, 0.8))
    moments = start_ns + (np.floor(rng.uniform(0, max(days, 0.01), count)) * DAY_NS).astype(np.int64)
    moments += rng.choice(24, count, p=hours) * HOUR_NS - f.UTC_OFFSET_H * HOUR_NS + rng.integers(0, HOUR_NS, count)
    for at_ns in np.sort(moments[moments > first_ns]):
        _pay(town, customer, int(at_ns), typical, friends, shops, biller)
        if rng.random() < 0.35:
            _receive(town, customer, int(at_ns), typical, cashes_out_at_once)
    if rng.random() < 0.02 * days / 30 + 0.03:
        town.add(start_ns + int(rng.uniform(0.05, 1) * days * DAY_NS), customer, 0, 0, PIN_RESET, 0)
    _pay_days(town, customer, start_ns, typical)


def _pay(town: _Town, customer: int, at_ns: int, typical: float, friends: Any, shops: Any, biller: int) -> None:
    rng = town.rng
    amount = _round(rng, typical * rng.lognormal(0, 0.8))
    what = rng.random()
    if what < 0.38 and len(friends):
        stranger = rng.random() < 0.18
        payee = int(rng.integers(1, town.customers + 1)) if stranger else int(rng.choice(friends))
        if payee != customer:
            town.add(at_ns, customer, payee, PaymentKind.SEND_MONEY, EXACT, amount)
    elif what < 0.58:
        shop = int(rng.choice(shops)) if rng.random() < 0.8 else int(rng.choice(town.merchants))
        town.add(at_ns, customer, shop, PaymentKind.PAY_TILL, EXACT, amount)
    elif what < 0.66:
        town.add(at_ns, customer, biller, PaymentKind.PAY_BILL, EXACT, amount)
    elif what < 0.82:
        town.add(
            at_ns,
            customer,
            town.airtime,
            PaymentKind.BUY_AIRTIME,
            EXACT,
            int(rng.choice([2_000, 5_000, 10_000, 25_000])),
        )
    else:
        town.add(at_ns, customer, town.agent(), PaymentKind.SEND_MONEY, EXACT, amount)


def _receive(town: _Town, customer: int, near_ns: int, typical: float, cashes_out_at_once: bool) -> None:
    rng = town.rng
    at_ns = near_ns - int(rng.uniform(0, 2) * HOUR_NS)
    town.cash_in(at_ns, town.agent(), customer, _round(rng, typical * rng.lognormal(0.5, 0.8)))
    if cashes_out_at_once and rng.random() < 0.5:
        later_ns = at_ns + int(rng.lognormal(np.log(25), 1.0) * MINUTE_NS)
        share = int(rng.uniform(0.6, 1.0) * 1_000_000)
        town.add(later_ns, customer, town.agent(), PaymentKind.SEND_MONEY, SHARE, share)


def _pay_days(town: _Town, customer: int, start_ns: int, typical: float) -> None:
    """Half are paid once a month; of those some send nearly all of it on within the day: rent, family, savings."""
    rng = town.rng
    if rng.random() < 0.5:
        return
    spends_all = rng.random() < 0.25
    for month in range(town.days // 30 + 1):
        at_ns = START_NS + int((month * 30 + rng.uniform(-1, 2)) * DAY_NS) + 9 * HOUR_NS
        if at_ns < start_ns:
            continue
        town.cash_in(at_ns, int(town.merchants[customer % len(town.merchants)]), customer, _round(rng, typical * 15))
        if spends_all:
            payee = int(rng.integers(1, town.customers + 1))
            for _ in range(int(rng.integers(1, 4))):
                at_ns += int(rng.exponential(60) * MINUTE_NS)
                if payee != customer:
                    share = int(rng.uniform(0.3, 0.95) * 1_000_000)
                    town.add(at_ns, customer, payee, PaymentKind.SEND_MONEY, SHARE, share)
                payee = int(rng.integers(1, town.customers + 1))


def _crimes(town: _Town) -> None:
    """About one customer in a hundred loses an account in two months; a ring of mules takes the money."""
    rng = town.rng
    recruited = rng.choice(np.arange(1, town.customers + 1), max(4, town.customers // 200), replace=False)
    joined_days = (town.joined_ns - START_NS) / DAY_NS
    young = 1 + np.flatnonzero(joined_days > 0)
    hired = rng.choice(young, min(len(young), max(6, town.customers // 120)), replace=False)
    mules = np.concatenate([recruited, hired])
    for _ in range(max(6, int(town.customers * 0.00025 * town.days))):
        victim = int(rng.integers(1, town.customers + 1))
        at_ns = START_NS + int(rng.uniform(3, town.days) * DAY_NS)
        hour = int(rng.choice(24, p=HOUR_SHARE / HOUR_SHARE.sum())) if rng.random() < 0.6 else int(rng.integers(0, 24))
        at_ns += hour * HOUR_NS
        there = mules[(town.joined_ns[mules - 1] < at_ns - HOUR_NS) & (mules != victim)]
        if len(there) and town.joined_ns[victim - 1] < at_ns - 2 * DAY_NS:
            _take_over(town, victim, there, at_ns)


def _take_over(town: _Town, victim: int, mules: Any, at_ns: int) -> None:
    rng = town.rng
    if rng.random() < 0.6:
        town.add(at_ns, victim, 0, 0, PIN_RESET, 0)
        at_ns += int(rng.uniform(5, 360) * MINUTE_NS)
    ring = rng.choice(mules, min(len(mules), int(rng.integers(1, 5))), replace=False)
    paid_at: dict[int, int] = {}
    for number in range(int(rng.integers(1, 6))):
        at_ns += int(rng.exponential(6) * MINUTE_NS)
        share = int(rng.uniform(0.25, 0.98) * 1_000_000)
        if number and rng.random() < 0.15:
            town.add(at_ns, victim, town.airtime, PaymentKind.BUY_AIRTIME, SHARE, share // 4, TAKEN_OVER)
            continue
        mule = int(rng.choice(ring))
        town.add(at_ns, victim, mule, PaymentKind.SEND_MONEY, SHARE, share, TAKEN_OVER)
        paid_at[mule] = at_ns
    for mule, paid_ns in paid_at.items():
        _cash_out(town, mule, paid_ns)


def _cash_out(town: _Town, mule: int, at_ns: int) -> None:
    rng = town.rng
    for _ in range(int(rng.integers(1, 4))):
        at_ns += int(rng.lognormal(np.log(15), 0.9) * MINUTE_NS)
        share = int(rng.uniform(0.4, 1.0) * 1_000_000)
        town.add(at_ns, mule, town.agent(), PaymentKind.SEND_MONEY, SHARE, share, MULE)


def _round(rng: np.random.Generator, amount: float) -> int:
    """People say round amounts: whole shillings always, tens or hundreds often."""
    unit = (100, 1_000, 5_000, 10_000)[int(rng.choice(4, p=[0.2, 0.2, 0.25, 0.35]))]
    return max(1_000, min(25_000_000, int(amount) // unit * unit))


def _run(town: _Town, events: npt.NDArray[np.int64]) -> History:
    columns = np.zeros((town.accounts_total + 1, COLUMN_COUNT), dtype=np.int64)
    columns[:, f.LEDGER] = 404
    columns[1 : town.customers + 1, f.KIND] = AccountKind.CUSTOMER
    columns[1 : town.customers + 1, f.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    columns[1 : town.customers + 1, f.CREATED] = town.joined_ns
    columns[1 : town.customers + 1, f.PIN_SET] = town.joined_ns
    for accounts, kind in ((town.agents, AccountKind.AGENT), (town.merchants, AccountKind.TILL)):
        columns[accounts, f.KIND] = kind
        columns[accounts, f.CREATED] = START_NS - 400 * DAY_NS
    columns[town.billers, f.KIND] = AccountKind.PAYBILL
    columns[town.billers, f.CREATED] = START_NS - 900 * DAY_NS
    columns[town.airtime, f.KIND] = AccountKind.AIRTIME
    columns[town.airtime, f.CREATED] = START_NS - 900 * DAY_NS
    rows = np.zeros((len(events), f.FEATURE_COUNT), dtype=np.float32)
    facts = np.zeros((len(events), 4), dtype=np.int64)
    made = int(_replay(columns, events, rows, facts))
    rows, facts = rows[:made], facts[:made]
    return History(rows, facts[:, 0].astype(np.int8), facts[:, 1].copy(), facts[:, 2].copy(), facts[:, 3].copy())


@numba.njit(cache=True)
def _replay(columns: Any, events: Any, rows: Any, facts: Any) -> int:
    """The node's order of things: features first, then the money, then the features' update."""
    made = 0
    one = np.zeros(1, dtype=np.int64)
    two = np.zeros(1, dtype=np.int64)
    three = np.zeros(1, dtype=np.int64)
    four = np.zeros(1, dtype=np.int64)
    for i in range(len(events)):
        now_ns, payer, payee, kind = events[i, 0], events[i, 1], events[i, 2], events[i, 3]
        code, mode, amount, label = events[i, 4], events[i, 5], events[i, 6], events[i, 7]
        if mode == PIN_RESET:
            columns[payer, f.PIN_SET] = now_ns
            continue
        available = columns[payer, f.C_POSTED] - columns[payer, f.D_POSTED]
        if mode == SHARE:
            amount = available * amount // 1_000_000 // 100 * 100
        if kind != 0 and (amount > available or amount < SCORED_MIN_MINOR):
            continue
        if kind != 0:
            one[0], two[0], three[0], four[0] = payer, payee, amount, kind
            f.extract(columns, one, two, three, four, now_ns, rows[made : made + 1])
            facts[made, 0], facts[made, 1], facts[made, 2], facts[made, 3] = label, now_ns, amount, payer
            made += 1
        columns[payer, f.D_POSTED] += amount
        columns[payee, f.C_POSTED] += amount
        f.update(columns, payer, payee, amount, code, now_ns)
    return made
