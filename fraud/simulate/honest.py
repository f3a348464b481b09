"""Honest lives, drawn for the whole town at once; and the honest people who look like criminals for a moment.

For each crime there is a look-alike, so that no single rule separates them: people empty their own account, pay
strangers much, cash out what has just come, change their PIN, return a wrong transfer, deposit twice, top up a family.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud.simulate import errands
from fraud.simulate.town import (
    AIRTIME,
    BILL,
    DAY_NS,
    FUNDING,
    HOUR_NS,
    MINUTE_NS,
    OF_LAST_IN,
    PIN_RESET,
    SECOND_NS,
    SEND,
    SHARE,
    START_NS,
    TILL,
    Ints,
    Town,
    rounded,
)  # fmt: skip
from node.ledger import features as f

PAYMENTS_PER_DAY = 17.5 / 30  # an account (GSMA 2024)
ONE_BY_ONE, TRIPS = 0.76, 0.04  # of these: so many alone, and so many trips of several payments each
TOP_UPS = np.array([2_000, 5_000, 10_000, 25_000])


def live(town: Town) -> None:
    errands.found_villages(town)
    _fund(town, _households(town))
    who, at_ns = _occasions(town, PAYMENTS_PER_DAY * ONE_BY_ONE)
    pay(town, who, at_ns, errands.USUAL)
    errands.run(town, pay, PAYMENTS_PER_DAY * TRIPS)
    _deposit(town)
    _pay_days(town)
    _merchants(town)
    _look_alikes(town)


def _occasions(town: Town, per_day: float, spread: float = 0.8) -> tuple[Ints, Ints]:
    """(customers, moments): how often differs much between people, at which hours a little."""
    rng = town.rng
    everybody = np.arange(1, town.customers + 1)
    start_ns = np.maximum(START_NS, town.joined_ns[everybody]) + 2 * HOUR_NS
    days = np.maximum(0.0, (town.end_ns - start_ns) / DAY_NS)
    counts = rng.poisson(per_day * days * rng.lognormal(-spread * spread / 2, spread, town.customers))
    who = np.repeat(everybody, counts)
    day = np.floor(rng.random(len(who)) * days[who - 1]).astype(np.int64)
    hour = (town.hours[town.profile[who]] < rng.random(len(who))[:, None]).sum(axis=1)
    midnight = (start_ns[who - 1] - START_NS) // DAY_NS * DAY_NS + START_NS - f.UTC_OFFSET_H * HOUR_NS
    at_ns = midnight + day * DAY_NS + hour * HOUR_NS + rng.integers(0, HOUR_NS, len(who))
    lives = at_ns > start_ns[who - 1]
    return who[lives], at_ns[lives]


def _fund(town: Town, households: Ints) -> None:
    """Agents get float every few days; each customer begins with a deposit."""
    rng = town.rng
    for day in range(0, town.days, 3):
        at_ns = START_NS + day * DAY_NS + rng.integers(0, 6 * HOUR_NS, len(town.agents))
        town.add_many(at_ns, town.issuer, town.agents, FUNDING, rng.integers(20, 80, len(town.agents)) * 1_000_000)
    everybody = np.arange(1, town.customers + 1)
    first_ns = np.maximum(START_NS + 7 * HOUR_NS, town.joined_ns[everybody]) + rng.integers(0, HOUR_NS, town.customers)
    amounts = rounded(rng, town.typical[1:] * rng.uniform(2, 20, town.customers))
    town.add_many(first_ns, town.home[everybody, 0], everybody, SEND, amounts)
    _use_at_once(town, everybody, first_ns, 0.4)
    errands.try_things_out(town, everybody, first_ns, pay)
    payers, payees = households[:, 0], households[:, 1]
    at_ns = np.maximum(first_ns[payers - 1], town.joined_ns[payees])
    at_ns = at_ns + (rng.lognormal(np.log(90), 1.2, len(households)) * SECOND_NS).astype(np.int64)
    town.add_many(at_ns, payers, payees, SEND, rounded(rng, town.typical[payers] * rng.lognormal(0, 0.8, len(payers))))


def _use_at_once(town: Town, who: Ints, at_ns: Ints, share: float) -> None:
    """Money is often deposited for a payment that follows within a minute or two, at the same counter."""
    rng = town.rng
    uses = rng.random(len(who)) < share
    later_ns = at_ns[uses] + (rng.lognormal(np.log(60), 1.2, uses.sum()) * SECOND_NS).astype(np.int64)
    pay(town, who[uses], later_ns, errands.USUAL)


def _households(town: Town) -> Ints:
    """Pairs that open accounts one after the other: the first thing that one does is to pay the other. (n, 2)"""
    rng = town.rng
    new = np.flatnonzero(town.joined_ns[1 : town.customers + 1] > START_NS) + 1
    pairs = new[: len(new) // 2 * 2].reshape(-1, 2)
    pairs = pairs[rng.random(len(pairs)) < 0.5]
    town.joined_ns[pairs[:, 1]] = town.joined_ns[pairs[:, 0]] + rng.integers(10, 900, len(pairs)) * SECOND_NS
    return pairs


def pay(town: Town, who: Ints, at_ns: Ints, mix: errands.Mix) -> None:
    """One payment for each person and moment: to friends, now and then to strangers, at shops, to billers."""
    rng = town.rng
    amounts = rounded(rng, town.typical[who] * rng.lognormal(0, 0.8, len(who)))
    what = rng.random(len(who))
    strangers = rng.random(len(who)) < 0.18
    friends = town.friends[who, rng.integers(0, 8, len(who)) * rng.integers(0, 8, len(who)) // 7 % 8]
    payees = np.where(strangers, rng.integers(1, town.customers + 1, len(who)), friends)
    usual_shop = town.merchants[(who * 7 + rng.integers(0, 3, len(who))) % len(town.merchants)]
    shops = np.where(rng.random(len(who)) < 0.8, usual_shop, rng.choice(town.merchants, len(who)))
    shops = np.where(town.joined_ns[shops] < at_ns, shops, town.merchants[0])
    usual_biller = town.billers[who % len(town.billers)]
    billers = np.where(rng.random(len(who)) < 0.6, usual_biller, rng.choice(town.billers, len(who)))
    billers = np.where(town.joined_ns[billers] < at_ns, billers, town.billers[0])
    agents = town.home[who, rng.integers(0, 3, len(who))]
    people, shop, bill, airtime = np.cumsum(mix)
    parts: list[tuple[Any, Any, int, Any]] = [
        (what < people, payees, SEND, amounts),
        ((what >= people) & (what < shop), shops, TILL, amounts),
        ((what >= shop) & (what < bill), billers, BILL, amounts),
        ((what >= bill) & (what < airtime), town.airtime, AIRTIME, rng.choice(TOP_UPS, len(who))),
        (what >= airtime, agents, SEND, amounts),
    ]
    for mask, payee, kind, amount in parts:
        town.add_many(at_ns[mask], who[mask], payee if np.isscalar(payee) else payee[mask], kind, amount[mask])


def _deposit(town: Town) -> None:
    """Cash comes in at the usual agents; some people take most of it out again within the hour, habitually."""
    rng = town.rng
    who, at_ns = _occasions(town, PAYMENTS_PER_DAY * 0.38)
    agents = np.where(rng.random(len(who)) < 0.85, town.home[who, 0], rng.choice(town.agents, len(who)))
    amounts = rounded(rng, town.typical[who] * rng.lognormal(0.8, 0.8, len(who)))
    town.add_many(at_ns, agents, who, SEND, amounts)
    _use_at_once(town, who, at_ns, 0.3)
    twice = rng.random(len(who)) < 0.03  # forgot something: a second deposit minutes later
    town.add_many(
        at_ns[twice] + rng.integers(1, 40, twice.sum()) * MINUTE_NS, agents[twice], who[twice], SEND,
        rounded(rng, amounts[twice] * rng.uniform(0.3, 1.2, twice.sum())),
    )  # fmt: skip
    at_once = ((who * 2_654_435_761) % 100 < 25) & (rng.random(len(who)) < 0.5)
    later_ns = at_ns[at_once] + (rng.lognormal(np.log(25), 1.0, at_once.sum()) * MINUTE_NS).astype(np.int64)
    shares = rng.integers(600_000, 1_000_000, at_once.sum())
    town.add_many(later_ns, who[at_once], town.home[who[at_once], 1], SEND, shares, SHARE)


def _pay_days(town: Town) -> None:
    """Half are paid once a month; of those some send nearly all of it on within the day: rent, family, savings."""
    rng = town.rng
    paid = np.flatnonzero(rng.random(town.customers) < 0.5) + 1
    spends_all = rng.random(len(paid)) < 0.25
    for month in range(town.days // 30 + 1):
        at_ns = START_NS + ((month * 30 + rng.uniform(-1, 2, len(paid))) * DAY_NS).astype(np.int64) + 6 * HOUR_NS
        there = town.joined_ns[paid] < at_ns
        town.add_many(at_ns[there], town.issuer, paid[there], FUNDING, rounded(rng, town.typical[paid[there]] * 15))
        spenders, moment = paid[there & spends_all], at_ns[there & spends_all]
        for _ in range(2):
            moment = moment + (rng.exponential(60, len(spenders)) * MINUTE_NS).astype(np.int64)
            payees = rng.integers(1, town.customers + 1, len(spenders))
            town.add_many(moment, spenders, payees, SEND, rng.integers(300_000, 950_000, len(spenders)), SHARE)


def _merchants(town: Town) -> None:
    """Shops take their money home every day or two; some send it on several times a day, as soon as it comes."""
    rng = town.rng
    owners = rng.integers(1, town.customers + 1, len(town.merchants))
    hasty = rng.random(len(town.merchants)) < 0.15
    for day in range(town.days):
        for usual_hour in (17, 11, 14):
            at_ns = (
                START_NS + day * DAY_NS + (rng.normal(usual_hour, 2, len(town.merchants)) * HOUR_NS).astype(np.int64)
            )
            sweeps = (rng.random(len(town.merchants)) < 0.5) & (hasty | (usual_hour == 17))
            shares = rng.integers(500_000, 1_000_000, len(town.merchants))
            town.add_many(at_ns[sweeps], town.merchants[sweeps], owners[sweeps], SEND, shares[sweeps], SHARE)


def _look_alikes(town: Town) -> None:
    per_month = town.customers * town.days / 30
    for act, monthly in (
        (_resets_the_pin, 0.02), (_empties_the_account, 0.02), (_pays_a_stranger_much, 0.03),
        (_returns_a_mistake, 0.008), (_tops_up_the_family, 0.01), (_is_helped_abroad, 0.008), (_moves_float, 0.002),
    ):  # fmt: skip
        for _ in range(int(town.rng.poisson(per_month * monthly))):
            act(town, town.customer(), town.moment(1.0))


def _resets_the_pin(town: Town, who: int, at_ns: int) -> None:
    """A forgotten PIN; the payment that was wanted follows, sometimes a large one."""
    town.add(at_ns, who, 0, FUNDING, 0, PIN_RESET)
    share = town.rng.uniform(0.1, 0.9) * 1_000_000
    town.add(at_ns + town.minutes(40), who, int(town.friends[who, 0]), SEND, share, SHARE)


def _empties_the_account(town: Town, who: int, at_ns: int) -> None:
    rng = town.rng
    for _ in range(int(rng.integers(1, 4))):
        at_ns += town.minutes(15)
        to = town.agent() if rng.random() < 0.5 else town.customer()
        town.add(at_ns, who, to, SEND, rng.uniform(0.6, 1.0) * 1_000_000, SHARE)


def _pays_a_stranger_much(town: Town, who: int, at_ns: int) -> None:
    """Rent, school fees, a second-hand phone."""
    rng = town.rng
    amount = rounded(rng, town.typical[who] * rng.uniform(2, 10))
    town.add(at_ns, town.issuer, who, FUNDING, amount * 1.2)
    town.add(at_ns + town.minutes(120), who, town.customer(), SEND, amount)


def _returns_a_mistake(town: Town, who: int, at_ns: int) -> None:
    """Somebody mistyped a number; the money goes back to whom it came from."""
    sender = town.customer()
    amount = rounded(town.rng, town.typical[sender] * town.rng.uniform(0.5, 3))
    town.add(at_ns, sender, who, SEND, amount)
    town.add(at_ns + town.minutes(25), who, sender, SEND, 1_000_000, OF_LAST_IN)


def _tops_up_the_family(town: Town, who: int, at_ns: int) -> None:
    for _ in range(int(town.rng.integers(3, 7))):
        at_ns += town.minutes(2)
        town.add(at_ns, who, town.airtime, AIRTIME, int(town.rng.choice(TOP_UPS)))


def _is_helped_abroad(town: Town, who: int, at_ns: int) -> None:
    """A relative deposits at an agent far away, and part of it is cashed at home."""
    rng = town.rng
    amount = rounded(rng, town.typical[who] * rng.uniform(1, 5))
    town.add(at_ns, town.agent(), who, SEND, amount)
    town.add(at_ns + town.minutes(90), who, int(town.home[who, 0]), SEND, rng.uniform(0.5, 1) * 1_000_000, SHARE)


def _moves_float(town: Town, _: int, at_ns: int) -> None:
    """Agents lend each other float in round pieces."""
    lender, borrower = town.agent(), town.agent()
    for _ in range(int(town.rng.integers(1, 4))):
        at_ns += town.minutes(8)
        town.add(at_ns, lender, borrower, SEND, int(town.rng.integers(2, 12)) * 500_000)
