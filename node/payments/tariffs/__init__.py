"""Dated tariffs: what each kind of payment costs on the day it is made, and the tax within it.

A tariff file is data with a date; of several the newest that is in force on the payment's local day applies. Published
fees contain the excise duty: net = fee / (1 + rate), the duty is what remains, so the two always add up to the fee.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from node.ledger.currencies import CURRENCIES, Currency
from node.ledger.statuses import PaymentKind

SAMPLE_FOLDER = Path(__file__).parent
_KINDS = {
    "send_money": PaymentKind.SEND_MONEY,
    "pay_till": PaymentKind.PAY_TILL,
    "pay_bill": PaymentKind.PAY_BILL,
    "buy_airtime": PaymentKind.BUY_AIRTIME,
    "send_to_unregistered": PaymentKind.SEND_TO_UNREGISTERED,
    "cash_in": PaymentKind.CASH_IN,
    "cash_out": PaymentKind.CASH_OUT,
    "agent_float": PaymentKind.AGENT_FLOAT,
    "merchant_payout": PaymentKind.MERCHANT_PAYOUT,
    "redeem_voucher": PaymentKind.REDEEM_VOUCHER,
    "bulk_payout": PaymentKind.BULK_PAYOUT,
    "remittance": PaymentKind.REMITTANCE,
}
KIND_NAMES = {kind: name for name, kind in _KINDS.items()}
_OTHER_KEYS = frozenset(
    {"name", "currency", "ledger", "effective_date", "utc_offset_minutes", "excise_percent", "commission"}
)
_TABLE_KEYS = frozenset({"bands", "bearer", "customer_percent"})
_BEARERS = ("customer", "business", "shared")


class TariffError(Exception):
    """A tariff file breaks a rule; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Fee:
    fee_minor: int  # all that the payer pays on top, duty included
    excise_minor: int  # the duty within it
    payee_fee_minor: int = 0  # the payee's share of the charge, which comes out of the amount, duty included
    payee_excise_minor: int = 0
    commission_minor: int = 0  # what the operator pays the agent


@dataclass(frozen=True, slots=True)
class Table:
    minimum_minor: int
    uppers_minor: tuple[int, ...]
    fees_minor: tuple[int, ...]
    payee_fees_minor: tuple[int, ...] = ()  # empty = the payer bears it all

    def band(self, amount_minor: int) -> int:
        """The number of the band that an amount is in; -1 = none."""
        if amount_minor < self.minimum_minor:
            return -1
        at = bisect_left(self.uppers_minor, amount_minor)
        return at if at < len(self.uppers_minor) else -1


@dataclass(frozen=True, slots=True)
class Tariff:
    name: str
    currency: str
    ledger: int
    effective: date
    utc_offset: timedelta
    excise_percent: int
    tables: dict[PaymentKind, Table]
    commissions: dict[PaymentKind, Table]

    @property
    def version(self) -> int:
        return self.effective.year * 10_000 + self.effective.month * 100 + self.effective.day

    def fee(self, kind: PaymentKind, amount_minor: int, bearer: str = "") -> Fee | None:
        """None = the tariff has no band for this kind and amount. bearer: customer or business, where the payee has
        chosen that one to bear the whole charge; else it is divided as the table has it."""
        table = self.tables.get(kind)
        if table is None or amount_minor < table.minimum_minor:
            return None
        at = bisect_left(table.uppers_minor, amount_minor)
        if at == len(table.uppers_minor):
            return None
        fee_minor = table.fees_minor[at]
        excise_minor = excise_within(fee_minor, self.excise_percent)
        commissions = self.commissions.get(kind)
        if not table.payee_fees_minor and commissions is None and not bearer:
            return Fee(fee_minor, excise_minor)
        payee_fee_minor = table.payee_fees_minor[at] if table.payee_fees_minor else 0
        if bearer in ("customer", "business"):
            whole_minor = fee_minor + payee_fee_minor
            fee_minor, payee_fee_minor = (whole_minor, 0) if bearer == "customer" else (0, whole_minor)
            excise_minor = excise_within(fee_minor, self.excise_percent)
        if payee_fee_minor >= amount_minor:
            return None
        payee_excise_minor = excise_within(payee_fee_minor, self.excise_percent)
        paid_at = commissions.band(amount_minor) if commissions is not None else -1
        commission_minor = commissions.fees_minor[paid_at] if commissions is not None and paid_at >= 0 else 0
        return Fee(fee_minor, excise_minor, payee_fee_minor, payee_excise_minor, commission_minor)


def excise_within(fee_minor: int, percent: int) -> int:
    """The duty in a duty-inclusive fee, rounded half up to a cent; integers only."""
    return (2 * fee_minor * percent + (100 + percent)) // (2 * (100 + percent))


class Tariffs(Protocol):
    """Where prices come from: files (DatedTariffs), or the documents of the cluster (node/service/tariff_book)."""

    def in_force(self, ledger: int, timestamp_ns: int) -> Tariff | None: ...

    def ledger_of(self, currency: str) -> int: ...

    @property
    def ledgers(self) -> set[int]: ...

    def currency_of(self, ledger: int) -> str: ...


@dataclass(frozen=True, slots=True)
class DatedTariffs:
    """Every tariff that the operator has, newest first."""

    dated: tuple[Tariff, ...]

    @classmethod
    def of(cls, tariffs: Iterable[Tariff]) -> DatedTariffs:
        return cls(tuple(sorted(tariffs, key=lambda tariff: tariff.effective, reverse=True)))

    def in_force(self, ledger: int, timestamp_ns: int) -> Tariff | None:
        for tariff in self.dated:
            if tariff.ledger != ledger:
                continue
            local = datetime.fromtimestamp(timestamp_ns // 1_000_000_000, UTC) + tariff.utc_offset
            if tariff.effective <= local.date():
                return tariff
        return None

    def ledger_of(self, currency: str) -> int:
        """0 = the operator has no tariff in that currency."""
        return next((tariff.ledger for tariff in self.dated if tariff.currency == currency), 0)

    @property
    def ledgers(self) -> set[int]:
        return {tariff.ledger for tariff in self.dated}

    def currency_of(self, ledger: int) -> str:
        """ "" = the operator has no tariff in that ledger."""
        return next((tariff.currency for tariff in self.dated if tariff.ledger == ledger), "")


def load_tariffs(path: Path | None = None) -> DatedTariffs:
    """One file, or every *.toml of a folder; None = the sample. Raises TariffError."""
    folder = path or SAMPLE_FOLDER
    files = sorted(folder.glob("*.toml")) if folder.is_dir() else [folder]
    if not files:
        raise TariffError(f"{folder}: holds no tariff (*.toml)")
    return DatedTariffs.of(_load(file) for file in files)


def _load(path: Path) -> Tariff:
    try:
        return tariff_of(path.read_bytes(), path.name)
    except OSError as error:
        raise TariffError(f"{path.name}: {error}") from error


def tariff_of(body: bytes, name: str) -> Tariff:
    """Of a file or a document. Raises TariffError."""
    try:
        return parse_tariff(tomllib.loads(body.decode()), name)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TariffError(f"{name}: {error}") from error


def parse_tariff(raw: dict[str, Any], name: str) -> Tariff:
    def whole(key: str, low: int, high: int) -> int:
        value = raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise TariffError(f"{name}: {key}: must be a whole number from {low} to {high}, is {value!r}")
        return value

    unknown = sorted(set(raw) - _OTHER_KEYS - set(_KINDS))
    if unknown:
        raise TariffError(f"{name}: {unknown[0]}: is no kind of payment; there are {', '.join(_KINDS)}")
    currency, effective = CURRENCIES.get(str(raw.get("currency"))), raw.get("effective_date")
    if currency is None:
        raise TariffError(f"{name}: currency: must be one of {', '.join(CURRENCIES)}, is {raw.get('currency')!r}")
    if whole("ledger", 1, 999) != currency.number:
        raise TariffError(f"{name}: ledger: must be {currency.number}, the number of {currency.letters}")
    if not isinstance(effective, date) or isinstance(effective, datetime):
        raise TariffError(f"{name}: effective_date: must be a date, is {effective!r}")
    tables = {kind: _parse_table(raw[key], f"{name}: {key}", currency) for key, kind in _KINDS.items() if key in raw}
    if not tables:
        raise TariffError(f"{name}: has no table; one of {', '.join(_KINDS)} is needed")
    redeemed = tables.get(PaymentKind.REDEEM_VOUCHER)
    if redeemed is not None and any(redeemed.fees_minor + redeemed.payee_fees_minor):
        raise TariffError(f"{name}: redeem_voucher.bands: must be free, since the sender has paid")
    raw_commissions = raw.get("commission", {})
    if not isinstance(raw_commissions, dict):
        raise TariffError(f"{name}: commission: must be tables, one a kind, is {raw_commissions!r}")
    unknown = sorted(set(raw_commissions) - set(_KINDS))
    if unknown:
        raise TariffError(f"{name}: commission.{unknown[0]}: is no kind of payment; there are {', '.join(_KINDS)}")
    commissions = {
        _KINDS[key]: _parse_table(table, f"{name}: commission.{key}", currency, bearers=("customer",))
        for key, table in raw_commissions.items()
    }
    return Tariff(
        name=str(raw.get("name", name)),
        currency=currency.letters,
        ledger=currency.number,
        effective=effective,
        utc_offset=timedelta(minutes=whole("utc_offset_minutes", -720, 840)),
        excise_percent=whole("excise_percent", 0, 100),
        tables=tables,
        commissions=commissions,
    )


def _parse_table(raw: Any, where: str, currency: Currency, bearers: Sequence[str] = _BEARERS) -> Table:
    unknown = sorted(set(raw) - _TABLE_KEYS) if isinstance(raw, dict) else []
    if unknown:
        raise TariffError(f"{where}.{unknown[0]}: unknown; there are {', '.join(sorted(_TABLE_KEYS))}")
    bands: Sequence[Any] = raw.get("bands", ()) if isinstance(raw, dict) else ()
    if not bands:
        raise TariffError(f"{where}.bands: missing")
    bearer = raw.get("bearer", bearers[0])
    if bearer not in bearers:
        raise TariffError(f"{where}.bearer: must be one of {', '.join(bearers)}, is {bearer!r}")
    percent = _customer_percent(raw, bearer, where)
    columns = 4 if bearer == "shared" and percent is None else 3
    expected, fees_before = None, 0
    all_fees: list[list[int]] = []
    for number, band in enumerate(bands):
        field = f"{where}.bands[{number}]"
        if not isinstance(band, list) or len(band) != columns or not all(type(value) is int for value in band[:2]):
            shape = "[from, to, fee]" if columns == 3 else "[from, to, customer's fee, business's fee]"
            raise TariffError(f"{field}: must be {shape} in whole units, is {band!r}")
        low, high, *published = band
        if low < 1 or high < low:
            raise TariffError(f"{field}: must go up from 1, is {low} to {high}")
        if expected is not None and low != expected:
            raise TariffError(f"{field}: must begin at {expected}, where the band before ends, is {low}")
        try:
            fees = [currency.minor(fee) for fee in published]
        except ValueError as error:
            raise TariffError(f"{field}: the fee {error}") from error
        if min(fees) < 0:
            raise TariffError(f"{field}: the fee must not be negative, is {min(published)}")
        if sum(fees) < fees_before:
            raise TariffError(f"{field}: the fee must not be less than in the band before")
        expected, fees_before = high + 1, sum(fees)
        all_fees.append(fees)
    shares = [_shares(fees, bearer, percent) for fees in all_fees]
    # A published band "101 to 500" holds everything above 100.00 up to 500.00.
    return Table(
        minimum_minor=bands[0][0] * currency.minor_per_unit,
        uppers_minor=tuple(band[1] * currency.minor_per_unit for band in bands),
        fees_minor=tuple(customer for customer, _ in shares),
        payee_fees_minor=tuple(business for _, business in shares) if bearer != "customer" else (),
    )


def _customer_percent(raw: dict[str, Any], bearer: str, where: str) -> int | None:
    percent = raw.get("customer_percent")
    if percent is None:
        return None
    if bearer != "shared":
        raise TariffError(f"{where}.customer_percent: only where the bearer is shared, is {bearer}")
    if type(percent) is not int or not 0 <= percent <= 100:
        raise TariffError(f"{where}.customer_percent: must be a whole number from 0 to 100, is {percent!r}")
    return percent


def _shares(fees: Sequence[int], bearer: str, percent: int | None) -> tuple[int, int]:
    """(customer's, business's), all in minor units; the cent that does not divide is the customer's."""
    if len(fees) == 2:
        return fees[0], fees[1]
    total_minor = fees[0]
    if bearer == "customer":
        return total_minor, 0
    if bearer == "business":
        return 0, total_minor
    customer_minor = -(-total_minor * (percent or 0) // 100)
    return customer_minor, total_minor - customer_minor
