"""A payment as linked transfers: principal, fee, excise duty, all or none. Pure: facts come in, packed records out."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from node.ledger.records import TransferFlag, leg_id, split_id
from node.ledger.statuses import FraudDecision, PaymentKind, PaymentStatus, PinVerdict, TransferCode
from node.payments.tariffs import Fee

HOLD_TIMEOUT_S = 24 * 3_600  # a held payment that nobody decides ends by itself
REFERENCE_BYTES_MAX = 20
_LINKED, _PENDING = int(TransferFlag.LINKED), int(TransferFlag.PENDING)
_PRINCIPAL, _AIRTIME = int(TransferCode.PRINCIPAL), int(TransferCode.AIRTIME)
_FEE, _EXCISE_DUTY = int(TransferCode.FEE), int(TransferCode.EXCISE_DUTY)
VERDICT_LEG = 8  # the ids of a verdict's transfers begin here: one verdict a payment, for the second finds the id used
_TRANSFER = struct.Struct("<QQQQqQQQQQIIHHI32s")  # the layout of records.TRANSFER
_PAYMENT = struct.Struct("<QQQQqqqQIHHHBBIIBBBBII20s12x")  # the layout of records.PAYMENT


@dataclass(frozen=True, slots=True)
class Parties:
    payer: int
    payee: int
    fees: int  # the operator's revenue account of this currency
    excise: int  # the operator's account for excise duty
    ledger: int


@dataclass(frozen=True, slots=True)
class Decided:
    """All that a payment's record says besides the parties."""

    payment_id: int
    kind: PaymentKind
    amount_minor: int
    fee: Fee
    content_hash: int
    status: PaymentStatus
    decision: FraudDecision
    pin_verdict: PinVerdict
    score_ppm: int
    model_version: int
    reasons: tuple[int, ...]
    tariff_version: int
    reference: bytes


def content_hash(kind: int, payer: str, payee: str, amount_minor: int, currency: str, reference: str) -> int:
    """Of what the person asked for: tells a retry from an id that is used again for something else."""
    parts = "\x1f".join((str(int(kind)), payer, payee, str(amount_minor), currency, reference))
    return int.from_bytes(hashlib.blake2b(parts.encode(), digest_size=8).digest(), "little")


def pack_legs(decided: Decided, parties: Parties, *, hold: bool) -> bytes:
    """Principal to the payee, net fee to revenue, duty to the tax account; a hold reserves instead of moving."""
    fee_minor, excise_minor = decided.fee.fee_minor, decided.fee.excise_minor
    code = _AIRTIME if decided.kind is PaymentKind.BUY_AIRTIME else _PRINCIPAL
    legs = [(parties.payee, decided.amount_minor, code)]
    if fee_minor > excise_minor:
        legs.append((parties.fees, fee_minor - excise_minor, _FEE))
    if excise_minor:
        legs.append((parties.excise, excise_minor, _EXCISE_DUTY))
    flags, timeout_s = (_PENDING, HOLD_TIMEOUT_S) if hold else (0, 0)
    payer, ledger, reference = parties.payer, parties.ledger, decided.reference
    group_lo, group_hi = split_id(decided.payment_id)
    last = len(legs) - 1
    packed = b""
    for number, (payee, amount_minor, leg_code) in enumerate(legs):
        id_lo, id_hi = split_id(leg_id(decided.payment_id, number))
        packed += _TRANSFER.pack(
            id_lo, id_hi, payer, payee, amount_minor, 0, 0, group_lo, group_hi, 0,
            timeout_s, ledger, leg_code, flags | _LINKED if number < last else flags, 0, reference,
        )  # fmt: skip
    return packed


def pack_verdict(payment_id: int, legs: int, analyst: bytes, *, release: bool) -> bytes:
    """All legs of a held payment posted, or all voided; the narrative says by whom. analyst: at most 20 bytes."""
    group_lo, group_hi = split_id(payment_id)
    narrative = (b"release:" if release else b"refuse:") + analyst
    end = int(TransferFlag.POST if release else TransferFlag.VOID)
    packed = []
    for number in range(legs):
        id_lo, id_hi = split_id(leg_id(payment_id, VERDICT_LEG + number))
        pending_lo, pending_hi = split_id(leg_id(payment_id, number))
        flags = end | (int(TransferFlag.LINKED) if number + 1 < legs else 0)
        record = _TRANSFER.pack(
            id_lo, id_hi, 0, 0, 0, pending_lo, pending_hi, group_lo, group_hi, 0,
            0, 0, TransferCode.VERDICT, flags, 0, narrative,
        )  # fmt: skip
        packed.append(record)
    return b"".join(packed)


def pack_payment(decided: Decided, parties: Parties, first_transfer: int, legs: int) -> bytes:
    id_lo, id_hi = split_id(decided.payment_id)
    reasons = (*decided.reasons, 0, 0, 0)[:3]
    return _PAYMENT.pack(
        id_lo, id_hi, parties.payer, parties.payee, decided.amount_minor, decided.fee.fee_minor,
        decided.fee.excise_minor, decided.content_hash, first_transfer, decided.kind, legs, decided.status,
        decided.decision, decided.pin_verdict, decided.score_ppm, decided.model_version, *reasons, 0,
        decided.tariff_version, parties.ledger, decided.reference,
    )  # fmt: skip
