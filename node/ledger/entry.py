"""One log entry: everything that waited at the leader, in one frame. Only ever extended.

    header, 64 bytes: magic u32 'KBE1', version u16, flags u16 (HeaderFlag), timestamp_ns i64,
                      commands_bytes u32, payments u32, transfers u32, model_version u32,
                      thresholds_version u32, reserved ... zero
    commands   protobuf kibubu.raft.v1.Commands (accounts, handles, flags, PIN verifiers)
    payments   packed PAYMENT records
    transfers  packed TRANSFER records

Applied in this order: pending transfers whose time is up, commands, payments' PIN verdicts, transfers. The empty log
entry (b"") is a new leader's no-op and changes nothing but the position.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from node.ledger.records import BATCH_TRANSFERS_MAX, PAYMENT, TRANSFER, Records

MAGIC = 0x3145424B  # 'KBE1'
VERSION = 1
HEADER = struct.Struct("<IHHqIIIII28x")
COMMANDS_BYTES_MAX = 1 << 20
BATCH_PAYMENTS_MAX = 2_048
ENTRY_BYTES_MAX = HEADER.size + COMMANDS_BYTES_MAX + BATCH_PAYMENTS_MAX * 128 + BATCH_TRANSFERS_MAX * 128


class HeaderFlag(IntFlag):
    SCORED = 1  # the transfers' `scoring` words are the leader's; without it they are the clients', and must be zero


_FLAGS_KNOWN = int(HeaderFlag.SCORED)


class MalformedEntryError(Exception):
    """The frame breaks its own format: it was never written by a leader, so the node must stop."""


@dataclass(frozen=True, slots=True)
class Entry:
    timestamp_ns: int
    commands: bytes
    payments: Records
    transfers: Records
    scored: bool = False  # HeaderFlag.SCORED
    model_version: int = 0  # of the model that scored the transfers, 0 = none did
    thresholds_version: int = 0  # of the document whose costs decided, 0 = the model's card


def encode_entry(
    timestamp_ns: int,
    *,
    commands: bytes = b"",
    payments: bytes = b"",
    transfers: bytes | memoryview = b"",
    scored: bool = False,
    model_version: int = 0,
    thresholds_version: int = 0,
) -> bytes:
    """Join packed sections into one frame; raises ValueError beyond a section's maximum."""
    n_payments, odd_payment = divmod(len(payments), PAYMENT.itemsize)
    n_transfers, odd_transfer = divmod(len(transfers), TRANSFER.itemsize)
    if odd_payment or odd_transfer:
        raise ValueError("packed records must be whole")
    if len(commands) > COMMANDS_BYTES_MAX or n_payments > BATCH_PAYMENTS_MAX or n_transfers > BATCH_TRANSFERS_MAX:
        raise ValueError("entry is over a section's maximum")
    flags, by = (int(HeaderFlag.SCORED), (model_version, thresholds_version)) if scored else (0, (0, 0))
    header = HEADER.pack(MAGIC, VERSION, flags, timestamp_ns, len(commands), n_payments, n_transfers, *by)
    return b"".join((header, commands, payments, transfers))


def decode_entry(data: bytes | memoryview) -> Entry:
    """View a frame's sections without copying the records. Raises MalformedEntryError."""
    if len(data) < HEADER.size:
        raise MalformedEntryError(f"entry of {len(data)} bytes is shorter than its header")
    magic, version, flags, timestamp_ns, commands_bytes, n_payments, n_transfers, *by = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or flags & ~_FLAGS_KNOWN:
        raise MalformedEntryError(f"entry has magic {magic:#x}, version {version}, flags {flags}")
    if any(by) and not flags & HeaderFlag.SCORED:
        raise MalformedEntryError(f"entry names model {by[0]:#x} and thresholds {by[1]}, but was not scored")
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
        scored=bool(flags & HeaderFlag.SCORED),
        model_version=by[0],
        thresholds_version=by[1],
    )
