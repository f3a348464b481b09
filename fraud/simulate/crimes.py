"""Ten kinds of fraud, after fraud-facts section 3.2. Each incident is a case; each of its payments carries its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fraud.simulate.town import (
    AIRTIME,
    DAY_NS,
    FUNDING,
    HOUR_NS,
    MINUTE_NS,
    OF_LAST_IN,
    PIN_RESET,
    SEND,
    SHARE,
    START_NS,
    TILL,
    Ints,
    Town,
    Typology,
    rounded,
)  # fmt: skip

CASES_PER_CUSTOMER_MONTH = 0.012  # far above the field's, so that there is something to learn from
VICTIMS_OF_A_CALLER = 5  # on average; fan-in is 2 to 10 a day (fraud-facts section 3.2)
BAND_FLOORS = np.array([10_100, 50_100, 100_100, 150_100, 250_100, 350_100, 500_100])  # just above a commission's edge


@dataclass(slots=True)
class Underworld:
    mules: Ints  # recruited customers and young accounts opened for it
    collectors: Ints  # second hop
    tills: Ints  # young shops that sell nothing
    greedy_agents: Ints


def commit(town: Town) -> None:
    rng = town.rng
    young = 1 + np.flatnonzero(town.joined_ns[1 : town.customers + 1] > START_NS)
    recruited = rng.choice(np.arange(1, town.customers + 1), max(5, town.customers // 150), replace=False)
    hired = rng.choice(young, min(len(young), max(6, town.customers // 120)), replace=False)
    young_tills = town.merchants[town.joined_ns[town.merchants] > START_NS]
    world = Underworld(
        mules=np.concatenate([recruited, hired]),
        collectors=rng.choice(recruited, max(2, len(recruited) // 6), replace=False),
        tills=young_tills[: max(1, len(young_tills) // 8)],
        greedy_agents=rng.choice(town.agents, max(2, len(town.agents) // 12), replace=False),
    )
    total = max(60, int(town.customers * town.days / 30 * CASES_PER_CUSTOMER_MONTH))
    for crime, share in CRIMES:
        for _ in range(max(3, int(total * share))):
            crime(town, world, town.moment())


def _victim(town: Town, at_ns: int) -> int:
    """Somebody who has been there for two days at least."""
    while True:
        who = town.customer()
        if town.joined_ns[who] < at_ns - 2 * DAY_NS:
            return who


def _ring(town: Town, world: Underworld, at_ns: int, victim: int, most: int) -> Ints:
    there = world.mules[(town.joined_ns[world.mules] < at_ns - HOUR_NS) & (world.mules != victim)]
    return town.rng.choice(there, min(len(there), int(town.rng.integers(1, most + 1))), replace=False)


def _cash_out(town: Town, world: Underworld, mule: int, at_ns: int, case: int) -> None:
    """Within minutes, in pieces; every third time over a collector."""
    rng = town.rng
    if rng.random() < 0.3:
        collector = int(rng.choice(world.collectors))
        at_ns += town.minutes(12)
        town.add(at_ns, mule, collector, SEND, rng.uniform(0.7, 1.0) * 1_000_000, SHARE, Typology.MULE, case)
        mule = collector
    for _ in range(int(rng.integers(1, 4))):
        at_ns += int(rng.lognormal(np.log(15), 0.9) * MINUTE_NS)
        town.add(at_ns, mule, town.agent(), SEND, rng.uniform(0.4, 1.0) * 1_000_000, SHARE, Typology.MULE, case)


def _take_over(town: Town, world: Underworld, at_ns: int) -> None:
    rng, case, victim = town.rng, town.case(), _victim(town, at_ns)
    if rng.random() < 0.3:  # the field's cases came late in the evening
        at_ns = at_ns // DAY_NS * DAY_NS + int(rng.uniform(18, 24) * HOUR_NS)
    if rng.random() < 0.65:
        town.add(at_ns, victim, 0, FUNDING, 0, PIN_RESET)
        at_ns += int(rng.uniform(5, 360) * MINUTE_NS)
    ring = _ring(town, world, at_ns, victim, 4)
    paid_at: dict[int, int] = {}
    for number in range(int(rng.integers(1, 6))):
        at_ns += town.minutes(6)
        share = rng.uniform(0.25, 0.98) * 1_000_000
        if number and rng.random() < 0.15:
            town.add(at_ns, victim, town.airtime, AIRTIME, share / 4, SHARE, Typology.TAKE_OVER, case)
            continue
        mule = int(rng.choice(ring))
        town.add(at_ns, victim, mule, SEND, share, SHARE, Typology.TAKE_OVER, case)
        paid_at[mule] = at_ns
    for mule, paid_ns in paid_at.items():
        _cash_out(town, world, mule, paid_ns, case)


def _social(town: Town, world: Underworld, at_ns: int) -> None:
    """A caller works down a list of numbers for a day or two, always with the same mule's number. Each victim pays with
    an own phone, one to three times the usual; some do it again within the day."""
    rng = town.rng
    mule = int(_ring(town, world, at_ns, 0, 1)[0])
    for _ in range(int(rng.integers(2, 9))):
        case, victim = town.case(), _victim(town, at_ns)
        moment = at_ns
        for _ in range(1 + int(rng.random() < 0.3)):
            amount = rounded(rng, town.typical[victim] * rng.uniform(1, 3))
            town.add(moment, victim, mule, SEND, amount, label=Typology.SOCIAL, case=case)
            _cash_out(town, world, mule, moment, case)
            moment += town.minutes(400)
        at_ns += town.minutes(140)


def _fake_reversal(town: Town, world: Underworld, at_ns: int) -> None:
    """A faked message, sent to many, says that money came by mistake; those who believe it send it "back" soon."""
    rng = town.rng
    crook = int(_ring(town, world, at_ns, 0, 1)[0])
    told = int(rng.choice([1_000, 1_500, 2_000, 2_500, 3_000, 5_000, 8_630])) * 100
    for _ in range(int(rng.integers(2, 9))):
        case, victim = town.case(), _victim(town, at_ns)
        amount = min(told, int(town.typical[victim] * 6)) // 100 * 100
        moment = at_ns + town.minutes(50)
        town.add(moment, victim, crook, SEND, amount, label=Typology.FAKE_REVERSAL, case=case)
        _cash_out(town, world, crook, moment, case)


def _real_reversal(town: Town, world: Underworld, at_ns: int) -> None:
    """Stolen money does come, and nearly all of it is asked on to a third number half an hour later."""
    rng, case, victim = town.rng, town.case(), _victim(town, at_ns)
    robbed = _victim(town, at_ns)
    amount = rounded(rng, town.typical[victim] * rng.uniform(2, 12))
    town.add(at_ns, town.issuer, robbed, FUNDING, amount * 1.1)
    town.add(at_ns + MINUTE_NS, robbed, victim, SEND, amount, label=Typology.TAKE_OVER, case=case)
    at_ns += MINUTE_NS + town.minutes(30)
    third = int(_ring(town, world, at_ns, victim, 1)[0])
    share = rng.uniform(0.95, 1.0) * 1_000_000
    town.add(at_ns, victim, third, SEND, share, OF_LAST_IN, Typology.REAL_REVERSAL, case)
    _cash_out(town, world, third, at_ns, case)


def _split_deposits(town: Town, world: Underworld, at_ns: int) -> None:
    rng, case = town.rng, town.case()
    agent, customer = int(rng.choice(world.greedy_agents)), town.customer()
    floor = int(rng.choice(BAND_FLOORS))
    for _ in range(int(rng.integers(2, 7))):
        amount = floor if rng.random() < 0.7 else floor + int(rng.integers(0, 50)) * 100
        town.add(at_ns, agent, customer, SEND, amount, label=Typology.SPLIT_DEPOSITS, case=case)
        at_ns += town.minutes(3)


def _direct_deposit(town: Town, world: Underworld, at_ns: int) -> None:
    """The sender hands cash to an agent for somebody far away, who cashes it there: no fee for a transfer."""
    rng, case = town.rng, town.case()
    agent, receiver = int(rng.choice(world.greedy_agents)), town.customer()
    amount = rounded(rng, town.typical[receiver] * rng.uniform(0.5, 4))
    town.add(at_ns, agent, receiver, SEND, amount, label=Typology.DIRECT_DEPOSIT, case=case)
    later_ns = at_ns + town.minutes(20)
    town.add(later_ns, receiver, int(town.home[receiver, 0]), SEND, rng.uniform(0.9, 1) * 1_000_000, OF_LAST_IN)


def _fake_till(town: Town, world: Underworld, at_ns: int) -> None:
    """A till that sells nothing: strangers pay it once, and the money does not stay there for long."""
    rng, case = town.rng, town.case()
    till, owner = int(rng.choice(world.tills)), int(rng.choice(world.mules))
    at_ns = max(at_ns, int(town.joined_ns[till]) + HOUR_NS)
    for left in reversed(range(int(rng.integers(2, 8)))):
        victim = _victim(town, at_ns)
        amount = rounded(rng, town.typical[victim] * rng.uniform(0.8, 4))
        town.add(at_ns, victim, till, TILL, amount, label=Typology.FAKE_TILL, case=case)
        if not left or rng.random() < 0.5:
            share = rng.uniform(0.8, 1.0) * 1_000_000
            town.add(at_ns + town.minutes(10), till, owner, SEND, share, SHARE, Typology.FAKE_TILL, case)
        at_ns += town.minutes(45)


def _airtime_drain(town: Town, world: Underworld, at_ns: int) -> None:
    rng, case, victim = town.rng, town.case(), _victim(town, at_ns)
    if rng.random() < 0.5:
        town.add(at_ns, victim, 0, FUNDING, 0, PIN_RESET)
        at_ns += town.minutes(60)
    for _ in range(int(rng.integers(4, 12))):
        amount = int(rng.choice([10_000, 25_000, 50_000, 100_000]))
        town.add(at_ns, victim, town.airtime, AIRTIME, amount, label=Typology.AIRTIME_DRAIN, case=case)
        at_ns += town.minutes(3)


def _float_drain(town: Town, world: Underworld, at_ns: int) -> None:
    """A faked confirmation has an agent pay out float to strangers, again and again until somebody notices."""
    rng, case, agent = town.rng, town.case(), town.agent()
    for mule in _ring(town, world, at_ns, 0, 3):
        amount = int(rng.integers(4, 30)) * 250_000
        town.add(at_ns, agent, int(mule), SEND, amount, label=Typology.FLOAT_DRAIN, case=case)
        _cash_out(town, world, int(mule), at_ns, case)
        at_ns += town.minutes(12)


CRIMES: tuple[tuple[Callable[[Town, Underworld, int], None], float], ...] = (
    (_take_over, 0.24),
    (_social, 0.2 / VICTIMS_OF_A_CALLER),
    (_fake_reversal, 0.1 / VICTIMS_OF_A_CALLER),
    (_real_reversal, 0.07),
    (_split_deposits, 0.1),
    (_direct_deposit, 0.09),
    (_fake_till, 0.06),
    (_airtime_drain, 0.08),
    (_float_drain, 0.06),
)
