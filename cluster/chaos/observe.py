"""Reads what every node has after an ordeal, through public calls alone: its exported log and the final balances.

The log is decoded here by its published form, and its hash chain is computed again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
from blake3 import blake3
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.calls import Caller, CallError
from cluster.chaos.checker import EXPIRED, LOGGED
from cluster.chaos.checker.model import FRAUD_HOLDS, HELD_FOR_REVIEW, PENDING
from cluster.chaos.checker.records import BALANCES, CONTENT, Records
from cluster.health import node_status
from cluster.layout import Layout
from cluster.vocabulary import DEBITS_MUST_NOT_EXCEED_CREDITS, STATUS_NOT_FOUND
from kibubu_client.records import DUPLICATE, HELD, TRANSFER

_PAGE = 1_000
_EXPORT_TIMEOUT_S = 600.0
_HEADER = struct.Struct("<IHHqIIIII28x")  # magic, version, flags, time, command bytes, payments, transfers, scored by
_PAYMENT_BYTES = 128
_SCORED = 1  # of the header's flags: the transfers' scoring words are the leader's
_DECISION_MASK = 0xF
_PROBLEMS_MAX = 5
OUTCOME = np.dtype(
    [
        ("status", "<u2"),
        ("flags", "<u2"),
        ("reserved", "<u4"),
        ("debit_balance_minor", "<i8"),
        ("debit_available_minor", "<i8"),
        ("credit_balance_minor", "<i8"),
        ("credit_available_minor", "<i8"),
        ("debit_previous", "<u8"),
        ("credit_previous", "<u8"),
        ("original", "<u8"),
    ]
)
Stub = ledger_pb2_grpc.LedgerServiceStub


@dataclass(slots=True)
class NodeLog:
    """`repeats`: transfers that had been decided before; their place is that of the repetition."""

    log: Records
    repeats: Records
    expired: Records
    problems: list[str] = field(default_factory=list)


def read_logs(caller: Caller, layout: Layout, problems: list[str], ballast: Sequence[int] = ()) -> dict[str, NodeLog]:
    """Of every node that answers; one that does not is a problem. Transfers between two accounts of the ballast are
    left out, but the hash chain has them."""
    aside = np.array(sorted(ballast), dtype=np.uint64)
    states = [node_status(caller, address) for address in layout.api_addresses]
    upto = max((state.applied_position for state in states if state), default=0)  # time-outs go on meanwhile
    logs = {}
    for node_id in layout.node_ids:
        try:
            logs[node_id] = _read_log(caller, layout.api_address(node_id), aside, upto)
        except (CallError, grpc.RpcError) as error:
            problems.append(f"{node_id}: its log cannot be read ({error})")
            continue
        problems += [f"{node_id}: {problem}" for problem in logs[node_id].problems]
    return logs


def _read_log(caller: Caller, address: str, aside: Records, upto: int) -> NodeLog:
    stub = admin_pb2_grpc.AdminServiceStub(caller.channel(address))
    chain, position, parts = bytes(32), 0, []
    expired: list[tuple[int, int, int, int]] = []
    found = NodeLog(np.zeros(0, LOGGED), np.zeros(0, LOGGED), np.zeros(0, EXPIRED))
    for page in stub.ExportLog(admin_pb2.ExportLogRequest(to_position=upto), timeout=_EXPORT_TIMEOUT_S):
        for entry in page.entries:
            position += 1
            chain = _chain(chain, entry)
            if (entry.position, entry.chain_hash) != (position, chain) and len(found.problems) < _PROBLEMS_MAX:
                found.problems.append(f"position {entry.position}: the hash chain is broken, or entries are missing")
            parts.append(_rows(entry, aside))
            expired += [(entry.position, entry.timestamp_ns, ref >> 16, ref & 0xFFFF) for ref in entry.expired]
    found.expired = np.array(expired, EXPIRED)
    if parts:
        rows = np.concatenate([rows for rows, _ in parts])
        is_repeat = np.concatenate([flags for _, flags in parts])
        found.log, found.repeats = rows[~is_repeat], rows[is_repeat]
    return found


def _chain(previous: bytes, entry: admin_pb2.ExportedEntry) -> bytes:
    digest = blake3(previous)
    digest.update(entry.position.to_bytes(8, "little") + entry.timestamp_ns.to_bytes(8, "little", signed=True))
    digest.update(entry.entry + entry.outcomes)
    digest.update(np.array(entry.expired, "<u8").tobytes())
    return digest.digest()


def _rows(entry: admin_pb2.ExportedEntry, aside: Records) -> tuple[Records, Records]:
    """The entry's transfers with their outcomes, and which of them are repetitions."""
    if not entry.entry:
        return np.zeros(0, LOGGED), np.zeros(0, bool)
    _, _, header_flags, _, command_bytes, payments, count, *_ = _HEADER.unpack_from(entry.entry)
    begin = _HEADER.size + command_bytes + payments * _PAYMENT_BYTES
    sent = np.frombuffer(entry.entry, TRANSFER, count, begin)
    outcomes = np.frombuffer(entry.outcomes, OUTCOME)
    rows = np.zeros(count, LOGGED)
    for name in ("id_hi", "id_lo", *CONTENT):
        rows[name] = sent[name]
    for name in ("status", *BALANCES):
        rows[name] = outcomes[name]
    rows["position"], rows["timestamp_ns"] = entry.position, entry.timestamp_ns
    rows["offset"] = np.arange(count)
    rows["status"][outcomes["flags"] & HELD != 0] = HELD_FOR_REVIEW  # as the replies have it
    if header_flags & _SCORED:
        _take_out_decisions(rows, sent["scoring"] & _DECISION_MASK)
    is_repeat = (outcomes["flags"] & DUPLICATE) != 0
    if len(aside):
        kept = ~(np.isin(rows["debit_account"], aside) & np.isin(rows["credit_account"], aside))
        return rows[kept], is_repeat[kept]
    return rows, is_repeat


def _take_out_decisions(rows: Records, decisions: Records) -> None:
    """What the leader wrote of the fraud check, apart from what the client sent."""
    rows["decision"] = decisions
    held = np.isin(decisions, FRAUD_HOLDS)
    rows["flags"][held] &= ~np.uint16(PENDING)
    rows["timeout_s"][held] = 0


@dataclass(frozen=True, slots=True)
class Balances:
    minor: dict[int, int]  # of every account
    guarded: frozenset[int]  # accounts whose debits must not exceed their credits


def read_balances(caller: Caller, accounts_total: int) -> Balances:
    """Linearizable."""
    minor: dict[int, int] = {}
    guarded = set()
    for first in range(1, accounts_total + 1, _PAGE):
        numbers = list(range(first, min(first + _PAGE, accounts_total + 1)))
        found = caller.leader(
            lambda c: Stub(c).LookupAccounts, ledger_pb2.LookupAccountsRequest(account_numbers=numbers)
        )
        for account in found.accounts:
            minor[account.account_number] = account.balance_minor
            if account.flags & DEBITS_MUST_NOT_EXCEED_CREDITS:
                guarded.add(account.account_number)
    return Balances(minor, frozenset(guarded))


def resolve(caller: Caller, ids: Sequence[int]) -> int:
    """Asks the leader for every id whose outcome is open; returns how many were applied after all."""
    applied = 0
    for at in range(0, len(ids), _PAGE):
        request = ledger_pb2.LookupTransfersRequest(ids=[number.to_bytes(16, "big") for number in ids[at : at + _PAGE]])
        found = caller.leader(lambda c: Stub(c).LookupTransfers, request)
        applied += sum(one.result.status != STATUS_NOT_FOUND for one in found.transfers)
    return applied
