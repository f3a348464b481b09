"""What clients ask for, as the public API's messages: the accounts of a run, and each planned operation as calls."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kibubu.config.v1 import config_pb2
from kibubu.ledger.v1 import ledger_pb2
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import AccountFlag, AccountKind
from node.ledger.records import REPLY, TransferFlag
from tests.simulation.book import DAY_LIMIT_MINOR, UTC_OFFSET_S
from tests.simulation.plan import Op

KES = 404
PIN, WRONG_PIN = "2468", "8642"
OPENING_MINOR = 1_000_000
CUSTOMERS = tuple(f"25471200000{number}" for number in range(1, 5))
CODE = 1_001
TILL, PAYBILL = "123456", "888880"
_TRANSFER = struct.Struct("<QQQQqQQQQQIIHHI32s")
_LIMITED = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)


@dataclass(frozen=True, slots=True)
class Reply:
    """One transfer's outcome, whichever call it came from."""

    status: int
    duplicate: bool
    position: int
    offset: int
    debit_balance_minor: int
    credit_balance_minor: int


@dataclass(eq=False)
class Record:
    """One write or read of a client: what it asked, and what it knows."""

    name: str
    method: str
    request: Any
    ids: tuple[int, ...] = ()  # of transfers
    payment_id: int = 0
    is_reuse: bool = False  # of an id that is known to stand for something else
    floor: int = 0  # the highest position that anybody had been told when this was first asked
    state: str = "open"  # then ok, failed (surely not applied) or unknown
    maybe_applied: bool = False
    replies: list[Reply] = field(default_factory=list)
    response: Any = None


def pack(
    number: int, debit: int, credit: int, amount_minor: int, *, flags: int = 0, pending_id: int = 0, timeout_s: int = 0
) -> bytes:
    word = (1 << 64) - 1
    return _TRANSFER.pack(
        number & word, number >> 64, debit, credit, amount_minor, pending_id & word, pending_id >> 64, 0, 0, 0,
        timeout_s, 0 if pending_id else KES, CODE, flags, 0, b"",
    )  # fmt: skip


def tiers_request() -> config_pb2.PutDocumentRequest:
    """A limit that some payments of a run break."""
    body = (
        f'[[tier]]\nnumber = 1\nname = "customers"\ncurrency = "KES"\nutc_offset_minutes = {UTC_OFFSET_S // 60}\n'
        f"day = {DAY_LIMIT_MINOR // 100}\n"
    )
    return config_pb2.PutDocumentRequest(
        request_id=(1_000).to_bytes(16, "big"), kind="tiers", body=body.encode(), author="the simulator"
    )


def accounts_request() -> ledger_pb2.CreateAccountsRequest:
    system = [
        ("system", "KES/issuance", AccountKind.ISSUANCE, 0),
        ("system", "KES/fees", AccountKind.FEE_REVENUE, _LIMITED),
        ("system", "KES/excise", AccountKind.EXCISE_DUTY, _LIMITED),
        ("system", "KES/airtime", AccountKind.AIRTIME, _LIMITED),
        ("till", TILL, AccountKind.TILL, _LIMITED),
        ("paybill", PAYBILL, AccountKind.PAYBILL, _LIMITED),
    ]
    people = [("msisdn", msisdn, AccountKind.CUSTOMER, _LIMITED) for msisdn in CUSTOMERS]
    return ledger_pb2.CreateAccountsRequest(
        accounts=[
            ledger_pb2.NewAccount(
                request_id=(number + 1).to_bytes(16, "big"),
                ledger=KES,
                kind=kind,
                flags=flags,
                name=value,
                handles=[ledger_pb2.Handle(key=key, value=value, ledger=KES)],
                pin=PIN if key == "msisdn" else "",
                tier=1 if key == "msisdn" else 0,
            )
            for number, (key, value, kind, flags) in enumerate(system + people)
        ]
    )


def packed_request(transfers: Sequence[bytes]) -> ledger_pb2.CreateTransfersPackedRequest:
    return ledger_pb2.CreateTransfersPackedRequest(transfers=b"".join(transfers))


def friendly_request(packed: bytes) -> ledger_pb2.CreateTransfersRequest:
    """The same transfers as messages, for the other call."""
    messages = []
    for fields in _TRANSFER.iter_unpack(packed):
        lo, hi, debit, credit, amount, p_lo, p_hi, _, _, _, timeout_s, ledger, code, flags, _, _ = fields
        pending = p_hi << 64 | p_lo
        messages.append(
            ledger_pb2.Transfer(
                id=(hi << 64 | lo).to_bytes(16, "big"),
                debit_account=debit,
                credit_account=credit,
                amount_minor=amount,
                pending_id=pending.to_bytes(16, "big") if pending else b"",
                timeout_s=timeout_s,
                ledger=ledger,
                code=code,
                flags=flags,
            )
        )
    return ledger_pb2.CreateTransfersRequest(transfers=messages)


def write(name: str, transfers: Sequence[bytes], *, friendly: bool = False, is_reuse: bool = False) -> Record:
    ids = tuple(int.from_bytes(part[8:16], "little") << 64 | int.from_bytes(part[:8], "little") for part in transfers)
    request: Any = packed_request(transfers)
    if friendly:
        return Record(name, "CreateTransfers", friendly_request(request.transfers), ids, is_reuse=is_reuse)
    return Record(name, "CreateTransfersPacked", request, ids, is_reuse=is_reuse)


def replies_in(response: Any) -> list[Reply]:
    """Of CreateTransfersPacked or CreateTransfers."""
    if isinstance(response, ledger_pb2.CreateTransfersResponse):
        return [
            Reply(r.status, r.duplicate, r.position, r.offset, r.debit_balance_minor, r.credit_balance_minor)
            for r in response.results
        ]
    return replies_of(np.frombuffer(response.replies, REPLY))


def replies_of(records: Any) -> list[Reply]:
    return [
        Reply(status, bool(flags & 1), position, offset, debit, credit)
        for status, flags, offset, position, _, debit, _, credit, _, _ in records.tolist()
    ]


def transfer_id(op: Op, part: int = 0) -> int:
    return (op.number + 1) << 64 | (part + 1)


def bundle(op: Op, debit: int, credit: int) -> list[bytes]:
    """Two to five transfers to and fro, linked into one chain or not."""
    count = 2 + int(op.choice * 4)
    linked = int(TransferFlag.LINKED) if op.choice * 10 % 1 < 0.5 else 0
    return [
        pack(
            transfer_id(op, part), *((debit, credit) if part % 2 == 0 else (credit, debit)),
            op.amount_minor // (part + 1) + 1, flags=linked if part + 1 < count else 0,
        )
        for part in range(count)
    ]  # fmt: skip


def payment(op: Op) -> Record:
    kinds = (
        (payments_pb2.PAYMENT_KIND_SEND_MONEY, CUSTOMERS[op.credit], ""),
        (payments_pb2.PAYMENT_KIND_PAY_TILL, TILL, ""),
        (payments_pb2.PAYMENT_KIND_PAY_BILL, PAYBILL, "ACC 7"),
        (payments_pb2.PAYMENT_KIND_BUY_AIRTIME, CUSTOMERS[op.credit], ""),
    )
    kind, payee, reference = kinds[int(op.choice * 4)]
    number = transfer_id(op)
    request = payments_pb2.MakePaymentRequest(
        payment=payments_pb2.Payment(
            payment_id=number.to_bytes(16, "big"),
            kind=kind,
            payer_msisdn=CUSTOMERS[op.debit],
            payee=payee,
            amount_minor=op.amount_minor,
            currency="KES",
            reference=reference,
        ),
        pin=WRONG_PIN if op.choice * 40 % 1 < 0.08 else PIN,
    )
    return Record(f"op {op.number} pay", "MakePayment", request, payment_id=number)


def lookup(ids: Sequence[int]) -> ledger_pb2.LookupTransfersRequest:
    return ledger_pb2.LookupTransfersRequest(ids=[number.to_bytes(16, "big") for number in ids])
