"""From intentions to a history: one compiled pass in order of time that keeps balances, fees and limits, reads the
features before each payment and notes it after, exactly as a node does."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.compiled import njit
from fraud.simulate import crimes, honest
from fraud.simulate.town import AIRTIME, FUNDING, OF_LAST_IN, PIN_RESET, SHARE, START_NS, Ints, Town, found
from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag, AccountKind
from node.ledger.statuses import TransferCode

CHUNK_EVENTS = 500_000
BALANCE_MAX_MINOR = 50_000_000  # of a customer
TARIFF = Path(__file__).parents[2] / "node" / "payments" / "tariffs" / "kenya-2023-07-29.toml"
_KINDS = ("send_money", "pay_till", "pay_bill", "buy_airtime")
PRINCIPAL, AIRTIME_CODE, ISSUE = int(TransferCode.PRINCIPAL), int(TransferCode.AIRTIME), int(TransferCode.ISSUE)
CUSTOMER = int(AccountKind.CUSTOMER)
D_POSTED, C_POSTED, KIND, FLAGS, CREATED, PIN_SET = f.D_POSTED, f.C_POSTED, f.KIND, f.FLAGS, f.CREATED, f.PIN_SET
F_TYPOLOGY, F_TIME, F_AMOUNT, F_PAYER, F_PAYEE, F_KIND, F_CASE = range(7)

Say = Callable[[int, int], None]  # events done, events in all


@dataclass(frozen=True, slots=True)
class History:
    """One row for each payment that was made, in time order."""

    features: npt.NDArray[np.float32]  # (n, FEATURE_COUNT)
    typology: npt.NDArray[np.int8]  # Typology
    times_ns: Ints
    amounts_minor: Ints
    payers: Ints
    payees: Ints
    kinds: npt.NDArray[np.int8]  # PaymentKind
    cases: npt.NDArray[np.int32]  # which incident, 0 = none

    @property
    def fraud(self) -> npt.NDArray[np.int8]:
        return (self.typology > 0).astype(np.int8)


def simulate(customers: int, days: int, seed: int) -> History:
    """The whole history at once. Raises ValueError for a town that is too small."""
    parts = list(simulate_in_parts(customers, days, seed, lambda _done, _total: None))
    names = History.__slots__
    return History(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def simulate_in_parts(customers: int, days: int, seed: int, say: Say) -> Iterator[History]:
    town = found(customers, days, seed)
    honest.live(town)
    crimes.commit(town)
    events = town.events()
    columns, bands = accounts_of(town), tariff_bands()
    for begin in range(0, len(events), CHUNK_EVENTS):
        part = events[begin : begin + CHUNK_EVENTS]
        rows = np.empty((len(part), f.FEATURE_COUNT), dtype=np.float32)
        facts = np.zeros((len(part), 7), dtype=np.int64)
        made = int(_replay(columns, part, bands, rows, facts, np.zeros((4, 1), dtype=np.int64)))
        say(begin + len(part), len(events))
        facts = facts[:made]
        yield History(
            features=rows[:made].copy(),
            typology=facts[:, F_TYPOLOGY].astype(np.int8),
            times_ns=facts[:, F_TIME].copy(),
            amounts_minor=facts[:, F_AMOUNT].copy(),
            payers=facts[:, F_PAYER].copy(),
            payees=facts[:, F_PAYEE].copy(),
            kinds=facts[:, F_KIND].astype(np.int8),
            cases=facts[:, F_CASE].astype(np.int32),
        )


def accounts_of(town: Town) -> Ints:
    columns = np.zeros((town.issuer + 1, COLUMN_COUNT), dtype=np.int64)
    columns[:, f.LEDGER] = 404
    columns[:, CREATED] = town.joined_ns
    columns[1 : town.customers + 1, KIND] = CUSTOMER
    columns[1 : town.customers + 1, PIN_SET] = town.joined_ns[1 : town.customers + 1]
    for accounts, kind in (
        (town.agents, AccountKind.AGENT),
        (town.merchants, AccountKind.TILL),
        (town.billers, AccountKind.PAYBILL),
        (town.airtime, AccountKind.AIRTIME),
        (town.issuer, AccountKind.ISSUANCE),
    ):
        columns[accounts, KIND] = kind
    columns[1 : town.airtime, FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    return columns


def tariff_bands(path: Path = TARIFF) -> Ints:
    """(kinds, bands, 3): from, to, fee in minor units, as the ledger's own tariff file has them; zeros pad."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    bands = [np.array([band[:3] for band in table[kind]["bands"]], dtype=np.int64) * 100 for kind in _KINDS]
    out = np.zeros((len(bands), max(map(len, bands)), 3), dtype=np.int64)
    for number, rows in enumerate(bands):
        out[number, : len(rows)] = rows
    return out


@njit
def _fee(bands: Any, kind: int, amount: int) -> int:
    """-1 = the tariff has no such amount."""
    for k in range(bands.shape[1]):
        # A band ends where the next begins: cents between two whole shillings belong to the lower one.
        if bands[kind - 1, k, 1] and bands[kind - 1, k, 0] <= amount < bands[kind - 1, k, 1] + 100:
            return bands[kind - 1, k, 2]
    return -1


@njit
def _replay(columns: Any, events: Any, bands: Any, rows: Any, facts: Any, one: Any) -> int:
    """The node's order of things: features first, then the money, then the features' update."""
    made = 0
    for i in range(len(events)):
        now_ns, payer, payee, kind, mode, amount, label, case = events[i]
        if mode == PIN_RESET:
            columns[payer, PIN_SET] = now_ns
            continue
        available = columns[payer, C_POSTED] - columns[payer, D_POSTED]
        if mode == SHARE:
            amount = available * amount // 1_000_000
        elif mode == OF_LAST_IN:
            amount = columns[payer, f.LAST_IN_AMOUNT] * amount // 1_000_000
        fee = 0
        if kind != FUNDING:
            amount = amount // 100 * 100
            fee = _fee(bands, kind, amount)
            if fee > 0 and (columns[payer, KIND] != CUSTOMER or columns[payee, KIND] != CUSTOMER):
                fee = 0  # deposits are free, and what cash out costs is the agent's business here
            if mode == SHARE and amount + fee > available:
                amount -= (fee + 99) // 100 * 100
            if fee < 0 or amount < 100 or amount + fee > available:
                continue
            room = BALANCE_MAX_MINOR - (columns[payee, C_POSTED] - columns[payee, D_POSTED])
            if columns[payee, KIND] == CUSTOMER and amount > room:
                continue
            one[0, 0], one[1, 0], one[2, 0], one[3, 0] = payer, payee, amount, kind
            f.extract(columns, one[0], one[1], one[2], one[3], now_ns, rows[made : made + 1])
            fact = facts[made]
            fact[F_TYPOLOGY], fact[F_TIME], fact[F_AMOUNT], fact[F_PAYER] = label, now_ns, amount, payer
            fact[F_PAYEE], fact[F_KIND], fact[F_CASE] = payee, kind, case
            made += 1
        columns[payer, D_POSTED] += amount + fee
        columns[payee, C_POSTED] += amount
        code = AIRTIME_CODE if kind == AIRTIME else PRINCIPAL
        f.update(columns, payer, payee, amount, ISSUE if kind == FUNDING else code, now_ns)
    return made


def day_of(history: History) -> npt.NDArray[np.float64]:
    return (history.times_ns - START_NS) / (24 * f.HOUR_NS)
