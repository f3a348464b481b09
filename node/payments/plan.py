"""A payment as linked transfers: principal, fee, excise duty, commission, all or none. Pure: facts come in, packed
records out."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from node.ledger.records import TransferFlag, leg_id, split_id
from node.ledger.statuses import FraudDecision, PaymentStatus, PinVerdict, TransferCode
from node.payments.kinds import KindTerms
from node.payments.tariffs import Fee

HOLD_TIMEOUT_S = 24 * 3_600  # a held payment that nobody decides ends by itself
REFERENCE_BYTES_MAX = 20
_LINKED, _PENDING = int(TransferFlag.LINKED), int(TransferFlag.PENDING)
_FEE, _EXCISE_DUTY = int(TransferCode.FEE), int(TransferCode.EXCISE_DUTY)
_PAYEE_FEE, _COMMISSION = int(TransferCode.PAYEE_FEE), int(TransferCode.COMMISSION)
VERDICT_LEG = 8  # the ids of a verdict's transfers begin here: one verdict a payment, for the second finds the id used
_TRANSFER = struct.Struct("<QQQQqQQQQQIIHHI32s")  # the layout of records.TRANSFER
_PAYMENT = struct.Struct("<QQQQqqqQIHHHBBIIBBBBII20sI8x")  # the layout of records.PAYMENT


@dataclass(frozen=True, slots=True)
class Parties:
    payer: int
    payee: int
    fees: int  # the operator's revenue account of this currency
    excise: int  # the operator's account for excise duty
    ledger: int
    commissions: int = 0  # the account that the operator pays agents from
    agent: int = 0


@dataclass(frozen=True, slots=True)
class Leg:
    """One transfer of a payment that has other legs than principal, fee and duty."""

    debit: int
    credit: int
    amount_minor: int
    code: TransferCode
    ledger: int
    timeout_s: int = 0  # more than 0 = reserve for so long instead of moving
    ends: int = 0  # the id of a pending transfer
    end: TransferFlag = TransferFlag.POST  # ... and how it ends
    transfer_id: int = 0  # 0 = the payment's own, by its place among the legs
    narrative: bytes = b""  # at most 32 bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """All that a payment's record says besides the parties."""

    payment_id: int
    terms: KindTerms
    amount_minor: int
    fee: Fee
    content_hash: int
    status: PaymentStatus
    decision: FraudDecision
    pin_verdict: PinVerdict
    score_ppm: int
    model_version: int
    thresholds_version: int
    reasons: tuple[int, ...]
    tariff_version: int
    reference: bytes


def content_hash(kind: int, payer: str, payee: str, amount_minor: int, currency: str, reference: str) -> int:
    """Of what the person asked for: tells a retry from an id that is used again for something else."""
    parts = "\x1f".join((str(int(kind)), payer, payee, str(amount_minor), currency, reference))
    return int.from_bytes(hashlib.blake2b(parts.encode(), digest_size=8).digest(), "little")


def pack_legs(
    decided: Decided, parties: Parties, *, hold_s: int = 0, first_id: int = 0, more: Sequence[Leg] = ()
) -> bytes:
    """Principal to the payee, net fee to revenue, the payee's share of the charge out of the amount, duty to the tax
    account, the agent's commission from the operator. hold_s: reserve for so many seconds instead of moving; first_id:
    of the first leg, 0 = the payment's own; more: legs behind the usual ones."""
    fee, payer = decided.fee, parties.payer
    excise_minor, payee_net_minor = fee.excise_minor, fee.payee_fee_minor - fee.payee_excise_minor
    ledger, code = parties.ledger, int(decided.terms.code)
    legs = [(payer, parties.payee, decided.amount_minor - fee.payee_fee_minor, code, ledger)]
    if fee.fee_minor > excise_minor:
        legs.append((payer, parties.fees, fee.fee_minor - excise_minor, _FEE, ledger))
    if payee_net_minor:
        legs.append((payer, parties.fees, payee_net_minor, _PAYEE_FEE, ledger))
    excise_minor += fee.payee_excise_minor
    if excise_minor:
        legs.append((payer, parties.excise, excise_minor, _EXCISE_DUTY, ledger))
    if fee.commission_minor:
        legs.append((parties.commissions, parties.agent, fee.commission_minor, _COMMISSION, ledger))
    if more:
        legs += [(leg.debit, leg.credit, leg.amount_minor, int(leg.code), leg.ledger) for leg in more]
    flags = _PENDING if hold_s else 0
    reference = decided.reference
    group_lo, group_hi = split_id(decided.payment_id)
    last = len(legs) - 1
    packed = b""
    for number, (debit, credit, amount_minor, code, ledger) in enumerate(legs):
        id_lo, id_hi = split_id(leg_id(decided.payment_id, number) if number or not first_id else first_id)
        packed += _TRANSFER.pack(
            id_lo, id_hi, debit, credit, amount_minor, 0, 0, group_lo, group_hi, 0,
            hold_s, ledger, code, flags | _LINKED if number < last else flags, 0, reference,
        )  # fmt: skip
    return packed


def pack_chain(payment_id: int, legs: Sequence[Leg]) -> bytes:
    """Legs of any shape as one linked chain."""
    group_lo, group_hi = split_id(payment_id)
    packed = []
    for number, leg in enumerate(legs):
        id_lo, id_hi = split_id(leg.transfer_id or leg_id(payment_id, number))
        pending_lo, pending_hi = split_id(leg.ends)
        flags = int(leg.end) if leg.ends else _PENDING if leg.timeout_s else 0
        record = _TRANSFER.pack(
            id_lo, id_hi, leg.debit, leg.credit, leg.amount_minor, pending_lo, pending_hi, group_lo, group_hi, 0,
            leg.timeout_s, leg.ledger, leg.code, flags | (_LINKED if number + 1 < len(legs) else 0), 0, leg.narrative,
        )  # fmt: skip
        packed.append(record)
    return b"".join(packed)


def derived_id(payment_id: int, purpose: str, number: int = 0) -> int:
    """An id that follows from a payment's, for transfers that may exist once for each number: the ledger itself refuses
    a second one."""
    content = f"{purpose}\x1f{payment_id:032x}\x1f{number}"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=16).digest(), "big")


def pack_verdict(payment_id: int, legs: int, analyst: bytes, *, release: bool, first_id: int = 0) -> bytes:
    """All legs of a held payment posted, or all voided; the narrative says by whom. analyst: at most 20 bytes;
    first_id: of the first leg, 0 = the payment's own."""
    ends = [(leg_id(payment_id, VERDICT_LEG + number), leg_id(payment_id, number)) for number in range(legs)]
    ends[0] = (ends[0][0], first_id or ends[0][1])
    return _pack_ends(ends, payment_id, analyst, release=release)


def pack_chain_verdict(ids: Sequence[int], analyst: bytes, *, release: bool) -> bytes:
    """The same of raw transfers that were held together. Each verdict's id follows from its transfer's own."""
    return _pack_ends([(leg_id(number, VERDICT_LEG), number) for number in ids], ids[0], analyst, release=release)


def _pack_ends(ends: Sequence[tuple[int, int]], group_id: int, analyst: bytes, *, release: bool) -> bytes:
    """ends: own id and pending id of each."""
    group_lo, group_hi = split_id(group_id)
    narrative = (b"release:" if release else b"refuse:") + analyst
    end = int(TransferFlag.POST if release else TransferFlag.VOID)
    packed = []
    for number, (own_id, pending_id) in enumerate(ends):
        (id_lo, id_hi), (pending_lo, pending_hi) = split_id(own_id), split_id(pending_id)
        flags = end | (int(TransferFlag.LINKED) if number + 1 < len(ends) else 0)
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
        decided.fee.excise_minor, decided.content_hash, first_transfer, decided.terms.kind, legs, decided.status,
        decided.decision, decided.pin_verdict, decided.score_ppm, decided.model_version, *reasons, decided.terms.signer,
        decided.tariff_version, parties.ledger, decided.reference, decided.thresholds_version,
    )  # fmt: skip
