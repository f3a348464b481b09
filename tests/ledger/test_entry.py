"""The frame of a log entry: what goes in comes out, and what does not fit is refused whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.entry import (
    BATCH_PAYMENTS_MAX,
    COMMANDS_BYTES_MAX,
    HEADER,
    MalformedEntryError,
    decode_entry,
    encode_entry,
)
from node.ledger.records import BATCH_TRANSFERS_MAX, PAYMENT, TRANSFER

ENTRY = encode_entry(7, commands=b"abc", payments=bytes(128), transfers=bytes(range(128)) * 2)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=50), st.integers(0, 3), st.integers(0, 3), st.randoms())
def test_round_trip(timestamp_ns: int, commands: bytes, payments: int, transfers: int, chance: object) -> None:
    packed = chance.randbytes((payments + transfers) * 128)  # type: ignore[attr-defined]
    at = payments * PAYMENT.itemsize
    data = encode_entry(timestamp_ns, commands=commands, payments=packed[:at], transfers=packed[at:])
    entry = decode_entry(data)
    assert (entry.timestamp_ns, entry.commands) == (timestamp_ns, commands)
    assert entry.payments.tobytes() + entry.transfers.tobytes() == packed
    assert decode_entry(memoryview(data)).transfers.tobytes() == packed[at:]


def test_every_truncation_and_extension_is_refused() -> None:
    assert len(decode_entry(ENTRY).transfers) == 2
    for length in range(len(ENTRY)):
        with pytest.raises(MalformedEntryError):
            decode_entry(ENTRY[:length])
    with pytest.raises(MalformedEntryError, match="section lengths"):
        decode_entry(ENTRY + b"\0")


def test_the_header_says_whether_the_transfers_are_scored_and_by_which_model() -> None:
    plain, scored = (
        decode_entry(ENTRY),
        decode_entry(encode_entry(7, scored=True, model_version=0xDEADBEEF, thresholds_version=3)),
    )
    assert (plain.scored, plain.model_version, plain.thresholds_version) == (False, 0, 0)
    assert (scored.scored, scored.model_version, scored.thresholds_version) == (True, 0xDEADBEEF, 3)
    before = bytearray(encode_entry(7, model_version=0xDEADBEEF, thresholds_version=3))
    assert before[28:64] == bytes(36), "an entry that is not scored has the bytes that it always had"
    for at in (28, 32):
        spoiled = bytearray(before)
        spoiled[at] = 1
        with pytest.raises(MalformedEntryError, match="was not scored"):
            decode_entry(bytes(spoiled))


@pytest.mark.parametrize("at", range(8))
def test_another_magic_version_or_flag_is_refused(at: int) -> None:
    damaged = bytearray(ENTRY)
    damaged[at] ^= 0x80
    with pytest.raises(MalformedEntryError, match="magic"):
        decode_entry(bytes(damaged))


@pytest.mark.parametrize(
    ("commands", "payments", "transfers"),
    [(COMMANDS_BYTES_MAX, 0, 0), (0, BATCH_PAYMENTS_MAX, 0), (0, 0, BATCH_TRANSFERS_MAX)],
)
def test_each_section_has_a_maximum(commands: int, payments: int, transfers: int) -> None:
    sections = {
        "commands": commands,
        "payments": payments * PAYMENT.itemsize,
        "transfers": transfers * TRANSFER.itemsize,
    }
    largest = encode_entry(1, **{name: bytes(size) for name, size in sections.items()})
    assert len(decode_entry(largest).transfers) == transfers
    one_more = {name: size + (128 if size else 0) for name, size in sections.items()}
    with pytest.raises(ValueError, match="maximum"):
        encode_entry(1, **{name: bytes(size) for name, size in one_more.items()})
    header = HEADER.pack(
        0x3145424B, 1, 0, 1, one_more["commands"], payments + (payments > 0), transfers + (transfers > 0), 0, 0
    )
    with pytest.raises(MalformedEntryError, match="maximum"):
        decode_entry(header + bytes(sum(one_more.values())))


def test_half_a_record_is_refused() -> None:
    for section in ("payments", "transfers"):
        with pytest.raises(ValueError, match="whole"):
            encode_entry(1, **{section: bytes(127)})  # type: ignore[arg-type]
