"""The sample Kenyan tariff against the published table, band by band, and every mistake that a tariff file can hold."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.currencies import CURRENCIES, Currency
from node.ledger.statuses import PaymentKind
from node.payments.tariffs import SAMPLE_FOLDER, Tariff, TariffError, excise_within, load_tariffs, parse_tariff

KES = 404
# As published, whole shillings: from-to:fee.
SEND = (
    "1-100:0; 101-500:7; 501-1000:13; 1001-1500:23; 1501-2500:33; 2501-3500:53; 3501-5000:57; 5001-7500:78; "
    "7501-10000:90; 10001-15000:100; 15001-20000:105; 20001-250000:108"
)
BILL_SHARED = (
    "1-100:0; 101-500:5; 501-1000:10; 1001-1500:10; 1501-2500:13; 2501-3500:16; 3501-5000:16; 5001-7500:17; "
    "7501-10000:18; 10001-15000:18; 15001-20000:19; 20001-25000:20; 25001-30000:20; 30001-35000:21; 35001-40000:23; "
    "40001-45000:23; 45001-250000:24"
)
PUBLISHED = {
    PaymentKind.SEND_MONEY: SEND,
    PaymentKind.PAY_BILL: BILL_SHARED,
    PaymentKind.PAY_TILL: "1-250000:0",
    PaymentKind.BUY_AIRTIME: "5-10000:0",
}
FEES_OF_2021 = (6, 12, 22, 32, 51, 55, 75, 87, 97, 102, 105)  # the send bands when the duty was 12 %


def bands(published: str) -> list[tuple[int, int, int]]:
    parts = [part.replace("-", ":").split(":") for part in published.split("; ")]
    return [(int(low), int(high), int(fee)) for low, high, fee in parts]


CASES = [(kind, *band) for kind, table in PUBLISHED.items() for band in bands(table)]


@pytest.fixture(scope="module")
def kenya() -> Tariff:
    tariff = load_tariffs().in_force(KES, int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1e9))
    assert tariff is not None
    return tariff


@pytest.mark.parametrize(("kind", "low", "high", "fee"), CASES)
def test_each_band_from_its_first_cent_to_its_last(
    kenya: Tariff, kind: PaymentKind, low: int, high: int, fee: int
) -> None:
    table = bands(PUBLISHED[kind])
    first = low == table[0][0]
    inside = [low * 100, (low + high) * 50, high * 100 - 1, high * 100]
    inside += [] if first else [(low - 1) * 100 + 1]  # "101 to 500" holds all above 100.00
    for amount_minor in inside:
        priced = kenya.fee(kind, amount_minor)
        assert priced is not None
        assert (priced.fee_minor, priced.excise_minor) == (fee * 100, excise_within(fee * 100, 15)), amount_minor


@pytest.mark.parametrize("kind", list(PUBLISHED))
def test_outside_the_table_there_is_no_price(kenya: Tariff, kind: PaymentKind) -> None:
    table = bands(PUBLISHED[kind])
    for amount_minor in (-1, 0, 1, table[0][0] * 100 - 1, table[-1][1] * 100 + 1, (1 << 63) - 1):
        assert kenya.fee(kind, amount_minor) is None, amount_minor
    assert kenya.fee(PaymentKind.CHECK_BALANCE, 10_000) is None


def test_a_fee_of_108_holds_14_09_of_duty(kenya: Tariff) -> None:
    fee = kenya.fee(PaymentKind.SEND_MONEY, 25_000_000)
    assert fee is not None
    assert (fee.fee_minor, fee.excise_minor, fee.fee_minor - fee.excise_minor) == (10_800, 1_409, 9_391)


def test_the_send_table_is_the_one_of_2021_with_the_new_duty() -> None:
    """Published prices hold the duty: ceil(old / 1.12 x 1.15) gives each of the eleven paid bands."""
    paid = [fee for _, _, fee in bands(SEND) if fee]
    assert paid == [-(-old * 115 // 112) for old in FEES_OF_2021]


@given(st.integers(0, 10**15), st.integers(0, 100))
def test_the_duty_is_the_nearest_cent_of_the_inclusive_share(fee_minor: int, percent: int) -> None:
    duty = excise_within(fee_minor, percent)
    assert 0 <= duty <= fee_minor
    # |duty - fee * p / (100 + p)| <= 1/2 cent, in integers
    assert abs(duty * (100 + percent) - fee_minor * percent) * 2 <= 100 + percent


GOOD: dict[str, Any] = {
    "name": "T", "currency": "KES", "ledger": KES, "effective_date": date(2023, 7, 29), "utc_offset_minutes": 180,
    "excise_percent": 15, "send_money": {"bands": [[1, 100, 0], [101, 500, 7]]},
}  # fmt: skip


def test_the_newest_tariff_in_force_on_the_local_day_applies(tmp_path: Path) -> None:
    sample = (SAMPLE_FOLDER / "kenya-2023-07-29.toml").read_text(encoding="utf-8")
    (tmp_path / "a.toml").write_text(sample, encoding="utf-8")
    later = sample.replace("2023-07-29", "2027-01-01").replace("[101, 500, 7]", "[101, 500, 8]")
    (tmp_path / "b.toml").write_text(later, encoding="utf-8")
    tariffs = load_tariffs(tmp_path)

    def fee_minor(utc: datetime) -> int:
        tariff = tariffs.in_force(KES, int(utc.timestamp()) * 10**9)
        priced = tariff.fee(PaymentKind.SEND_MONEY, 50_000) if tariff else None
        return priced.fee_minor if priced else -1

    assert fee_minor(datetime(2023, 7, 28, 20, 59, 59, tzinfo=UTC)) == -1  # 23:59:59 of the 28th in Nairobi
    assert fee_minor(datetime(2023, 7, 28, 21, tzinfo=UTC)) == 700
    assert fee_minor(datetime(2026, 12, 31, 20, 59, 59, tzinfo=UTC)) == 700
    assert fee_minor(datetime(2026, 12, 31, 21, tzinfo=UTC)) == 800
    assert [t.version for t in tariffs.dated] == [20270101, 20230729]
    assert (tariffs.ledger_of("KES"), tariffs.ledger_of("UGX")) == (KES, 0)
    assert (tariffs.currency_of(KES), tariffs.currency_of(800)) == ("KES", "")
    assert tariffs.in_force(800, 10**18 * 2) is None


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("currency", "kes", "currency: must be one of KES, "),
        ("currency", 404, "currency: must be one of KES, "),
        ("currency", "UGX", "ledger: must be 800, the number of UGX"),
        ("ledger", 0, "ledger: must be a whole number from 1 to 999"),
        ("ledger", "404", "ledger: must be a whole number"),
        ("ledger", True, "ledger: must be a whole number"),
        ("effective_date", "2023-07-29", "effective_date: must be a date"),
        ("effective_date", datetime(2023, 7, 29, tzinfo=UTC), "effective_date: must be a date"),
        ("utc_offset_minutes", 841, "utc_offset_minutes: must be a whole number from -720 to 840"),
        ("excise_percent", 101, "excise_percent: must be a whole number from 0 to 100"),
        ("excise_percent", 15.0, "excise_percent: must be a whole number"),
        ("send_money", {}, "send_money.bands: missing"),
        ("send_money", {"bands": [[1, 100]]}, "send_money.bands[0]: must be [from, to, fee]"),
        ("send_money", {"bands": [[1, 100, 0.5]]}, "send_money.bands[0]: the fee must be whole KES or a text"),
        ("send_money", {"bands": [[1, 100, "0.505"]]}, "send_money.bands[0]: the fee KES has 2 decimals, is"),
        ("send_money", {"bands": [[1, 100, "much"]]}, "send_money.bands[0]: the fee must be an amount in KES"),
        ("send_money", {"bands": [[1, 100, 7], [101, 200, 6]]}, "send_money.bands[1]: the fee must not be less than"),
        ("send_money", {"bands": [[1, 100, 7]], "bearers": 1}, "send_money.bearers: unknown; there are"),
        ("send_mony", {"bands": [[1, 100, 7]]}, "send_mony: is no kind of payment"),
        ("send_money", {"bands": [[0, 100, 0]]}, "send_money.bands[0]: must go up from 1"),
        ("send_money", {"bands": [[1, 100, 0], [102, 500, 7]]}, "send_money.bands[1]: must begin at 101"),
        ("send_money", {"bands": [[1, 100, 0], [100, 500, 7]]}, "send_money.bands[1]: must begin at 101"),
        ("send_money", {"bands": [[1, 100, -1]]}, "send_money.bands[0]: the fee must not be negative"),
        ("pay_bill", {"bearer": "nobody", "bands": [[1, 2, 3]]}, "pay_bill.bearer: must be one of customer, business"),
        ("pay_bill", {"bearer": "shared", "bands": [[1, 2, 3]]}, "pay_bill.bands[0]: must be [from, to, customer's"),
        ("pay_bill", {"bearer": "shared", "bands": [[1, 2, 3, -1]]}, "pay_bill.bands[0]: the fee must not be"),
        ("pay_bill", {"customer_percent": 50, "bands": [[1, 2, 3]]}, "pay_bill.customer_percent: only where"),
        (
            "pay_bill",
            {"bearer": "shared", "customer_percent": 101, "bands": [[1, 2, 3]]},
            "pay_bill.customer_percent: must be a whole number from 0 to 100",
        ),
        ("commission", {"cash_up": {"bands": [[1, 2, 3]]}}, "commission.cash_up: is no kind of payment"),
        ("redeem_voucher", {"bands": [[1, 2, 3]]}, "redeem_voucher.bands: must be free"),
        ("commission", 7, "commission: must be tables, one a kind"),
        ("commission", {"cash_in": {"bearer": "business"}}, "commission.cash_in.bands: missing"),
    ],
)
def test_a_mistake_names_file_and_field(field: str, value: object, complaint: str) -> None:
    with pytest.raises(TariffError) as caught:
        parse_tariff(GOOD | {field: value}, "t.toml")
    assert str(caught.value).startswith(f"t.toml: {complaint}")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TariffError, match="holds no tariff"):
        load_tariffs(tmp_path)
    with pytest.raises(TariffError, match=r"missing\.toml"):
        load_tariffs(tmp_path / "missing.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(TariffError, match=r"x\.toml"):
        load_tariffs(tmp_path / "x.toml")
    with pytest.raises(TariffError, match="has no table"):
        parse_tariff({key: value for key, value in GOOD.items() if key != "send_money"}, "t.toml")


BILL = {"bands": [[1, 100, 0], [101, 1000, 15]]}


@pytest.mark.parametrize(
    ("table", "shares"),
    [
        (BILL, (1_500, 0)),
        (BILL | {"bearer": "customer"}, (1_500, 0)),
        (BILL | {"bearer": "business"}, (0, 1_500)),
        (BILL | {"bearer": "shared", "customer_percent": 33}, (495, 1_005)),
        (BILL | {"bearer": "shared", "customer_percent": 0}, (0, 1_500)),
        ({"bearer": "shared", "bands": [[1, 1000, 10, 5]]}, (1_000, 500)),
    ],
)
def test_the_bearer_says_who_pays_the_charge(table: dict[str, object], shares: tuple[int, int]) -> None:
    fee = parse_tariff(GOOD | {"pay_bill": table}, "t.toml").fee(PaymentKind.PAY_BILL, 50_000)
    assert fee is not None
    assert (fee.fee_minor, fee.payee_fee_minor) == shares
    assert fee.excise_minor == excise_within(fee.fee_minor, GOOD["excise_percent"])
    assert fee.payee_excise_minor == excise_within(fee.payee_fee_minor, GOOD["excise_percent"])


def test_a_charge_that_would_leave_the_business_nothing_is_no_price() -> None:
    tariff = parse_tariff(GOOD | {"pay_bill": {"bearer": "business", "bands": [[1, 100, 15]]}}, "t.toml")
    assert tariff.fee(PaymentKind.PAY_BILL, 1_500) is None
    assert tariff.fee(PaymentKind.PAY_BILL, 1_501) is not None


def test_agents_are_paid_by_the_band_and_nothing_beyond_it(kenya: Tariff) -> None:
    fees = [kenya.fee(PaymentKind.CASH_IN, amount_minor) for amount_minor in (5_000, 300_000, 25_000_000)]
    assert [fee and (fee.fee_minor, fee.commission_minor) for fee in fees] == [(0, 400), (0, 1_200), (0, 19_000)]
    out = kenya.fee(PaymentKind.CASH_OUT, 300_000)
    assert out is not None
    assert (out.fee_minor, out.commission_minor) == (5_200, 2_000)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Any], Currency]:
    """Any table that the rules allow, with what it is in."""
    currency = draw(st.sampled_from(list(CURRENCIES.values())))
    bearer = draw(st.sampled_from(["customer", "business", "shared"]))
    widths = draw(st.lists(st.integers(1, 5_000), min_size=1, max_size=8))
    steps = draw(st.lists(st.integers(0, 9_999), min_size=len(widths), max_size=len(widths)))
    low, fee_minor, bands = draw(st.integers(1, 100)), 0, []
    for width, step in zip(widths, steps, strict=True):
        fee_minor += step
        whole, part = divmod(fee_minor, currency.minor_per_unit)
        bands.append([low, low + width - 1, f"{whole}.{part:0{currency.exponent}}" if currency.exponent else whole])
        low += width
    table: dict[str, Any] = {"bands": bands, "bearer": bearer}
    if bearer == "shared":
        table["customer_percent"] = draw(st.integers(0, 100))
    return table, currency


@given(tables(), st.integers(0, 100), st.data())
def test_whoever_bears_it_a_fee_is_whole_grows_with_the_amount_and_holds_its_duty(
    drawn: tuple[dict[str, Any], Currency], percent: int, data: st.DataObject
) -> None:
    table, currency = drawn
    raw = GOOD | {"currency": currency.letters, "ledger": currency.number, "excise_percent": percent}
    tariff = parse_tariff(raw | {"pay_bill": table}, "t.toml")
    first, last = table["bands"][0][0] * currency.minor_per_unit, table["bands"][-1][1] * currency.minor_per_unit
    amounts = sorted(data.draw(st.lists(st.integers(first, last), min_size=2, max_size=5)))
    before = 0
    for amount_minor in amounts:
        fee = tariff.fee(PaymentKind.PAY_BILL, amount_minor)
        if fee is None:  # the business would have to pay more than it gets
            assert table["bearer"] != "customer"
            continue
        band = next(b for b in table["bands"] if amount_minor <= b[1] * currency.minor_per_unit)
        total_minor = fee.fee_minor + fee.payee_fee_minor
        assert total_minor == currency.minor(band[2]) >= before
        assert 0 <= fee.excise_minor <= fee.fee_minor
        assert 0 <= fee.payee_excise_minor <= fee.payee_fee_minor
        assert table["bearer"] != "customer" or fee.payee_fee_minor == 0
        assert table["bearer"] != "business" or fee.fee_minor == 0
        before = total_minor


@pytest.mark.parametrize(
    ("letters", "amount", "minor"),
    [
        ("UGX", 500, 500),
        ("KES", 500, 50_000),
        ("USD", "0.50", 50),
        ("NGN", "6.9", 690),
        ("ZAR", 1, 100),
        ("TZS", 7, 700),
    ],
)
def test_a_currency_has_its_own_minor_unit(letters: str, amount: object, minor: int) -> None:
    assert CURRENCIES[letters].minor(amount) == minor


@pytest.mark.parametrize("amount", ["0.5", 0.5, True, None, "1e3", "1_000", " 1", "", "1.", ".5", "9" * 16])
def test_what_is_no_amount_in_shillings_of_uganda(amount: object) -> None:
    with pytest.raises(ValueError, match="UGX"):
        CURRENCIES["UGX"].minor(amount)
