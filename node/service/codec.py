"""Friendly protobuf messages <-> packed records, once, at the leader."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kibubu.ledger.v1 import ledger_pb2

from node.ledger.records import OutcomeFlag, Records
from node.ledger.statuses import Status
from node.service.errors import InvalidRequestError
from node.service.limits import NARRATIVE_BYTES_MAX
from node.storage.replies import StoredTransfer

_TRANSFER = struct.Struct("<QQQQqQQQQQIIHHI32s")  # the layout of records.TRANSFER
_WORD_MAX = (1 << 64) - 1
_STATUS_NAMES = {status.value: status.name.lower() for status in Status}
NOT_FOUND = 65_535  # in TransferResult.status: no transfer has this id


def id_from_bytes(raw: bytes, field: str, *, may_be_empty: bool = False) -> int:
    """A 128-bit id out of its 16 big-endian bytes; raises InvalidRequestError."""
    if not raw and may_be_empty:
        return 0
    if len(raw) != 16:
        raise InvalidRequestError(f"{field}: must be 16 bytes, is {len(raw)}")
    return int.from_bytes(raw, "big")


def pack_transfers(transfers: Sequence[ledger_pb2.Transfer]) -> bytes:
    return b"".join([_pack_transfer(transfer, f"transfers[{i}]") for i, transfer in enumerate(transfers)])


def _pack_transfer(transfer: ledger_pb2.Transfer, field: str) -> bytes:
    transfer_id = id_from_bytes(transfer.id, f"{field}.id")
    pending_id = id_from_bytes(transfer.pending_id, f"{field}.pending_id", may_be_empty=True)
    group_id = id_from_bytes(transfer.group_id, f"{field}.group_id", may_be_empty=True)
    narrative = transfer.narrative.encode()
    if len(narrative) > NARRATIVE_BYTES_MAX:
        raise InvalidRequestError(f"{field}.narrative: at most {NARRATIVE_BYTES_MAX} bytes, is {len(narrative)}")
    for name, value in (("code", transfer.code), ("flags", transfer.flags)):
        if value > 0xFFFF:
            raise InvalidRequestError(f"{field}.{name}: at most 65535, is {value}")
    return _TRANSFER.pack(
        transfer_id & _WORD_MAX,
        transfer_id >> 64,
        transfer.debit_account,
        transfer.credit_account,
        transfer.amount_minor,
        pending_id & _WORD_MAX,
        pending_id >> 64,
        group_id & _WORD_MAX,
        group_id >> 64,
        transfer.reference,
        transfer.timeout_s,
        transfer.ledger,
        transfer.code,
        transfer.flags,
        0,
        narrative,
    )


def _id_bytes(low: int, high: int) -> bytes:
    return b"" if not (low or high) else (int(high) << 64 | int(low)).to_bytes(16, "big")


def transfer_message(record: Records) -> ledger_pb2.Transfer:
    """One stored record (a 0-d row) as a message."""
    return ledger_pb2.Transfer(
        id=_id_bytes(int(record["id_lo"]), int(record["id_hi"])),
        debit_account=int(record["debit_account"]),
        credit_account=int(record["credit_account"]),
        amount_minor=int(record["amount_minor"]),
        pending_id=_id_bytes(int(record["pending_id_lo"]), int(record["pending_id_hi"])),
        group_id=_id_bytes(int(record["group_id_lo"]), int(record["group_id_hi"])),
        reference=int(record["reference"]),
        timeout_s=int(record["timeout_s"]),
        ledger=int(record["ledger"]),
        code=int(record["code"]),
        flags=int(record["flags"]),
        narrative=bytes(record["narrative"]).rstrip(b"\0").decode("utf-8", "replace"),
    )


def result_messages(replies: Records) -> list[ledger_pb2.TransferResult]:
    """Packed REPLY records as messages; columns are taken out whole, which is far quicker than row by row."""
    columns = [replies[name].tolist() for name in _REPLY_FIELDS]
    return [
        ledger_pb2.TransferResult(
            status=status,
            status_name=_STATUS_NAMES.get(status, "unknown"),
            duplicate=bool(flags & 1),
            offset=offset,
            position=position,
            timestamp_ns=timestamp_ns,
            debit_balance_minor=debit,
            debit_available_minor=debit_available,
            credit_balance_minor=credit,
            credit_available_minor=credit_available,
            term=term,
        )
        for (
            status,
            flags,
            offset,
            position,
            timestamp_ns,
            debit,
            debit_available,
            credit,
            credit_available,
            term,
        ) in zip(*columns, strict=True)
    ]


_REPLY_FIELDS = (
    "status",
    "flags",
    "offset",
    "position",
    "timestamp_ns",
    "debit_balance_minor",
    "debit_available_minor",
    "credit_balance_minor",
    "credit_available_minor",
    "term",
)


def told_status(outcome: Records) -> int:
    """Of one stored OUTCOME, as its reply has it."""
    return int(Status.HELD_FOR_REVIEW) if int(outcome["flags"]) & OutcomeFlag.HELD else int(outcome["status"])


def status_name(status: int) -> str:
    return _STATUS_NAMES.get(status, "unknown")


def stored_message(stored: StoredTransfer | None) -> ledger_pb2.StoredTransfer:
    if stored is None:
        return ledger_pb2.StoredTransfer(
            result=ledger_pb2.TransferResult(status=NOT_FOUND, status_name="transfer_not_found")
        )
    outcome, status = stored.outcome, told_status(stored.outcome)
    return ledger_pb2.StoredTransfer(
        transfer=transfer_message(stored.record),
        result=ledger_pb2.TransferResult(
            status=status,
            status_name=status_name(status),
            duplicate=bool(int(outcome["flags"]) & OutcomeFlag.DUPLICATE),
            position=stored.position,
            offset=stored.offset,
            timestamp_ns=stored.timestamp_ns,
            debit_balance_minor=int(outcome["debit_balance_minor"]),
            debit_available_minor=int(outcome["debit_available_minor"]),
            credit_balance_minor=int(outcome["credit_balance_minor"]),
            credit_available_minor=int(outcome["credit_available_minor"]),
        ),
    )
