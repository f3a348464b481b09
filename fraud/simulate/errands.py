"""Honest payments in quick succession, and honest strangers who pay one account: what a careless model takes for a
drain or for a mule. Shopping trips, bills on pay day, a new customer who tries things out, airtime again and again, a
village where everything is new, savings groups, people who sell by phone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fraud.simulate.town import (
    AIRTIME,
    BILL,
    DAY_NS,
    FUNDING,
    HOUR_NS,
    HOUR_SHARE,
    MINUTE_NS,
    OF_LAST_IN,
    SECOND_NS,
    SEND,
    SHARE,
    START_NS,
    TILL,
    Ints,
    Town,
    rounded,
)  # fmt: skip

# Shares of: to people, to shops, bills, airtime; the rest is cash at an agent.
Mix = tuple[float, float, float, float]
USUAL: Mix = (0.38, 0.20, 0.08, 0.16)
SHOPPING: Mix = (0.13, 0.50, 0.12, 0.20)
BILLS: Mix = (0.20, 0.08, 0.57, 0.12)
TRYING: Mix = (0.30, 0.25, 0.20, 0.23)
CALLING: Mix = (0.0, 0.0, 0.0, 1.0)
Pay = Callable[[Town, Ints, Ints, Mix], None]  # honest.pay
VILLAGE_EVERY_DAYS = 3
VILLAGE_PEOPLE, VILLAGE_SHOPS, VILLAGE_BILLERS = 24, 3, 1


def run(town: Town, pay: Pay, trips_per_day: float) -> None:
    """`trips_per_day`: of one customer."""
    rng, everybody = town.rng, np.arange(1, town.customers + 1)
    trips = rng.poisson(town.customers * town.days * trips_per_day)
    who = rng.choice(everybody, trips)
    at_ns = _moments(town, trips)
    what = rng.random(trips)
    for mix, begin, end, stops in ((SHOPPING, 0.0, 0.55, 4), (BILLS, 0.55, 0.75, 4), (CALLING, 0.75, 1.0, 5)):
        chosen = (what >= begin) & (what < end) & (town.joined_ns[who] < at_ns - HOUR_NS)
        pay(town, *_stops(town, who[chosen], at_ns[chosen], stops), mix)
    _groups(town)
    _sellers(town)


def try_things_out(town: Town, who: Ints, at_ns: Ints, pay: Pay) -> None:
    """The first minutes after the first money came, for those who have just joined."""
    new = (town.joined_ns[who] > START_NS) & (town.rng.random(len(who)) < 0.7)
    pay(town, *_stops(town, who[new], at_ns[new] + 20 * SECOND_NS, 5), TRYING)


def _moments(town: Town, count: int) -> Ints:
    hours = town.rng.choice(24, count, p=HOUR_SHARE)
    days = town.rng.integers(0, town.days, count)
    return town.local_ns(days, hours) + town.rng.integers(0, HOUR_NS, count)


def _stops(town: Town, who: Ints, at_ns: Ints, mean: int) -> tuple[Ints, Ints]:
    """Each person two or more times, seconds to minutes apart; a machine-quick hand now and then."""
    rng = town.rng
    counts = 2 + rng.poisson(mean - 2, len(who))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    pace = np.repeat(rng.choice([2.0, 20.0, 60.0, 240.0], len(who), p=[0.15, 0.25, 0.35, 0.25]), counts)
    gaps = (pace * rng.lognormal(0, 0.8, len(pace)) * SECOND_NS).astype(np.int64)
    passed = np.cumsum(gaps)
    return np.repeat(who, counts), np.repeat(at_ns, counts) + passed - passed[first]


def found_villages(town: Town) -> None:
    """Every few days a village gets its agent: people, shops and a biller join within the hour and use it at once."""
    rng = town.rng
    people, shops = _new(town, np.arange(1, town.customers + 1)), _new(town, town.merchants)
    billers = _new(town, town.billers)
    for day in range(1, town.days - 1, VILLAGE_EVERY_DAYS):
        if len(people) < VILLAGE_PEOPLE or len(shops) < VILLAGE_SHOPS or len(billers) < VILLAGE_BILLERS:
            return
        now_ns = int(town.local_ns(day, rng.choice(24, p=HOUR_SHARE)))
        parts = []
        for pool, size in ((people, VILLAGE_PEOPLE), (shops, VILLAGE_SHOPS), (billers, VILLAGE_BILLERS)):
            chosen = pool[:size]
            town.joined_ns[chosen] = now_ns + rng.integers(0, HOUR_NS, size)
            parts.append(chosen)
        people, shops, billers = people[VILLAGE_PEOPLE:], shops[VILLAGE_SHOPS:], billers[VILLAGE_BILLERS:]
        _first_day(town, *parts)


def _new(town: Town, accounts: Ints) -> Ints:
    return town.rng.permutation(accounts[town.joined_ns[accounts] > START_NS])


def _first_day(town: Town, people: Ints, shops: Ints, billers: Ints) -> None:
    rng = town.rng
    begins_ns = int(max(town.joined_ns[part].max() for part in (people, shops, billers)))
    starts_ns = begins_ns + (rng.lognormal(np.log(300), 1.5, len(people)) * SECOND_NS).astype(np.int64)
    amounts = rounded(rng, town.typical[people] * rng.uniform(4, 20, len(people)))
    town.add_many(starts_ns - SECOND_NS, town.issuer, people, FUNDING, amounts)
    who, at_ns = _stops(town, people, starts_ns, 5)
    amounts = rounded(rng, town.typical[who] * rng.lognormal(0.1, 0.8, len(who)))
    what = rng.random(len(who))
    for begin, end, payees, kind in (
        (0.0, 0.3, people, SEND), (0.3, 0.6, shops, TILL), (0.6, 0.8, billers, BILL),
        (0.8, 1.0, np.array([town.airtime]), AIRTIME),
    ):  # fmt: skip
        mask = (what >= begin) & (what < end)
        paid = np.minimum(amounts[mask], 100_000) if kind == AIRTIME else amounts[mask]
        town.add_many(at_ns[mask], who[mask], rng.choice(payees, mask.sum()), kind, paid)


def _groups(town: Town) -> None:
    """A savings group meets: its members pay the treasurer within the hour, and the pot goes to the one whose turn
    it is, or to an agent."""
    rng = town.rng
    for _ in range(max(1, town.customers // 250)):
        treasurer, size = town.customer(), int(rng.integers(5, 16))
        members = rng.integers(1, town.customers + 1, size)
        share = int(rounded(rng, town.typical[treasurer] * rng.uniform(0.3, 2)))
        every = int(rng.choice([7, 14, 30]))
        for day in range(int(rng.integers(1, every + 1)), town.days, every):
            at_ns = int(town.local_ns(day, int(rng.integers(9, 21))))
            there = members[(town.joined_ns[members] < at_ns) & (rng.random(size) < 0.9)]
            times = at_ns + (rng.exponential(25, len(there)) * MINUTE_NS).astype(np.int64)
            town.add_many(times, there, treasurer, SEND, share)
            ends_ns = at_ns + int(rng.lognormal(np.log(80), 0.6) * MINUTE_NS)
            to = int(rng.choice(members)) if rng.random() < 0.7 else int(town.home[treasurer, 0])
            town.add(ends_ns, treasurer, to, SEND, rng.uniform(0.5, 1.0) * share * max(1, len(there)))


def _sellers(town: Town) -> None:
    """Some sell from home, to strangers, against money to their own number; then they pay for new goods."""
    rng = town.rng
    sellers = rng.choice(np.arange(1, town.customers + 1), max(2, town.customers // 200), replace=False)
    for seller in sellers.tolist():
        begins = max(0, (int(town.joined_ns[seller]) - START_NS) // DAY_NS + 1)
        price = town.typical[seller] * rng.uniform(0.2, 2)
        supplier = town.customer()
        for day in range(begins, town.days):
            count = int(rng.poisson(3))
            at_ns = town.local_ns(day, 8) + (rng.random(count) * 12 * HOUR_NS).astype(np.int64)
            payers = rng.integers(1, town.customers + 1, count)
            town.add_many(at_ns, payers, seller, SEND, rounded(rng, price * rng.lognormal(0, 0.4, count)))
            if count and rng.random() < 0.4:
                to, part = (supplier, 0.7) if rng.random() < 0.5 else (int(town.home[seller, 0]), 0.95)
                mode, most = (SHARE, part) if rng.random() < 0.7 else (OF_LAST_IN, 1.0)
                town.add(float(town.local_ns(day, 21)), seller, to, SEND, rng.uniform(0.3, most) * 1_000_000, mode)
