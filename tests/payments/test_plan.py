"""A payment as legs: each shilling that leaves the payer arrives somewhere; a retry is told from another payment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.records import PAYMENT, TRANSFER, Records, TransferFlag, leg_id
from node.ledger.statuses import FraudDecision, PaymentKind, PaymentStatus, PinVerdict, TransferCode
from node.payments.kinds import KINDS
from node.payments.plan import HOLD_TIMEOUT_S, Decided, Parties, content_hash, pack_legs, pack_payment
from node.payments.tariffs import Fee, load_tariffs

PARTIES = Parties(payer=11, payee=12, fees=13, excise=14, ledger=404)
KENYA = load_tariffs().dated[0]
MOVING = [PaymentKind.SEND_MONEY, PaymentKind.PAY_TILL, PaymentKind.PAY_BILL, PaymentKind.BUY_AIRTIME]
PAYMENT_ID = (7 << 100) | (1 << 70) | 3


def decided(amount_minor: int, fee: Fee, kind: PaymentKind = PaymentKind.SEND_MONEY) -> Decided:
    return Decided(
        payment_id=PAYMENT_ID, terms=KINDS[kind], amount_minor=amount_minor, fee=fee, content_hash=(1 << 64) - 1,
        status=PaymentStatus.OK, decision=FraudDecision.ALLOW, pin_verdict=PinVerdict.RIGHT, score_ppm=1_000_000,
        model_version=0xDEADBEEF, thresholds_version=3, reasons=(1, 2), tariff_version=20230729, reference=b"ACC 9",
    )  # fmt: skip


def legs(amount_minor: int, fee: Fee, kind: PaymentKind = PaymentKind.SEND_MONEY, *, hold: bool = False) -> Records:
    return np.frombuffer(
        pack_legs(decided(amount_minor, fee, kind), PARTIES, hold_s=HOLD_TIMEOUT_S if hold else 0), TRANSFER
    )


def ids(records: Records) -> list[int]:
    return [high << 64 | low for low, high in zip(records["id_lo"].tolist(), records["id_hi"].tolist(), strict=True)]


@given(st.sampled_from(MOVING), st.integers(1, 25_000_000))
def test_every_shilling_is_accounted_for(kind: PaymentKind, amount_minor: int) -> None:
    fee = KENYA.fee(kind, amount_minor)
    if fee is None:
        return
    made = legs(amount_minor, fee, kind)
    assert set(made["debit_account"].tolist()) == {PARTIES.payer}
    got = dict.fromkeys((PARTIES.payee, PARTIES.fees, PARTIES.excise), 0)
    for payee, minor in zip(made["credit_account"].tolist(), made["amount_minor"].tolist(), strict=True):
        assert minor > 0
        got[payee] += minor
    assert got[PARTIES.payee] == amount_minor - fee.payee_fee_minor
    assert got[PARTIES.excise] == fee.excise_minor + fee.payee_excise_minor
    assert got[PARTIES.fees] + got[PARTIES.excise] == fee.fee_minor + fee.payee_fee_minor
    assert int(made["amount_minor"].sum()) == amount_minor + fee.fee_minor


@pytest.mark.parametrize(
    ("fee", "codes"),
    [
        (Fee(0, 0), [TransferCode.PRINCIPAL]),
        (Fee(700, 0), [TransferCode.PRINCIPAL, TransferCode.FEE]),
        (Fee(700, 91), [TransferCode.PRINCIPAL, TransferCode.FEE, TransferCode.EXCISE_DUTY]),
        (Fee(1, 1), [TransferCode.PRINCIPAL, TransferCode.EXCISE_DUTY]),
    ],
)
def test_legs_are_one_linked_chain(fee: Fee, codes: list[TransferCode]) -> None:
    made = legs(50_000, fee)
    assert made["code"].tolist() == codes
    linked = int(TransferFlag.LINKED)
    assert made["flags"].tolist() == [linked] * (len(codes) - 1) + [0]
    assert ids(made) == [leg_id(PAYMENT_ID, number) for number in range(len(codes))]
    assert len(set(ids(made))) == len(codes)
    assert {(int(low), int(high)) for low, high in zip(made["group_id_lo"], made["group_id_hi"], strict=True)} == {
        (PAYMENT_ID & ((1 << 64) - 1), PAYMENT_ID >> 64)
    }
    assert made["ledger"].tolist() == [404] * len(codes)
    assert made["scoring"].tolist() == made["pending_id_lo"].tolist() == [0] * len(codes)


def test_a_held_payment_reserves_all_of_it_for_a_day() -> None:
    made = legs(50_000, Fee(700, 91), hold=True)
    assert all(flags & TransferFlag.PENDING for flags in made["flags"].tolist())
    assert made["timeout_s"].tolist() == [HOLD_TIMEOUT_S] * 3 == [86_400] * 3
    assert int(made["amount_minor"].sum()) == 50_700


def test_airtime_has_a_code_of_its_own() -> None:
    assert legs(5_000, Fee(0, 0), PaymentKind.BUY_AIRTIME)["code"].tolist() == [TransferCode.AIRTIME]


def test_the_record_says_what_was_decided() -> None:
    record = np.frombuffer(pack_payment(decided(50_000, Fee(700, 91)), PARTIES, 5, 3), PAYMENT)[0]
    expected = {
        "id_hi": PAYMENT_ID >> 64, "payer_account": 11, "payee_account": 12, "amount_minor": 50_000, "fee_minor": 700,
        "excise_minor": 91, "content_hash": (1 << 64) - 1, "first_transfer": 5, "kind": 1, "legs": 3, "status": 0,
        "decision": 1, "pin_verdict": 1, "score_ppm": 1_000_000, "model_version": 0xDEADBEEF, "reason_1": 1,
        "reason_2": 2, "reason_3": 0, "signer": 0, "tariff_version": 20230729, "ledger": 404, "thresholds_version": 3,
    }  # fmt: skip
    assert {name: int(record[name]) for name in expected} == expected
    assert bytes(record["reference"]).rstrip(b"\0") == b"ACC 9"
    assert bytes(record["reserved"]) == bytes(8)


def test_the_content_hash_sees_every_field_and_where_each_ends() -> None:
    base = (1, "254712000001", "254712000002", 500, "KES", "ab")
    others = [
        (2, *base[1:]),
        (1, "254712000009", *base[2:]),
        (1, base[1], "254712000003", *base[3:]),
        (*base[:3], 501, *base[4:]),
        (*base[:4], "UGX", base[5]),
        (*base[:5], "a"),
        (1, "25471200000", "1254712000002", *base[3:]),
    ]
    hashes = {content_hash(*content) for content in (base, *others)}
    assert len(hashes) == len(others) + 1
    assert content_hash(*base) == content_hash(*base)
    assert all(0 <= number < 1 << 64 for number in hashes)
