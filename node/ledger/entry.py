"""One log entry: everything that waited at the leader, in one frame. Only ever extended.

    header, 64 bytes: magic u32 'KBE1', version u16, flags u16, timestamp_ns i64,
                      commands_bytes u32, payments u32, transfers u32, reserved ... zero
    commands   protobuf kibubu.raft.v1.Commands (accounts, handles, flags, PIN verifiers)
    payments   packed PAYMENT records
    transfers  packed TRANSFER records

Applied in this order: pending transfers whose time is up, commands, payments' PIN verdicts, transfers. The empty log
entry (b"") is a new leader's no-op and changes nothing but the position.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from node.ledger.records import BATCH_TRANSFERS_MAX, PAYMENT, TRANSFER, Records

MAGIC = 0x3145424B  # 'KBE1'
VERSION = 1
HEADER = struct.Struct("<IHHqIII36x")
COMMANDS_BYTES_MAX = 1 << 20
BATCH_PAYMENTS_MAX = 2_048
ENTRY_BYTES_MAX = HEADER.size + COMMANDS_BYTES_MAX + BATCH_PAYMENTS_MAX * 128 + BATCH_TRANSFERS_MAX * 128


class MalformedEntryError(Exception):
    """The frame breaks its own format: it was never written by a leader, so the node must stop."""


@dataclass(frozen=True, slots=True)
class Entry:
    timestamp_ns: int
    commands: bytes
    payments: Records
    transfers: Records


def encode_entry(
    timestamp_ns: int, *, commands: bytes = b"", payments: bytes = b"", transfers: bytes | memoryview = b""
) -> bytes:
    """Join packed sections into one frame; raises ValueError beyond a section's maximum."""
    n_payments, odd_payment = divmod(len(payments), PAYMENT.itemsize)
    n_transfers, odd_transfer = divmod(len(transfers), TRANSFER.itemsize)
    if odd_payment or odd_transfer:
        raise ValueError("packed records must be whole")
    if len(commands) > COMMANDS_BYTES_MAX or n_payments > BATCH_PAYMENTS_MAX or n_transfers > BATCH_TRANSFERS_MAX:
        raise ValueError("entry is over a section's maximum")
    header = HEADER.pack(MAGIC, VERSION, 0, timestamp_ns, len(commands), n_payments, n_transfers)
    return b"".join((header, commands, payments, transfers))


def decode_entry(data: bytes | memoryview) -> Entry:
    """View a frame's sections without copying the records. Raises MalformedEntryError."""
    if len(data) < HEADER.size:
        raise MalformedEntryError(f"entry of {len(data)} bytes is shorter than its header")
    magic, version, flags, timestamp_ns, commands_bytes, n_payments, n_transfers = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or flags:
        raise MalformedEntryError(f"entry has magic {magic:#x}, version {version}, flags {flags}")
    if commands_bytes > COMMANDS_BYTES_MAX or n_payments > BATCH_PAYMENTS_MAX or n_transfers > BATCH_TRANSFERS_MAX:
        raise MalformedEntryError("entry is over a section's maximum: a reference could not name every transfer")
    payments_at = HEADER.size + commands_bytes
    transfers_at = payments_at + n_payments * PAYMENT.itemsize
    if len(data) != transfers_at + n_transfers * TRANSFER.itemsize:
        raise MalformedEntryError(f"entry of {len(data)} bytes does not fit its section lengths")
    return Entry(
        timestamp_ns=timestamp_ns,
        commands=bytes(data[HEADER.size : payments_at]),
        payments=np.frombuffer(data, PAYMENT, n_payments, payments_at),
        transfers=np.frombuffer(data, TRANSFER, n_transfers, transfers_at),
    )
