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
    code = TransferCode.AIRTIME if decided.kind is PaymentKind.BUY_AIRTIME else TransferCode.PRINCIPAL
    legs = [(parties.payee, decided.amount_minor, code)]
    net_minor = decided.fee.fee_minor - decided.fee.excise_minor
    if net_minor:
        legs.append((parties.fees, net_minor, TransferCode.FEE))
    if decided.fee.excise_minor:
        legs.append((parties.excise, decided.fee.excise_minor, TransferCode.EXCISE_DUTY))
    kind_flags = int(TransferFlag.PENDING) if hold else 0
    timeout_s = HOLD_TIMEOUT_S if hold else 0
    group_lo, group_hi = split_id(decided.payment_id)
    packed = []
    for number, (payee, amount_minor, leg_code) in enumerate(legs):
        id_lo, id_hi = split_id(leg_id(decided.payment_id, number))
        flags = kind_flags | (int(TransferFlag.LINKED) if number + 1 < len(legs) else 0)
        record = _TRANSFER.pack(
            id_lo, id_hi, parties.payer, payee, amount_minor, 0, 0, group_lo, group_hi, 0,
            timeout_s, parties.ledger, leg_code, flags, 0, decided.reference,
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
